//! Fragments: all parts of a datagram go where the first one goes, which has the ports.
//!
//! Every datagram has a worker that is its home (`Steering::home_of_datagram`). Whoever receives a fragment gives it to that
//! one. There the first fragment is decided for as any packet; if another worker owns the connection, it and all the others
//! are handed on to that, in order. What comes before the first fragment waits for it at home.
//!
//! Nothing is put together. The first fragment is rewritten like a whole packet (checksums change by what changed, whatever
//! they cover); of the others only the addresses are.

use super::datagrams::{Course, Place};
use super::parse::Parsed;
use super::{Context, Shared, decide, forward, translate, tunnel};
use crate::conn::{Direction, Table};
use crate::flow::{FlowKey, V4Key, V6Key};
use crate::packet::Packet;
use crate::rewrite::{L3, Rewrite};
use crate::verdict::{DropReason, Verdict};
use crate::wire::fragment::Fragment;
use crate::wire::{be16, protocol, tcp, udp};

/// Handles a fragment of a TCP segment or UDP datagram.
#[cold]
#[inline(never)]
pub(super) fn receive<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    packet: &mut P,
) -> Verdict {
    let parsed = packet.data().get(L3..).and_then(|packet| Fragment::parse(packet).ok());
    let Some(fragment) = parsed else { return Verdict::Drop(DropReason::FragmentMalformed) };
    if fragment.is_within_header() {
        return Verdict::Drop(DropReason::FragmentTiny);
    }
    let home = shared.steering.home_of_datagram(&fragment);
    let at_home = home == shared.worker;
    if !at_home && !arrival.handed {
        return Verdict::HandOff(home);
    }
    // At home it is as if it had arrived here; elsewhere, home has found that the connection is here.
    let arrival = Context { handed: !at_home, ..arrival };
    steer(v4, v6, shared, arrival, &fragment, packet).unwrap_or_else(Verdict::Drop)
}

fn steer<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    fragment: &Fragment,
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let known = shared.datagrams.find(fragment, arrival.now);
    match known.map(|place| (place, shared.datagrams.course(place))) {
        Some((place, Course::Owner(worker))) => {
            shared.datagrams.pass(place, fragment)?;
            Ok(Verdict::HandOff(worker))
        }
        Some((place, Course::Flow { protocol, ports })) => {
            shared.datagrams.pass(place, fragment)?;
            let flow = (protocol, ports);
            if fragment.source.is_ipv4() && !is_across(v4, arrival, fragment, flow) {
                follow(v4, v6, shared, arrival, fragment, flow, packet)
            } else {
                follow(v6, v4, shared, arrival, fragment, flow, packet)
            }
        }
        Some((_, Course::Dropped(reason))) => Err(reason),
        None if arrival.handed && !fragment.is_first() => Err(DropReason::FragmentTimeout),
        Some((_, Course::Unknown)) | None => {
            let place = known.unwrap_or_else(|| remember(shared, arrival, fragment));
            if fragment.is_first() {
                return Ok(lead(v4, v6, shared, arrival, fragment, place, packet));
            }
            shared.datagrams.set_waiting(place);
            Ok(Verdict::Await(place))
        }
    }
}

/// Whether an IPv4 fragment may belong to a connection between address families, which is in the other table.
fn is_across(
    table: &Table<V4Key>,
    arrival: Context<'_>,
    fragment: &Fragment,
    (protocol, ports): (u8, (u16, u16)),
) -> bool {
    let key = V4Key::new(protocol, (fragment.source, ports.0), (fragment.destination, ports.1));
    arrival.snapshot.crosses(fragment.destination) && table.find(table.hash(&key), &key).is_none()
}

fn remember(shared: &mut Shared, arrival: Context<'_>, fragment: &Fragment) -> Place {
    let (place, gave_way) = shared.datagrams.enter(fragment, arrival.now);
    shared.counters.fragment_evictions.add(u64::from(gave_way));
    place
}

/// The first fragment: goes where a whole packet would, and says where the others go.
fn lead<P: Packet>(
    v4: &mut Table<V4Key>,
    v6: &mut Table<V6Key>,
    shared: &mut Shared,
    arrival: Context<'_>,
    fragment: &Fragment,
    place: Place,
    packet: &mut P,
) -> Verdict {
    let (verdict, ports) = match transport(fragment, packet.data()) {
        Ok((ports, tcp_flags)) => {
            let flow = (fragment.protocol, ports);
            let verdict = if fragment.source.is_ipv4() {
                let parsed = parsed(v4, fragment, flow, tcp_flags, packet);
                forward::single(v4, None, shared, arrival, &parsed, packet)
            } else {
                let parsed = parsed(v6, fragment, flow, tcp_flags, packet);
                forward::single(v6, None, shared, arrival, &parsed, packet)
            };
            (translate::finish(v4, v6, shared, arrival, verdict, packet), ports)
        }
        Err(reason) => (Verdict::Drop(reason), (0, 0)),
    };
    // Whom it is for puts nothing together.
    let verdict = if verdict == Verdict::Deliver { Verdict::Drop(DropReason::Fragment) } else { verdict };
    let course = match verdict {
        Verdict::HandOff(worker) => Course::Owner(worker),
        Verdict::Drop(reason) | Verdict::Refuse(reason) => Course::Dropped(reason),
        _ => Course::Flow { protocol: fragment.protocol, ports },
    };
    shared.datagrams.set_course(place, course);
    // Nothing of it has passed, so it cannot overlap.
    let _ = shared.datagrams.pass(place, fragment);
    verdict
}

/// Ports and TCP flags. The whole transport header has to be there (RFC 1858 section 3.2.1; RFC 7112 section 5): without it
/// nobody could tell what the datagram is.
fn transport(fragment: &Fragment, frame: &[u8]) -> Result<((u16, u16), u8), DropReason> {
    let part = frame.get(L3 + fragment.l4..).ok_or(DropReason::Truncated)?;
    let part = &part[..part.len().min(fragment.len)];
    let least = if fragment.protocol == protocol::TCP { tcp::LEN } else { udp::LEN };
    if part.len() < least {
        return Err(DropReason::FragmentTiny);
    }
    let mut flags = 0;
    if fragment.protocol == protocol::TCP {
        let header_len = usize::from(part[tcp::at::DATA_OFFSET] >> 4) * 4;
        if header_len < tcp::LEN {
            return Err(DropReason::TcpHeader);
        }
        if header_len > part.len() {
            return Err(DropReason::FragmentTiny);
        }
        flags = part[tcp::at::FLAGS];
    } else if usize::from(be16(part, udp::at::LENGTH)) < udp::LEN {
        return Err(DropReason::UdpLength);
    }
    Ok(((be16(part, 0), be16(part, 2)), flags))
}

/// A fragment as a packet of its flow.
fn parsed<K: Rewrite, P: Packet>(
    table: &Table<K>,
    fragment: &Fragment,
    (protocol, ports): (u8, (u16, u16)),
    tcp_flags: u8,
    packet: &P,
) -> Parsed<K> {
    let key = K::new(protocol, (fragment.source, ports.0), (fragment.destination, ports.1));
    Parsed {
        key,
        hash: table.hash(&key),
        at: 0,
        tcp_flags,
        l4: (L3 + fragment.l4) as u16,
        bytes: packet.frame_len() as u32,
    }
}

/// A later fragment of a datagram whose first one went to the connection with these ports.
fn follow<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    peer: &Table<K::Peer>,
    shared: &mut Shared,
    arrival: Context<'_>,
    fragment: &Fragment,
    flow: (u8, (u16, u16)),
    packet: &mut P,
) -> Result<Verdict, DropReason> {
    let parsed = parsed(table, fragment, flow, tcp::flag::ACK, packet);
    let Some(handle) = table.find(parsed.hash, &parsed.key) else {
        let arrival = Context { handed: true, ..arrival };
        return Ok(decide::unconnected(table, peer, shared, arrival, &parsed, packet));
    };
    let direction = handle.direction();
    table.entry_mut(handle.id()).last_seen = arrival.now;
    let entry = table.entry(handle.id());
    let towards = match direction {
        Direction::Reply => entry.keys[0].source().0,
        Direction::Forward if entry.one_way => {
            arrival.snapshot.backend(entry.backend).ok_or(DropReason::NoBackend)?.address
        }
        Direction::Forward => entry.keys[1].source().0,
    };
    let slot = shared.neighbor_towards(arrival.snapshot, towards)?;
    if entry.detour && !entry.one_way {
        return Ok(translate::pass(entry, shared, arrival, direction, slot, packet));
    }
    let tunnel = arrival.snapshot.tunnel(entry.backend).filter(|_| entry.one_way);
    let verdict = if let Some(tunnel) = tunnel {
        tunnel::enter::<K, P>(shared, arrival, tunnel, slot, parsed.hash, packet)
    } else if parsed.bytes > u32::from(shared.neighbors.get(slot).max_frame) {
        return Ok(forward::too_big(shared, arrival, slot, 0, packet));
    } else {
        let frame = packet.data_mut();
        K::decrement_hop_limit(frame);
        if !entry.one_way {
            K::readdress(&mut frame[L3..], &entry.keys[1 - direction as usize].reversed());
        }
        forward::address(shared, slot, frame)
    };
    if matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) {
        forward::count(&shared.counters, entry.backend, direction, parsed.bytes);
    }
    Ok(verdict)
}
