//! Connections between address families: `full-nat` whose backend is of another one than the VIP, by RFC 7915.
//!
//! Such a connection is in the IPv6 table. The key of its IPv4 side has IPv4-mapped addresses, as has every IPv4 packet that
//! is looked up there; nothing else may bear them. So it has one entry like any other, with one delta for the transport
//! checksum: a mapped address adds to the pseudo header what the IPv4 address does, and all else adds the same in both.
//!
//! An IPv4 packet that the IPv4 table does not know is looked up there only if it goes where such packets go
//! (`Snapshot::crosses`). What takes both tables to decide is put off until the burst has been through them: that, and every
//! local end as long as there are such services, for one local end towards a backend must not be in both.

use super::decide::{self, Across, Choice, Failure, Plan};
use super::icmp_error::Message;
use super::parse::Parsed;
use super::{Context, Shared, Verdicts, complain, forward, refuse};
use crate::conn::{Direction, Entry, Table};
use crate::flow::{FlowKey, V4Key, V6Key};
use crate::neighbor::Slot;
use crate::packet::Packet;
use crate::rewrite::{self, L3, Rewrite};
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac, ethertype};
use crate::wire::quote::Quote;
use crate::wire::translate::{Header, Problem, Sizes, Untranslatable, quoted_len};
use crate::wire::{be16, icmp, ipv4, ipv6, protocol, udp};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Bytes of an error, its IP header included: RFC 1812 section 4.3.2.3; RFC 4443 section 2.4 (c).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1280;

impl From<Untranslatable> for DropReason {
    fn from(error: Untranslatable) -> Self {
        match error {
            Untranslatable::Malformed(error) => Self::of_ip(error),
            Untranslatable::SourceRoute => Self::SourceRoute,
        }
    }
}

/// Keeps in mind a packet that takes both tables to decide.
#[cold]
pub(super) fn put_off<K: Rewrite>(shared: &mut Shared, parsed: &Parsed<K>) -> Verdict {
    let key = V6Key::new(parsed.key.protocol(), parsed.key.source(), parsed.key.destination());
    // A packet is in it once at most, so there is room.
    let _ = shared.later.try_push(parsed.with_key(key));
    // Until it is decided.
    Verdict::Drop(DropReason::NoConnection)
}

/// Decides for all packets of a burst that were put off, in their order.
#[cold]
#[inline(never)]
pub(super) fn settle<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    packets: &mut [P],
    verdicts: &mut Verdicts,
) {
    for one in std::mem::take(&mut shared.later) {
        let at = usize::from(one.at);
        let verdict = decided(v4, v6, shared, arrival, one, &mut packets[at]);
        verdicts[at] = finish(v4, v6, shared, arrival, verdict, &mut packets[at]);
    }
}

/// The verdict on a single packet, which is `verdict` unless that was put off.
pub(super) fn finish<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    mut verdict: Verdict,
    packet: &mut P,
) -> Verdict {
    // More than once if its connection is over and it makes a new one.
    while let Some(one) = shared.later.pop() {
        verdict = decided(v4, v6, shared, arrival, one, packet);
    }
    verdict
}

/// A packet that has no connection yet, as far as is known, or one between families.
fn decided<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    one: Parsed<V6Key>,
    packet: &mut P,
) -> Verdict {
    let wide = one.hashed(v6);
    if let Some(handle) = v6.find(wide.hash, &wide.key) {
        return forward::known(v6, shared, arrival, handle.id(), handle.direction(), &wide, packet);
    }
    let (source, destination) = (wide.key.source(), wide.key.destination());
    if source.0.is_ipv6() {
        return forward::single(v6, Some(v4), shared, arrival, &wide, packet);
    }
    let narrow = wide.with_key(V4Key::new(wide.key.protocol(), source, destination)).hashed(v4);
    if let Some(handle) = v4.find(narrow.hash, &narrow.key) {
        return forward::known(v4, shared, arrival, handle.id(), handle.direction(), &narrow, packet);
    }
    match decide::plan(v4, Some(v6), shared, arrival, &narrow) {
        Plan::Settled(verdict) => verdict,
        Plan::Refused(reason) => refuse::packet(shared, arrival, &narrow, packet, reason),
        Plan::Connect(mut proposal) => {
            decide::connect(v4, Some(v6), shared, arrival, &mut proposal, &narrow, packet)
        }
        // Not with both tables at hand.
        Plan::Later => Verdict::Drop(DropReason::NoConnection),
        Plan::Across(Across { service, backend, flow_hash }) => {
            let choice = Choice::Given(backend);
            match decide::propose(v6, Some(v4), shared, arrival, service, &wide, flow_hash, choice) {
                Ok(mut proposal) => {
                    decide::connect(v6, Some(v4), shared, arrival, &mut proposal, &wide, packet)
                }
                Err(Failure::Refused(reason)) => refuse::packet(shared, arrival, &narrow, packet, reason),
                Err(Failure::OtherFamily(_)) => Verdict::Drop(DropReason::NoBackend),
            }
        }
    }
}

/// Sends a packet of a connection between families, or a fragment, on its way to the next hop in `slot`.
#[inline(never)]
pub(super) fn pass<K: Rewrite, P: Packet>(
    entry: &Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    direction: Direction,
    slot: Slot,
    packet: &mut P,
) -> Verdict {
    let bytes = packet.frame_len() as u32;
    let verdict = leave(entry, shared, arrival, direction, slot, packet).unwrap_or_else(Verdict::Drop);
    if matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) {
        forward::count(&shared.counters, entry.backend, direction, bytes);
    }
    verdict
}

fn leave<K: Rewrite, P: Packet>(
    entry: &Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    direction: Direction,
    slot: Slot,
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let way = direction as usize;
    let to = entry.keys[1 - way].reversed();
    let ends = (to.source().0, to.destination().0);
    let header = Header::parse(packet.data().get(L3..).ok_or(DropReason::Truncated)?)?;
    let (before, after) = (L3 + header.len, L3 + header.len_in(ends.0.is_ipv6()));
    let most = usize::from(shared.neighbors.get(slot).max_frame);
    if after + header.payload > most {
        // As its sender sees it.
        let mtu = header.size_before(most.saturating_sub(L3)).min(usize::from(u16::MAX));
        let complaint = complain::Complaint::TooBig(mtu as u16);
        return Ok(complain::about(shared, arrival, DropReason::MtuExceeded, complaint, packet));
    }
    let first = header.part.is_none_or(|part| part.offset == 0);
    let udp = first && header.protocol == protocol::UDP;
    let unsummed = udp && {
        let field = before + udp::at::CHECKSUM;
        packet.data().get(field..field + 2).ok_or(DropReason::Truncated)? == [0, 0]
    };
    let sum = unsummed && ends.0.is_ipv6();
    if sum && header.part.is_some_and(|part| part.more) {
        return Err(DropReason::UdpChecksumMissing);
    }
    // What the link padded it with; of a frame in segments nothing is.
    if packet.frame_len() > before + header.payload {
        let _ = packet.set_len(before + header.payload);
    }
    if after > before {
        packet.prepend(after - before).ok_or(DropReason::NoHeadroom)?;
    } else if !packet.trim_front(before - after) {
        return Err(DropReason::Truncated);
    }
    let frame = packet.data_mut();
    let identification = shared.next_identification();
    let header = Header { hop_limit: header.hop_limit.saturating_sub(1), ..header };
    let kind = if ends.0.is_ipv6() { ethertype::IPV6 } else { ethertype::IPV4 };
    header.emit(&mut frame[L3..], ends, identification).map_err(DropReason::of_ip)?;
    ethernet::emit(frame, Mac::default(), Mac::default(), kind).map_err(DropReason::of_ip)?;
    if first {
        rewrite::transport(frame, after, to.ports(), header.protocol, entry.transport_delta[way]);
    }
    if sum {
        sum_datagram(frame, after, ends).ok_or(DropReason::UdpChecksumMissing)?;
    }
    Ok(forward::address(shared, slot, frame))
}

/// Gives the datagram at `l4` the checksum that IPv6 asks for (RFC 7915 section 4.5); `None` if not all of it is there.
fn sum_datagram(frame: &mut [u8], l4: usize, ends: (IpAddr, IpAddr)) -> Option<()> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = ends else { return None };
    let datagram = frame.get_mut(l4..).filter(|rest| rest.len() >= udp::LEN)?;
    let len = be16(datagram, udp::at::LENGTH);
    let datagram = datagram.get_mut(..usize::from(len))?;
    let sum = Sum::default().pseudo_v6(source, destination, protocol::UDP, len.into()).bytes(datagram);
    let checksum = match sum.checksum() {
        0 => 0xffff,
        sum => sum,
    };
    datagram.get_mut(udp::at::CHECKSUM..udp::LEN)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

impl Shared {
    /// For an IPv4 packet that may be fragmented on its way; no other worker has the same.
    fn next_identification(&mut self) -> u16 {
        let workers = u16::from(self.steering.workers());
        self.identification = self.identification.wrapping_add(workers);
        self.identification
    }
}

/// An error about a packet of a connection between families, for the end that sent it: in the other family, as is what it
/// quotes (RFC 7915 sections 4.2, 4.3, 5.2, 5.3). It comes from `speaker`, and goes to the next hop in `slot`.
pub(super) fn error<K: Rewrite, P: Packet>(
    entry: &Entry<K>,
    way: Direction,
    shared: &mut Shared,
    arrival: Context<'_>,
    (message, quote): (Message, &Quote),
    (speaker, slot): (IpAddr, Slot),
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    // As the end that is told has sent it, and as it left.
    let original = entry.keys[1 - way as usize];
    let left = entry.keys[way as usize].reversed();
    let told = original.source().0;
    let mtu = |shared: &Shared, slot: Slot| {
        u32::from(shared.neighbors.get(slot).max_frame).saturating_sub(L3 as u32)
    };
    let mtu_about = match shared.neighbor_towards(arrival.snapshot, quote.destination) {
        Ok(slot) => mtu(shared, slot),
        Err(_) => u32::MAX,
    };
    let frame = packet.data();
    let outer = Header::parse(frame.get(L3..).ok_or(DropReason::Truncated)?)?;
    let body = message.l4 + icmp::LEN..message.l4 + message.len;
    let body = frame.get(body).ok_or(DropReason::Truncated)?;
    let inner = Header::parse(body)?;
    let sizes = Sizes {
        mtu_told: mtu(shared, slot),
        mtu_about,
        total_len: quote.total_len as u32,
        fragment: inner.part.is_some(),
    };
    let problem = Problem { kind: message.kind, code: message.code, rest: message.rest };
    let said = if told.is_ipv6() { problem.to_v6(sizes) } else { problem.to_v4(sizes) };
    let said = said.ok_or(DropReason::IcmpUntranslatable)?;
    let (ip, number, longest) = if told.is_ipv6() {
        (ipv6::LEN, protocol::ICMPV6, LONGEST_V6)
    } else {
        (ipv4::LEN, protocol::ICMP, LONGEST_V4)
    };
    // Header of the error, header of what it quotes, and as much of the rest as there may be.
    let mut text = ArrayVec::<u8, LONGEST_V6>::new();
    let transport = icmp::LEN + inner.len_in(told.is_ipv6());
    text.extend(std::iter::repeat_n(0, transport));
    icmp::emit(&mut text, said.kind, said.code, said.rest).map_err(|_| DropReason::IcmpMalformed)?;
    inner
        .emit(&mut text[icmp::LEN..], (told, original.destination().0), 0)
        .map_err(|_| DropReason::IcmpMalformed)?;
    let quoted = quoted_len(outer.ipv6, message.kind, message.rest, body.len()).min(quote.total_len);
    let rest = body.get(inner.len..quoted).ok_or(DropReason::IcmpErrorTruncated)?;
    let rest = &rest[..rest.len().min(longest - ip - transport)];
    text.try_extend_from_slice(rest).map_err(|_| DropReason::IcmpMalformed)?;
    rewrite::requote_transport(&mut text[transport..], &left, &original);
    let pseudo = match (speaker, told) {
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::default().pseudo_v6(from, to, number, text.len() as u32),
        _ => Sum::default(),
    };
    let checksum = pseudo.bytes(&text).checksum();
    text[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    let len = L3 + ip + text.len();
    if len > usize::from(shared.neighbors.get(slot).max_frame) {
        // RFC 1122 section 3.2.2: no error about an error.
        return Err(DropReason::MtuExceeded);
    }
    if !packet.set_len(len) {
        return Err(DropReason::NoHeadroom);
    }
    let identification = shared.next_identification();
    let frame = packet.data_mut();
    frame[L3 + ip..].copy_from_slice(&text);
    let outer = Header {
        hop_limit: outer.hop_limit.saturating_sub(1),
        protocol: number,
        payload: text.len(),
        part: None,
        ..outer
    };
    let kind = if told.is_ipv6() { ethertype::IPV6 } else { ethertype::IPV4 };
    outer.emit(&mut frame[L3..], (speaker, told), identification).map_err(DropReason::of_ip)?;
    ethernet::emit(frame, Mac::default(), Mac::default(), kind).map_err(DropReason::of_ip)?;
    Ok(forward::address(shared, slot, frame))
}
