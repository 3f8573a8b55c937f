//! Packets of known connections: look up, check, rewrite.

use super::complain::{self, Complaint};
use super::decide::Plan;
use super::parse::Parsed;
use super::{Context, Notice, Shared, Verdicts, decide, forget, mss, refuse, reset, translate, tunnel};
use crate::conn::{self, Class, Direction, Entry, Handle, Seen, State, States, Table, Tick, Timeouts};
use crate::counters::WorkerCounters;
use crate::io::BURST;
use crate::neighbor::Slot;
use crate::packet::Packet;
use crate::rewrite::{self, Rewrite};
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp::{self, flag};
use crate::wire::{field, protocol};
use arrayvec::ArrayVec;

/// Packets whose entry is on its way while an earlier one is rewritten: memory and arithmetic at the same time.
const AHEAD: usize = 12;

/// Nobody sends a SYN again sooner, in milliseconds: RFC 6298 section 2.1 has 1 s, and no stack less than 200 ms.
const RETRANSMISSION: Tick = 200;

/// Look-up and what follows from it, for the packets of one family.
#[inline]
pub(super) fn burst<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &ArrayVec<Parsed<K>, BURST>,
    packets: &mut [P],
    verdicts: &mut Verdicts,
) {
    let mut misses: ArrayVec<u8, BURST> = ArrayVec::new();
    // Answered datagrams are as good as confirmed when no more can be.
    let steady = if table.trusts_clients() { States::STEADY } else { States::STEADY.with(State::UdpReplied) };
    let mut candidates = [Handle::NONE; BURST];
    for (candidate, one) in candidates.iter_mut().zip(parsed).take(AHEAD) {
        *candidate = table.candidate(one.hash);
    }
    for (number, one) in parsed.iter().enumerate() {
        if let Some(ahead) = parsed.get(number + AHEAD) {
            candidates[(number + AHEAD) % BURST] = table.candidate(ahead.hash);
        }
        let candidate = candidates[number % BURST];
        let Some(packet) = packets.get_mut(usize::from(one.at)) else { continue };
        let verdict = &mut verdicts[usize::from(one.at) % BURST];
        let direction = candidate.direction();
        // Compared here, not before: an earlier packet of this burst may have changed the table.
        *verdict = match table.exact(candidate, &one.key) {
            Some(entry)
                if entry.epoch == shared.epoch
                    && steady.contain(entry.state)
                    && one.tcp_flags & (flag::SYN | flag::FIN | flag::RST) == 0 =>
            {
                if entry.detour {
                    detour(entry, shared, arrival, direction, one, packet)
                } else {
                    pass(entry, shared, arrival, direction, one, packet)
                }
            }
            Some(_) => known(table, shared, arrival, candidate.id(), direction, one, packet),
            None => {
                misses.push(number as u8);
                continue;
            }
        };
    }
    if !misses.is_empty() {
        missed(table, shared, arrival, parsed, &misses, packets, verdicts);
    }
}

/// Packets that the first guess did not find: whole look-ups, then decisions, then new connections, each for all.
#[inline(never)]
fn missed<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &[Parsed<K>],
    misses: &[u8],
    packets: &mut [P],
    verdicts: &mut Verdicts,
) {
    let mut plans: ArrayVec<(u8, Plan<K>), BURST> = ArrayVec::new();
    for &number in misses {
        let one = &parsed[usize::from(number)];
        let at = usize::from(one.at);
        match table.find(one.hash, &one.key) {
            Some(handle) => {
                let (id, direction) = (handle.id(), handle.direction());
                verdicts[at] = known(table, shared, arrival, id, direction, one, &mut packets[at]);
            }
            None => plans.push((number, decide::plan(table, None, shared, arrival, one))),
        }
    }
    for (number, plan) in &mut plans {
        let one = &parsed[usize::from(*number)];
        let at = usize::from(one.at);
        verdicts[at] = match plan {
            Plan::Settled(verdict) => *verdict,
            Plan::Refused(reason) => refuse::packet(shared, arrival, one, &mut packets[at], *reason),
            Plan::Later | Plan::Across(_) => translate::put_off(shared, one),
            // Two packets of one new flow in a burst: the second belongs to the connection that the first made.
            Plan::Connect(proposal) => match table.find(one.hash, &one.key) {
                Some(handle) => {
                    let (id, direction) = (handle.id(), handle.direction());
                    known(table, shared, arrival, id, direction, one, &mut packets[at])
                }
                None => decide::connect(table, None, shared, arrival, proposal, one, &mut packets[at]),
            },
        };
    }
}

/// A packet outside of the stages.
pub(super) fn single<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    match table.find(parsed.hash, &parsed.key) {
        Some(handle) => known(table, shared, arrival, handle.id(), handle.direction(), parsed, packet),
        None => afresh(table, peer, shared, arrival, parsed, packet),
    }
}

/// A packet that needs a new connection, outside of the stages.
fn afresh<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    match decide::plan(table, peer, shared, arrival, parsed) {
        Plan::Settled(verdict) => verdict,
        Plan::Refused(reason) => refuse::packet(shared, arrival, parsed, packet, reason),
        Plan::Later | Plan::Across(_) => translate::put_off(shared, parsed),
        Plan::Connect(mut proposal) => {
            decide::connect(table, peer, shared, arrival, &mut proposal, parsed, packet)
        }
    }
}

/// A packet of connection `id` that may be more than data.
#[inline(never)]
pub(super) fn known<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let entry = table.entry(id);
    let reopening = parsed.tcp_flags & flag::SYN != 0 && is_reopening(entry.state, direction, parsed);
    if (entry.epoch != shared.epoch || reopening)
        && let Some(verdict) = look_again(table, shared, arrival, id, direction, parsed, packet)
    {
        return verdict;
    }
    through(table, shared, arrival, id, direction, parsed, packet)
}

/// A SYN for a connection that is over: the client uses the port again.
fn is_reopening<K>(state: State, direction: Direction, parsed: &Parsed<K>) -> bool {
    direction == Direction::Forward
        && parsed.tcp_flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN
        && matches!(state, State::TimeWait | State::Reset)
}

/// The state of the world has changed since the entry was last used, or the client begins anew. Brings the entry up to
/// date; `Some` if that settled the packet.
#[cold]
#[inline(never)]
fn look_again<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Option<Verdict> {
    let entry = *table.entry(id);
    let backend = arrival.snapshot.backend(entry.backend).copied();
    let datagram = entry.keys[0].protocol() == protocol::UDP;
    let resetting = arrival.snapshot.is_resetting(entry.backend);
    let obsolete = backend.is_none_or(|backend| (backend.removed || resetting) && datagram);
    if obsolete || is_reopening(entry.state, direction, parsed) {
        forget(&shared.counters, &table.remove(id));
        return Some(afresh(table, None, shared, arrival, parsed, packet));
    }
    let towards_backend = if entry.one_way { backend?.address } else { entry.keys[1].source().0 };
    let hops = shared.neighbor_towards(arrival.snapshot, towards_backend).and_then(|to_backend| {
        let to_client = if entry.one_way {
            Ok(to_backend)
        } else {
            shared.neighbor_towards(arrival.snapshot, entry.keys[0].source().0)
        }?;
        Ok([to_backend, to_client])
    });
    match hops {
        Ok(next_hops) => {
            let epoch = shared.epoch;
            let tunnelled = entry.one_way && arrival.snapshot.tunnel(entry.backend).is_some();
            let entry = table.entry_mut(id);
            if entry.one_way {
                entry.detour = tunnelled;
            }
            entry.next_hops = next_hops;
            if resetting {
                // Its epoch stays: each segment comes here.
                return Some(reset::packet(table, shared, arrival, id, direction, parsed, packet));
            }
            entry.epoch = epoch;
            None
        }
        Err(reason) => Some(Verdict::Drop(reason)),
    }
}

/// Sends the packet that made connection `id` through it.
#[inline(always)]
pub(super) fn first<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let entry = table.entry_mut(id);
    // The usual kind moves its own connection no further than where it began.
    if matches!(entry.state, State::UdpNew) && !entry.one_way && !entry.detour {
        return pass(entry, shared, arrival, Direction::Forward, parsed, packet);
    }
    entry.expected = next_sequence(parsed, packet.data());
    through(table, shared, arrival, id, Direction::Forward, parsed, packet)
}

/// Sends a packet through connection `id`, which is up to date.
#[inline(always)]
pub(super) fn through<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let is_tcp = parsed.key.protocol() == protocol::TCP;
    let state = table.entry(id).state;
    let steady = state.is_steady() && parsed.tcp_flags & (flag::SYN | flag::FIN | flag::RST) == 0;
    if !steady {
        if !advance(table, shared, arrival, id, direction, parsed, packet.data()) {
            return doubtful(table, shared, arrival, id, parsed, packet);
        }
        if is_tcp && parsed.tcp_flags & flag::SYN != 0 {
            mss::clamp(table.entry(id), shared, arrival, usize::from(parsed.l4), packet.data_mut());
        }
    }
    let entry = table.entry_mut(id);
    if entry.detour {
        return detour(entry, shared, arrival, direction, parsed, packet);
    }
    pass(entry, shared, arrival, direction, parsed, packet)
}

/// Sends a packet of a connection on its way that leaves in another way than rewritten.
#[inline(always)]
fn detour<K: Rewrite, P: Packet>(
    entry: &mut Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    entry.last_seen = arrival.now;
    // Never of a datagram.
    if parsed.tcp_flags & flag::ACK != 0 {
        entry.follow(direction, packet.data(), usize::from(parsed.l4));
    }
    if entry.one_way {
        return tunnel::through(entry, shared, arrival, parsed, packet);
    }
    let slot = entry.next_hops[direction as usize];
    translate::pass(entry, shared, arrival, direction, slot, packet)
}

/// Sends on what a client probably did not send, as whoever it is for may know better. It leaves no trace in the connection.
#[cold]
#[inline(never)]
fn doubtful<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let entry = *table.entry(id);
    let verdict = if entry.detour {
        detour(table.entry_mut(id), shared, arrival, Direction::Forward, parsed, packet)
    } else {
        pass(table.entry_mut(id), shared, arrival, Direction::Forward, parsed, packet)
    };
    table.entry_mut(id).last_seen = entry.last_seen;
    table.entry_mut(id).expected = entry.expected;
    verdict
}

/// The sequence number that follows a client's first segment; 0 without TCP.
fn next_sequence<K: Rewrite>(parsed: &Parsed<K>, frame: &[u8]) -> u32 {
    let (sequence, _) = numbers(parsed, frame);
    sequence.wrapping_add(u32::from(parsed.tcp_flags & flag::SYN != 0))
}

/// Sequence number and acknowledgment of a segment; zeros without TCP.
fn numbers<K: Rewrite>(parsed: &Parsed<K>, frame: &[u8]) -> (u32, u32) {
    let header = frame.get(usize::from(parsed.l4)..).and_then(|rest| rest.first_chunk::<{ tcp::LEN }>());
    match header {
        Some(header) if parsed.key.protocol() == protocol::TCP => {
            let word = |at| u32::from_be_bytes(field(header, at));
            (word(tcp::at::SEQUENCE), word(tcp::at::ACKNOWLEDGMENT))
        }
        _ => (0, 0),
    }
}

/// Rewrites a packet of a connection and sends it on its way.
#[inline(always)]
fn pass<K: Rewrite, P: Packet>(
    entry: &mut Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    entry.last_seen = arrival.now;
    // Never of a datagram.
    if parsed.tcp_flags & flag::ACK != 0 {
        entry.follow(direction, packet.data(), usize::from(parsed.l4));
    }
    let slot = entry.next_hops[direction as usize];
    let neighbor = shared.neighbors.get_mut(slot);
    if parsed.bytes > u32::from(neighbor.room) {
        return stuck(entry, shared, arrival, direction, parsed, packet);
    }
    let frame = packet.data_mut();
    // The parser has seen them: said once, no header's length has to be looked at again.
    if frame.len() < K::HEADERS {
        return Verdict::Drop(DropReason::Truncated);
    }
    let port = neighbor.send(frame);
    rewrite::apply(entry, direction, parsed.key.protocol(), frame, usize::from(parsed.l4));
    count(&shared.counters, entry.backend, direction, parsed.bytes);
    Verdict::Forward(port)
}

/// As [`pass`], for a packet that cannot go on now: its next hop is not resolved, or its link is too small for it.
#[cold]
#[inline(never)]
fn stuck<K: Rewrite, P: Packet>(
    entry: &Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let slot = entry.next_hops[direction as usize];
    if parsed.bytes > u32::from(shared.neighbors.get(slot).max_frame) {
        return too_big(shared, arrival, slot, 0, packet);
    }
    rewrite::apply(entry, direction, parsed.key.protocol(), packet.data_mut(), usize::from(parsed.l4));
    count(&shared.counters, entry.backend, direction, parsed.bytes);
    wait(shared, slot)
}

/// Accounts for a packet of a connection.
#[inline(always)]
pub(super) fn count(counters: &WorkerCounters, backend: u32, direction: Direction, bytes: u32) {
    let Some(backend) = counters.backends.get(backend as usize) else { return };
    let (packets, octets) = match direction {
        Direction::Forward => (&backend.packets_in, &backend.bytes_in),
        Direction::Reply => (&backend.packets_out, &backend.bytes_out),
    };
    packets.add(1);
    octets.add(u64::from(bytes));
}

/// Moves a connection's state on. Returns `false` for what would end it and is probably not the client's.
#[inline(never)]
fn advance<K: Rewrite>(
    table: &mut Table<K>,
    shared: &Shared,
    arrival: Context<'_>,
    id: usize,
    direction: Direction,
    parsed: &Parsed<K>,
    frame: &[u8],
) -> bool {
    let entry = table.entry(id);
    let (before, slot) = (entry.state, entry.backend);
    let (flags, is_tcp) = (parsed.tcp_flags, parsed.key.protocol() == protocol::TCP);
    let silence = arrival.now.wrapping_sub(entry.last_seen);
    if before == State::SynSent && !entry.one_way && is_failure(direction, flags, silence) {
        count_failure(shared, slot);
    }
    let timeouts =
        || arrival.snapshot.backend(slot).map_or_else(Timeouts::default, |backend| backend.timeouts);
    let state = if is_tcp {
        let (sequence, acknowledgment) = numbers(parsed, frame);
        let fits = match direction {
            Direction::Forward => conn::fits(entry.expected, sequence, silence),
            // However long ago: what it is compared with is the backend's own.
            Direction::Reply => conn::fits(entry.expected, acknowledgment, 0),
        };
        let over = before.class() == Class::Closing;
        let late = over && table.age_of_state(id, arrival.now, timeouts().of(before)) >= conn::LATE;
        let seen = Seen { direction, flags, one_way: entry.one_way, fits, late };
        if direction == Direction::Forward && !fits && !over && flags & (flag::RST | flag::FIN) != 0 {
            shared.counters.out_of_window.add(1);
            return false;
        }
        let syn = flags & (flag::SYN | flag::ACK) == flag::SYN;
        if before == State::SynSent && direction == Direction::Forward && syn {
            // Not that which made the entry, perhaps.
            table.entry_mut(id).expected = sequence.wrapping_add(1);
        }
        before.after_segment(seen)
    } else {
        before.after_datagram(direction, entry.one_way)
    };
    let entry = table.entry(id);
    // What a backend has not confirmed may be forged (a datagram's source always): there is a limit to it.
    let forgeable = entry.one_way || !is_tcp;
    let promoted = state.class() == Class::Established && before.class() != Class::Established;
    if state == before || (forgeable && promoted && !table.trusts_clients()) {
        return true;
    }
    table.set_state(id, state, arrival.now, timeouts().of(state));
    if let Some(counters) = shared.counters.backends.get(slot as usize) {
        // Over, or (an acknowledgement after all) not over yet.
        match (before.class() == Class::Closing, state.class() == Class::Closing) {
            (false, true) => counters.connections_active.sub(1),
            (true, false) => counters.connections_active.add(1),
            _ => {}
        }
    }
    true
}

/// Whether a segment of a connection whose SYN went to the backend shows that it cannot be had: the client asks again,
/// or the backend refuses.
fn is_failure(direction: Direction, flags: u8, silence: Tick) -> bool {
    match direction {
        // A SYN, and not that which made the connection or a copy of it.
        Direction::Forward => {
            flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN && silence >= RETRANSMISSION
        }
        Direction::Reply => flags & flag::RST != 0,
    }
}

/// Evidence against the backend in `slot`, for the control thread to weigh.
#[cold]
fn count_failure(shared: &Shared, slot: u32) {
    if let Some(counters) = shared.counters.backends.get(slot as usize) {
        counters.failures.add(1);
    }
}

/// A packet that is longer than the link to the next hop in `slot` takes, with `overhead` bytes of a tunnel. IPv4 packets
/// that may be fragmented are refused all the same: the sender fragments them once it knows.
#[cold]
#[inline(never)]
pub(super) fn too_big<P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    slot: Slot,
    overhead: usize,
    packet: &mut P,
) -> Verdict {
    let frame = usize::from(shared.neighbors.get(slot).max_frame);
    let mtu = frame.saturating_sub(rewrite::L3 + overhead) as u16;
    complain::about(shared, arrival, DropReason::MtuExceeded, Complaint::TooBig(mtu), packet)
}

/// Writes the hardware addresses of the next hop, or has the packet wait for them.
#[inline(always)]
pub(super) fn address(shared: &mut Shared, slot: Slot, frame: &mut [u8]) -> Verdict {
    match shared.neighbors.address(slot, frame) {
        Some(port) => Verdict::Forward(port),
        None => wait(shared, slot),
    }
}

#[cold]
#[inline(never)]
fn wait(shared: &mut Shared, slot: Slot) -> Verdict {
    let neighbor = *shared.neighbors.get(slot);
    if !neighbor.asked && shared.notify(Notice::Wanted(neighbor.hop)) {
        shared.neighbors.get_mut(slot).asked = true;
    }
    Verdict::Hold(slot)
}
