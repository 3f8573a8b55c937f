//! Ending the connections of backends whose drain is over: a reset to both sides of each.
//!
//! A reset is believed only with the sequence number that its receiver expects next (RFC 9293 section 3.5.3, RFC 5961
//! section 3), and an entry keeps about one side's. Every segment has both: its own number is what its receiver expects, its
//! acknowledgment what its sender does. So the next segment of such a connection, in either direction, is made the reset
//! of the side that it was for, and answered with a reset. Sides that are silent are asked to speak: a segment out of
//! their window, to which they "MUST" answer with an acknowledgment (RFC 9293 section 3.10.7.4).
//!
//! The entry stays until its timeout, so that what a side that was missed sends later is answered too. None of this is on
//! the way of steady connections: a snapshot with such backends is another epoch.

use super::parse::Parsed;
use super::{Context, Pipeline, Shared, forget, forward, refuse};
use crate::conn::{Class, Direction, Entry, State, Table, Tick, Timeouts};
use crate::packet::Packet;
use crate::rewrite::{L3, Rewrite};
use crate::route::PortId;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{Ethernet, Mac};
use crate::wire::tcp::flag;
use crate::wire::{ipv4, ipv6, protocol, tcp};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Segments that wait to be sent; a connection beyond is reset with its next segment.
const SEGMENTS: usize = 64;
/// Of them, those that the search may leave at once: the rest is for answers.
const QUESTIONS: usize = 32;
/// How often silent sides are asked, and the time between, in milliseconds.
const ROUNDS: u8 = 4;
const ROUND: Tick = 1000;
/// Ethernet, IPv6 and TCP.
const SEGMENT: usize = L3 + ipv6::LEN + tcp::LEN;

/// A segment made here, and the port that it leaves by.
#[derive(Debug, Clone)]
pub struct Segment {
    pub port: PortId,
    pub frame: ArrayVec<u8, SEGMENT>,
}

/// Segments to be sent, and the search for connections to be reset.
#[derive(Debug, Default)]
pub(super) struct Resets {
    segments: ArrayVec<Segment, SEGMENTS>,
    /// Which round is under way; none if it is [`ROUNDS`].
    round: u8,
    /// When it began, and the first one; `None`: it is about to.
    began: Option<Tick>,
    since: Tick,
    /// The next entry of each table.
    next: [usize; 2],
}

impl Resets {
    pub(super) fn new() -> Self {
        Self { round: ROUNDS, ..Self::default() }
    }

    /// Begins anew if the backends in question are others.
    pub(super) fn publish(&mut self, before: &Snapshot, after: &Snapshot) {
        if before.resetting() != after.resetting() {
            let round = if after.resetting().is_empty() { ROUNDS } else { 0 };
            *self = Self { segments: std::mem::take(&mut self.segments), round, ..Self::default() };
        }
    }

    /// Whether connections are looked for, or segments wait to be sent.
    pub(super) fn is_busy(&self) -> bool {
        self.round < ROUNDS || !self.segments.is_empty()
    }

    /// Whether there is something to look at now. Moves on to the next round when it is time.
    fn is_due(&mut self, now: Tick) -> bool {
        if self.round >= ROUNDS {
            return false;
        }
        let Some(began) = self.began else {
            self.began = Some(now);
            self.since = if self.round == 0 { now } else { self.since };
            return true;
        };
        let done = self.next == [usize::MAX; 2];
        if done && now.wrapping_sub(began) >= ROUND {
            (self.round, self.began, self.next) = (self.round + 1, None, [0; 2]);
        }
        !done
    }
}

impl Pipeline {
    /// A segment that has to be sent.
    pub fn take_segment(&mut self) -> Option<Segment> {
        self.shared.resets.segments.pop()
    }

    /// One slice of the search for connections to be reset: reads at most `budget` entries of each table.
    pub fn end_drained(&mut self, now: Tick, budget: usize) {
        if !self.shared.resets.is_due(now) {
            return;
        }
        let [v4, v6] = self.shared.resets.next;
        let (shared, snapshot) = (&mut self.shared, &*self.snapshot);
        let next_v4 = slice(&mut self.v4, shared, snapshot, now, (v4, budget));
        let next_v6 = slice(&mut self.v6, shared, snapshot, now, (v6, budget));
        shared.resets.next = [next_v4, next_v6];
    }
}

/// Looks at `budget` entries from `start` on. Returns where to go on, [`usize::MAX`] at the end.
fn slice<K: Rewrite>(
    table: &mut Table<K>,
    shared: &mut Shared,
    snapshot: &Snapshot,
    now: Tick,
    (start, budget): (usize, usize),
) -> usize {
    let len = table.sweep_len();
    let end = start.saturating_add(budget).min(len);
    for id in start..end {
        let entry = *table.entry(id);
        if entry.state == State::Free || !snapshot.is_resetting(entry.backend) {
            continue;
        }
        if entry.keys[0].protocol() != protocol::TCP {
            forget(&shared.counters, &table.remove(id));
            continue;
        }
        if shared.resets.segments.len() >= QUESTIONS {
            return id;
        }
        let round = shared.resets.round;
        let silent = now.wrapping_sub(entry.last_seen) > now.wrapping_sub(shared.resets.since);
        let first = over(table, shared, snapshot, id, now);
        if first || (round > 0 && entry.state == State::Reset && silent) {
            ask(&entry, shared, snapshot, round);
        }
    }
    if end == len { usize::MAX } else { end }
}

/// The connection is over for whoever counts connections. Returns whether it was not before.
fn over<K: Rewrite>(
    table: &mut Table<K>,
    shared: &Shared,
    snapshot: &Snapshot,
    id: usize,
    now: Tick,
) -> bool {
    let entry = table.entry(id);
    if entry.state.class() == Class::Closing {
        return false;
    }
    let slot = entry.backend;
    let timeouts = snapshot.backend(slot).map_or_else(Timeouts::default, |backend| backend.timeouts);
    table.set_state(id, State::Reset, now, timeouts.of(State::Reset));
    shared.counters.resets.add(1);
    if let Some(counters) = shared.counters.backends.get(slot as usize) {
        counters.connections_active.sub(1);
    }
    true
}

/// Makes one side say where it stands. Replies of one-way connections do not pass here, so there it is the client.
fn ask<K: Rewrite>(entry: &Entry<K>, shared: &mut Shared, snapshot: &Snapshot, round: u8) {
    let to_client = entry.one_way || round % 2 == 1;
    let key = entry.keys[usize::from(!to_client)].reversed();
    let (from, to) = (key.source(), key.destination());
    // Out of the window, but for one case in a thousand: another round asks with another number.
    let mut header = bare(from.1, to.1, u32::from(round) << 30, 0, flag::ACK);
    header[tcp::at::DATA_OFFSET] = (tcp::LEN as u8 / 4) << 4;
    let Some(mut frame) = framed((from.0, to.0), (Mac::default(), Mac::default()), &header) else { return };
    let Ok(slot) = shared.neighbor_towards(snapshot, to.0) else { return };
    if let Verdict::Forward(port) = forward::address(shared, slot, &mut frame) {
        // There is room, or `slice` would have stopped.
        let _ = shared.resets.segments.try_push(Segment { port, frame });
    }
}

/// A segment of a connection that has to end: it becomes the reset of its receiver, and its sender gets one.
#[cold]
#[inline(never)]
pub(super) fn packet<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    id: usize,
    direction: Direction,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let mut reset = Parsed { tcp_flags: parsed.tcp_flags & flag::ACK | flag::RST, ..*parsed };
    // Whoever sends a reset has done what this is about.
    if parsed.tcp_flags & flag::RST == 0 {
        let answer = answer(arrival, parsed, packet);
        if answer.is_none_or(|answer| shared.resets.segments.try_push(answer).is_err()) {
            return Verdict::Drop(DropReason::Drained);
        }
        over(table, shared, arrival.snapshot, id, arrival.now);
        if !cut(packet, &reset, parsed.tcp_flags & flag::SYN != 0) {
            return Verdict::Drop(DropReason::Drained);
        }
        reset.bytes = packet.frame_len() as u32;
    }
    forward::through(table, shared, arrival, id, direction, &reset, packet)
}

/// The reset for the sender of a segment, to be sent where that came from.
fn answer<K: Rewrite, P: Packet>(arrival: Context<'_>, parsed: &Parsed<K>, packet: &P) -> Option<Segment> {
    let own = arrival.snapshot.ports().get(usize::from(arrival.port))?.mac;
    let sender = Ethernet::parse(packet.data()).ok()?.source();
    let (from, to) = (parsed.key.destination().0, parsed.key.source().0);
    let header = refuse::answering_reset(parsed, packet.data())?;
    let frame = framed((from, to), (own, sender), &header)?;
    (!sender.is_multicast()).then_some(Segment { port: arrival.port, frame })
}

/// A TCP header without checksum.
fn bare(from: u16, to: u16, sequence: u32, acknowledgment: u32, flags: u8) -> [u8; tcp::LEN] {
    let mut header = [0; tcp::LEN];
    header[..2].copy_from_slice(&from.to_be_bytes());
    header[2..4].copy_from_slice(&to.to_be_bytes());
    header[tcp::at::SEQUENCE..tcp::at::ACKNOWLEDGMENT].copy_from_slice(&sequence.to_be_bytes());
    header[tcp::at::ACKNOWLEDGMENT..tcp::at::DATA_OFFSET].copy_from_slice(&acknowledgment.to_be_bytes());
    header[tcp::at::FLAGS] = flags;
    header
}

/// A whole frame with that TCP header.
fn framed(
    ends: (IpAddr, IpAddr),
    macs: (Mac, Mac),
    header: &[u8; tcp::LEN],
) -> Option<ArrayVec<u8, SEGMENT>> {
    let l4 = L3 + if ends.0.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
    let mut frame = ArrayVec::from([0; SEGMENT]);
    frame.truncate(l4 + tcp::LEN);
    refuse::fill(&mut frame, ends, macs, protocol::TCP, header, tcp::at::CHECKSUM)?;
    Some(frame)
}

/// Cuts a segment down to a header with the flags of `reset`, so that its receiver ends its connection.
fn cut<K: Rewrite, P: Packet>(packet: &mut P, reset: &Parsed<K>, had_syn: bool) -> bool {
    let l4 = usize::from(reset.l4);
    if !packet.set_len(l4 + tcp::LEN) {
        return false;
    }
    let (ip, segment) = packet.data_mut().split_at_mut(l4);
    let ip = &mut ip[L3..];
    let sequence = segment[tcp::at::SEQUENCE..tcp::at::ACKNOWLEDGMENT].try_into().map(u32::from_be_bytes);
    // A SYN takes one number.
    let sequence = sequence.unwrap_or_default().wrapping_add(u32::from(had_syn));
    segment[tcp::at::SEQUENCE..tcp::at::ACKNOWLEDGMENT].copy_from_slice(&sequence.to_be_bytes());
    segment[tcp::at::DATA_OFFSET] = (tcp::LEN as u8 / 4) << 4;
    segment[tcp::at::FLAGS] = reset.tcp_flags;
    // Window, checksum, urgent pointer.
    segment[tcp::at::FLAGS + 1..].fill(0);
    let pseudo = match (reset.key.source().0, reset.key.destination().0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (ip.len() + tcp::LEN) as u16;
            ip[ipv4::at::TOTAL_LENGTH..ipv4::at::TOTAL_LENGTH + 2].copy_from_slice(&total.to_be_bytes());
            ipv4::seal(ip);
            Sum::default().pseudo_v4(from, to, protocol::TCP, tcp::LEN as u16)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let payload = (ip.len() - ipv6::LEN + tcp::LEN) as u16;
            ip[ipv6::at::PAYLOAD_LENGTH..ipv6::at::PAYLOAD_LENGTH + 2]
                .copy_from_slice(&payload.to_be_bytes());
            Sum::default().pseudo_v6(from, to, protocol::TCP, tcp::LEN as u32)
        }
        _ => return false,
    };
    let sum = pseudo.bytes(segment).checksum();
    segment[tcp::at::CHECKSUM..tcp::at::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    true
}
