//! ICMP errors about connections: which one, which of its ends has to hear of it, and in which words.
//!
//! An error quotes the packet that caused it. Where that is a packet as it left the balancer, it is translated back, so that
//! the end that sent it knows it again (RFC 5508 section 4.2). Errors about a tunnel to a backend become errors about what
//! is inside (RFC 2003 section 4; RFC 2473 section 8); those about a packet that L3DSR readdressed become errors about the packet
//! as the client sent it. They neither keep a connection alive nor change its state: anybody
//! can forge them (RFC 5927).

use super::complain::{self, Complaint};
use super::parse::Tables;
use super::{Context, Shared, forward, punt, translate, tunnel};
use crate::conn::{Direction, Entry, Table};
use crate::flow::{FIRST_PROBE_PORT, FlowKey, V4Key};
use crate::neighbor::Slot;
use crate::packet::Packet;
use crate::rewrite::{self, L3, Rewrite};
use crate::tunnel::{TunnelEnd, Way, inner_offset};
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::quote::{Quote, Unusable};
use crate::wire::{icmp, ipv4, ipv6, protocol};
use std::net::IpAddr;

/// RFC 791: "every internet module must be able to forward a datagram of 68 octets".
const LEAST_V4_MTU: usize = 68;

/// The error itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hops: u8,
    pub(super) kind: u8,
    pub(super) code: u8,
    /// The second word.
    pub(super) rest: u32,
    /// Where in the frame, and how long.
    pub(super) l4: usize,
    pub(super) len: usize,
}

/// Handles the error at `l4` of a frame, `len` bytes long.
#[cold]
#[inline(never)]
pub(super) fn receive<P: Packet>(
    tables: Tables<'_>,
    shared: &mut Shared,
    arrival: Context<'_>,
    (l4, len): (usize, usize),
    packet: &mut P,
) -> Verdict {
    let verdict = decide(tables, shared, arrival, (l4, len), packet).unwrap_or_else(Verdict::Drop);
    if matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) {
        shared.counters.icmp_errors.add(1);
    }
    verdict
}

fn decide<P: Packet>(
    tables: Tables<'_>,
    shared: &mut Shared,
    arrival: Context<'_>,
    (l4, len): (usize, usize),
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let message = Message::read(packet.data(), l4, len)?;
    if message.destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    if matches!(message.destination, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(DropReason::IcmpUnrelated);
    }
    let body = &packet.data()[l4 + icmp::LEN..l4 + len];
    let quote = Quote::parse(body).map_err(|unusable| match unusable {
        Unusable::Malformed => DropReason::IcmpMalformed,
        Unusable::Truncated => DropReason::IcmpErrorTruncated,
        Unusable::Fragment => DropReason::IcmpFragment,
    })?;
    // RFC 1122 section 3.2.2: an error goes to the source of what it quotes.
    if quote.source != message.destination {
        return Err(DropReason::IcmpUnrelated);
    }
    let owned = arrival.snapshot.owns(quote.source);
    let tunnelled = owned && arrival.snapshot.is_tunnel_end(TunnelEnd::of(&quote));
    if owned && !tunnelled && is_about_probe(&quote) {
        return Ok(Verdict::Deliver);
    }
    // Whoever handed it over has looked already.
    if !arrival.handed && !message.is_intact(packet.data()) {
        return Err(DropReason::IcmpErrorChecksum);
    }
    if tunnelled {
        let at = quote.l4 + inner_offset(quote.protocol, &body[quote.l4..]).ok_or(DropReason::TunnelError)?;
        let inner = body.get(at..).and_then(|inner| Quote::parse(inner).ok());
        let inner = inner.ok_or(DropReason::TunnelError)?;
        let outer = (TunnelEnd::of(&quote), at);
        return if inner.source.is_ipv4() {
            about_tunnel(tables.v4, shared, arrival, message, outer, &inner, packet)
        } else {
            about_tunnel(tables.v6, shared, arrival, message, outer, &inner, packet)
        };
    }
    match quote.protocol {
        protocol::TCP | protocol::UDP => {}
        // Perhaps one of the host's own.
        _ if quote.is_icmp() => {
            let ends = (message.source, quote.source);
            return Ok(punt::or_drop(arrival, ends, DropReason::IcmpErrorAboutIcmp));
        }
        _ => return Ok(punt::or_drop(arrival, (message.source, quote.source), DropReason::IcmpUnrelated)),
    }
    if quote.source.is_ipv4() && !is_across(tables.v4, arrival, &quote) {
        about_connection(tables.v4, shared, arrival, message, &quote, packet)
    } else {
        about_connection(tables.v6, shared, arrival, message, &quote, packet)
    }
}

impl Message {
    fn read(frame: &[u8], l4: usize, len: usize) -> Result<Self, DropReason> {
        let present = frame.get(l4..l4 + len).ok_or(DropReason::Truncated)?;
        let message = icmp::Icmp::parse(present).map_err(|_| DropReason::IcmpMalformed)?;
        let bytes = &frame[L3..];
        let (source, destination, hops) = if bytes[0] >> 4 == 4 {
            let ip = ipv4::Ipv4::parse(bytes, bytes.len()).map_err(DropReason::of_ip)?;
            (ip.source().into(), ip.destination().into(), ip.ttl())
        } else {
            let ip = ipv6::Ipv6::parse(bytes, bytes.len()).map_err(DropReason::of_ip)?;
            (IpAddr::from(ip.source()), ip.destination().into(), ip.hop_limit())
        };
        if source.is_multicast() || source.is_unspecified() || source.is_loopback() {
            return Err(DropReason::IpSource);
        }
        let (kind, code, rest) = (message.kind(), message.code(), message.rest());
        Ok(Self { source, destination, hops, kind, code, rest, l4, len })
    }

    /// The checksum of the message as it stands in `frame`: 0 if it is good.
    fn checksum(&self, frame: &[u8], (source, destination): (IpAddr, IpAddr)) -> u16 {
        let pseudo = match (source, destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Sum::default().pseudo_v6(source, destination, protocol::ICMPV6, self.len as u32)
            }
            _ => Sum::default(),
        };
        pseudo.bytes(&frame[self.l4..self.l4 + self.len]).checksum()
    }

    fn is_intact(&self, frame: &[u8]) -> bool {
        self.checksum(frame, (self.source, self.destination)) == 0
    }

    /// Makes the checksum right, for an error that now goes between these ends.
    fn seal(&self, frame: &mut [u8], ends: (IpAddr, IpAddr)) {
        let at = self.l4 + icmp::CHECKSUM;
        frame[at..at + 2].fill(0);
        let checksum = self.checksum(frame, ends);
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// Whether it says that a packet ran out of hops.
    fn is_time_exceeded(&self) -> bool {
        self.kind == if self.is_v6() { icmp::v6::TIME_EXCEEDED } else { icmp::v4::TIME_EXCEEDED }
    }

    /// What it says to whom the packet inside the tunnel came from, if that is `overhead` bytes shorter. RFC 2003 section 4
    /// and RFC 2473 section 8.2: everything that is not about size means that the packet did not arrive.
    fn about_inner(&self, overhead: usize) -> Option<Complaint> {
        let mtu = match (self.is_v6(), self.kind, self.code) {
            (false, icmp::v4::DESTINATION_UNREACHABLE, icmp::v4::code::FRAGMENTATION_NEEDED) => {
                usize::from(self.rest as u16)
            }
            (true, icmp::v6::PACKET_TOO_BIG, _) => self.rest as usize,
            // "Source Route Failed: MUST NOT be relayed"; nor is a header that we made badly the client's affair.
            (false, icmp::v4::DESTINATION_UNREACHABLE, icmp::v4::code::SOURCE_ROUTE_FAILED)
            | (false, icmp::v4::PARAMETER_PROBLEM, _)
            | (true, icmp::v6::PARAMETER_PROBLEM, _) => return None,
            _ => return Some(Complaint::Unreachable),
        };
        let mtu = mtu.checked_sub(overhead).filter(|&mtu| mtu >= LEAST_V4_MTU)?;
        Some(Complaint::TooBig(mtu.min(usize::from(u16::MAX)) as u16))
    }
}

impl TunnelEnd {
    /// Where a packet would go to if it were one of a tunnel.
    fn of(quote: &Quote) -> Self {
        let port = if quote.protocol == protocol::UDP { quote.ports.1 } else { 0 };
        Self { address: quote.destination, protocol: quote.protocol, port }
    }
}

/// Whether the quoted packet, which came from one of our own addresses, was sent by a health check.
fn is_about_probe(quote: &Quote) -> bool {
    match quote.protocol {
        protocol::TCP | protocol::UDP => quote.ports.0 >= FIRST_PROBE_PORT,
        _ => quote.is_icmp() && quote.identifier >= FIRST_PROBE_PORT,
    }
}

/// The connection that the packet with the key `quoted` belongs to, and which way the error goes. `None`: not here.
fn find<'a, K: Rewrite>(table: &'a Table<K>, quoted: &K) -> Option<(&'a Entry<K>, Direction)> {
    // What the balancer sends to one end is the reverse of what it receives from there.
    let received = quoted.reversed();
    if let Some(handle) = table.find(table.hash(&received), &received) {
        return Some((table.entry(handle.id()), handle.direction()));
    }
    // With dsr packets go to the backend as they came, and who complains tells the client.
    let handle = table.find(table.hash(quoted), quoted)?;
    let entry = table.entry(handle.id());
    entry.one_way.then_some((entry, Direction::Reply))
}

/// Whether a quoted IPv4 packet may belong to a connection between address families, which is in the other table.
fn is_across(table: &Table<V4Key>, arrival: Context<'_>, quote: &Quote) -> bool {
    let ends = ((quote.source, quote.ports.0), (quote.destination, quote.ports.1));
    arrival.snapshot.crosses(quote.source)
        && find(table, &V4Key::new(quote.protocol, ends.0, ends.1)).is_none()
}

/// Whose connection a quoted packet may belong to.
fn owner<K: FlowKey>(shared: &Shared, arrival: Context<'_>, quoted: &K) -> u8 {
    let (from, to) = (quoted.source(), quoted.destination());
    let service = |end: (IpAddr, u16)| {
        let index = arrival.snapshot.find_service(quoted.protocol(), end.0, end.1)?;
        arrival.snapshot.services().get(index).map(|service| service.mode)
    };
    if let Some(mode) = service(from) {
        // To a client.
        shared.steering.owner_of_request(mode, to, from)
    } else if let Some(mode) = service(to) {
        // From a client, as it came.
        shared.steering.owner_of_request(mode, from, to)
    } else if arrival.snapshot.is_local(from.0) && shared.steering.is_local_port(from.1) {
        // From a local end of full-nat to a backend.
        shared.steering.owner_of_local(to, from)
    } else {
        shared.steering.owner_of_answer(from)
    }
}

/// What becomes of an error about a packet that belongs to no connection of this worker.
fn elsewhere<K: FlowKey>(shared: &Shared, arrival: Context<'_>, message: Message, quoted: &K) -> Verdict {
    let owner = owner(shared, arrival, quoted);
    if arrival.handed || owner == shared.worker {
        // Perhaps a connection of the host's own.
        let ends = (message.source, quoted.source().0);
        punt::or_drop(arrival, ends, DropReason::IcmpUnrelated)
    } else {
        Verdict::HandOff(owner)
    }
}

/// An error about a packet of a connection, on its way between the balancer and one of the connection's ends (or, with
/// dsr, between the two).
fn about_connection<K: Rewrite, P: Packet>(
    table: &Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    message: Message,
    quote: &Quote,
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let from = (quote.source, quote.ports.0);
    let quoted = K::new(quote.protocol, from, (quote.destination, quote.ports.1));
    let Some((entry, way)) = find(table, &quoted) else {
        return match before_l3dsr(arrival, quote) {
            Some(asked) => about_readdressed(table, shared, arrival, message, quote, (quoted, asked), packet),
            None => Ok(elsewhere(shared, arrival, message, &quoted)),
        };
    };
    if message.hops <= 1 {
        return Err(DropReason::HopLimit);
    }
    if entry.one_way {
        return one_way(table, entry, way, shared, arrival, packet);
    }
    // As the end that is told has sent it.
    let original = entry.keys[1 - way as usize];
    let told = original.source().0;
    let slot = shared.neighbor_towards(arrival.snapshot, told)?;
    if entry.detour {
        let speaker = speaker(entry, way, arrival, message, shared.neighbors.get(slot).port);
        return translate::error(entry, way, shared, arrival, (message, quote), (speaker, slot), packet);
    }
    let speaker = speaker(entry, way, arrival, message, shared.neighbors.get(slot).port);
    tell(shared, message, quote, (quoted, original), (speaker, slot), packet)
}

/// Sends an error on: from `speaker`, by the next hop in `slot`, to the end that has sent `original`, which the error quotes
/// as `quoted`.
fn tell<K: Rewrite, P: Packet>(
    shared: &mut Shared,
    message: Message,
    quote: &Quote,
    (quoted, original): (K, K),
    (speaker, slot): (IpAddr, Slot),
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    if packet.frame_len() > usize::from(shared.neighbors.get(slot).max_frame) {
        // RFC 1122 section 3.2.2: no error about an error.
        return Err(DropReason::MtuExceeded);
    }
    let told = original.source().0;
    let frame = packet.data_mut();
    K::decrement_hop_limit(frame);
    K::readdress(&mut frame[L3..], &K::new(0, (speaker, 0), (told, 0)));
    let body = message.l4 + icmp::LEN..message.l4 + message.len;
    rewrite::requote(&mut frame[body], quote.l4, &quoted, &original);
    message.seal(frame, (speaker, told));
    Ok(forward::address(shared, slot, frame))
}

/// Who an error comes from, for the end that hears of it.
///
/// A backend sees the clients' side as it is, unless `full-nat` hides it. Clients see the service, also where the backend or
/// a router before it complains (RFC 5508 section 4.2, REQ-5): an address from inside may mean nothing to them, or be
/// filtered. Only a router that a packet ran out of hops at must not look like the service, or traceroute would end there:
/// it goes by the address of the port towards the client.
fn speaker<K: Rewrite>(
    entry: &Entry<K>,
    way: Direction,
    arrival: Context<'_>,
    message: Message,
    port: u8,
) -> IpAddr {
    let [client, service] = [entry.keys[0].source().0, entry.keys[0].destination().0];
    let [backend, local] = [entry.keys[1].source().0, entry.keys[1].destination().0];
    match way {
        Direction::Forward if local == client => message.source,
        Direction::Forward => local,
        Direction::Reply => speaker_for_client(service, backend, arrival, message, port),
    }
}

/// Likewise, for a client of `service` whose packets go to `backend`.
fn speaker_for_client(
    service: IpAddr,
    backend: IpAddr,
    arrival: Context<'_>,
    message: Message,
    port: u8,
) -> IpAddr {
    if message.source == backend || !message.is_time_exceeded() {
        return service;
    }
    let port = arrival.snapshot.ports().get(usize::from(port));
    let mut addresses = port.into_iter().flat_map(|port| &port.addresses).map(|own| own.address());
    addresses.find(|own| own.is_ipv6() == service.is_ipv6()).unwrap_or(service)
}

/// The packet that a client sent, if the quoted one is what L3DSR has made of it.
fn before_l3dsr<K: Rewrite>(arrival: Context<'_>, quote: &Quote) -> Option<K> {
    let vip = arrival.snapshot.before_l3dsr(quote.destination, quote.traffic_class >> 2)?;
    arrival.snapshot.find_service(quote.protocol, vip, quote.ports.1)?;
    Some(K::new(quote.protocol, (quote.source, quote.ports.0), (vip, quote.ports.1)))
}

/// An error about a packet on its way to a backend that L3DSR has readdressed: the client sent `asked`.
fn about_readdressed<K: Rewrite, P: Packet>(
    table: &Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    message: Message,
    quote: &Quote,
    (quoted, asked): (K, K),
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let Some(handle) = table.find(table.hash(&asked), &asked) else {
        return Ok(elsewhere(shared, arrival, message, &asked));
    };
    let way = arrival.snapshot.tunnel(table.entry(handle.id()).backend);
    if way.and_then(Way::readdressing).is_none_or(|way| way.backend() != quote.destination) {
        return Err(DropReason::IcmpUnrelated);
    }
    if message.hops <= 1 {
        return Err(DropReason::HopLimit);
    }
    let slot = shared.neighbor_towards(arrival.snapshot, quote.source)?;
    let port = shared.neighbors.get(slot).port;
    let speaker = speaker_for_client(asked.destination().0, quote.destination, arrival, message, port);
    tell(shared, message, quote, (quoted, asked), (speaker, slot), packet)
}

/// An error about a packet of a `dsr` connection: both ends know the packet as it is.
fn one_way<K: Rewrite, P: Packet>(
    table: &Table<K>,
    entry: &Entry<K>,
    way: Direction,
    shared: &mut Shared,
    arrival: Context<'_>,
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let (slot, tunnel) = if way == Direction::Forward {
        let backend = arrival.snapshot.backend(entry.backend).ok_or(DropReason::NoBackend)?;
        let slot = shared.neighbor_of_backend(arrival.snapshot, entry.backend, backend.address)?;
        (slot, arrival.snapshot.tunnel(entry.backend))
    } else {
        (shared.neighbor_towards(arrival.snapshot, entry.keys[0].source().0)?, None)
    };
    let len = match tunnel {
        Some(tunnel) => L3 + tunnel.overhead() + K::total_len(packet.data()),
        None => packet.frame_len(),
    };
    if len > usize::from(shared.neighbors.get(slot).max_frame) {
        return Err(DropReason::MtuExceeded);
    }
    if let Some(tunnel) = tunnel {
        let hash = table.hash(&entry.keys[0]);
        return Ok(tunnel::enter::<K, P>(shared, arrival, tunnel, slot, hash, packet));
    }
    K::decrement_hop_limit(packet.data_mut());
    Ok(forward::address(shared, slot, packet.data_mut()))
}

/// An error about a packet in the tunnel to `end`, of which `at` bytes are in front of the packet `inner`: becomes an error
/// about that, for the client that sent it.
fn about_tunnel<K: Rewrite, P: Packet>(
    table: &Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    message: Message,
    (end, at): (TunnelEnd, usize),
    inner: &Quote,
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let client = (inner.source, inner.ports.0);
    let key = K::new(inner.protocol, client, (inner.destination, inner.ports.1));
    let Some(handle) = table.find(table.hash(&key), &key) else {
        return Ok(elsewhere(shared, arrival, message, &key));
    };
    let backend = table.entry(handle.id()).backend;
    if arrival.snapshot.tunnel(backend).is_none_or(|tunnel| tunnel.end() != Some(end)) {
        return Err(DropReason::IcmpUnrelated);
    }
    let complaint = message.about_inner(at).ok_or(DropReason::TunnelError)?;
    let slot = shared.neighbor_towards(arrival.snapshot, inner.source)?;
    let quoted = message.len - icmp::LEN - at;
    // The packet is where it would be had it arrived by itself, as far as it was quoted.
    let cut = packet.trim_front(message.l4 + icmp::LEN + at - L3) && packet.set_len(L3 + quoted);
    let length = inner.total_len.min(quoted);
    let kind = cut
        .then(|| complain::compose(packet, length, complaint, inner.destination, inner.source))
        .flatten()
        .ok_or(DropReason::TunnelError)?;
    ethernet::emit(packet.data_mut(), Mac::default(), Mac::default(), kind)
        .map_err(|_| DropReason::Truncated)?;
    Ok(forward::address(shared, slot, packet.data_mut()))
}
