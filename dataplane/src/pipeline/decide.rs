//! The first packet of a connection: which service, which worker, which backend.

use super::forward::{address, first, too_big};
use super::parse::Parsed;
use super::{Context, Shared, forget, full_nat, punt, refuse, tunnel};
use crate::affinity::Mark;
use crate::conn::{Class, Entry, Full, State, Table, Tick};
use crate::flow::{FIRST_PROBE_PORT, FlowKey};
use crate::packet::Packet;
use crate::rewrite::{self, Rewrite};
use crate::scheduler::{Cursor, HashFields};
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::protocol;
use crate::wire::tcp::flag;
use ctl::config::Mode;
use std::net::IpAddr;

/// Backends tried when one already has a connection from the client's address and port.
const ATTEMPTS: u64 = 4;

/// What becomes of a packet that belongs to no connection of this worker, before the table is touched.
pub(super) enum Plan<K> {
    /// Nothing that needs the table.
    Settled(Verdict),
    /// No connection can be made.
    Refused(DropReason),
    /// A connection to be entered.
    Connect(Proposal<K>),
    /// It takes both tables to decide: see [`translate`](super::translate).
    Later,
    /// A connection that this table cannot hold: its backend is of the other family.
    Across(Across),
}

/// A connection between address families that is about to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Across {
    /// Position of the service.
    pub(super) service: u32,
    /// Slot of the backend.
    pub(super) backend: u32,
    /// Stable hash of the flow.
    pub(super) flow_hash: u64,
}

/// Which backend a proposal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one that the client had before, or else the scheduler's.
    Any,
    /// The scheduler's.
    Other,
    /// This one.
    Given(u32),
}

/// Why there is no proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused(DropReason),
    /// The backend in this slot is of a family that the table does not hold.
    OtherFamily(u32),
}

impl From<DropReason> for Failure {
    fn from(reason: DropReason) -> Self {
        Self::Refused(reason)
    }
}

/// A connection that is about to be made.
pub(super) struct Proposal<K> {
    entry: Entry<K>,
    hashes: [u64; 2],
    /// Position of the service.
    service: u32,
    /// Stable hash of the flow.
    flow_hash: u64,
    timeout: u32,
}

/// Decides which service, worker and backend a first packet is for; `peer` is the other family's table, if it is at hand.
pub(super) fn plan<K: Rewrite>(
    table: &Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
) -> Plan<K> {
    let (client, target) = (parsed.key.source(), parsed.key.destination());
    if client.0.is_ipv6() != target.0.is_ipv6() {
        // An IPv6 packet to an IPv4-mapped address.
        return Plan::Settled(Verdict::Drop(DropReason::NoService));
    }
    if target.1 >= FIRST_PROBE_PORT && arrival.snapshot.owns(target.0) {
        return Plan::Settled(Verdict::Deliver);
    }
    if peer.is_none() && target.0.is_ipv4() && (K::BOTH_FAMILIES || arrival.snapshot.crosses(target.0)) {
        return Plan::Later;
    }
    let Some(index) = arrival.snapshot.find_service(parsed.key.protocol(), target.0, target.1) else {
        // Not to a service: perhaps a backend's answer, for a connection that another worker owns.
        let snapshot = arrival.snapshot;
        let owner = match (snapshot.is_local(target.0), shared.steering.is_local_port(target.1)) {
            (true, true) => shared.steering.owner_of_local(client, target),
            (true, false) => shared.worker,
            (false, _) => shared.steering.owner_of_answer(target),
        };
        if !arrival.handed && owner != shared.worker {
            return Plan::Settled(Verdict::HandOff(owner));
        }
        return Plan::Settled(punt::or_drop(arrival, (client.0, target.0), DropReason::NoService));
    };
    // From one of our own addresses: forged, and apt to go round for ever.
    if arrival.snapshot.is_local(client.0) {
        return Plan::Settled(Verdict::Drop(DropReason::IpSource));
    }
    let service = &arrival.snapshot.services()[index];
    let owner = shared.steering.owner_of_request(service.mode, client, target);
    if !arrival.handed && owner != shared.worker {
        return Plan::Settled(Verdict::HandOff(owner));
    }
    if peer.is_none()
        && arrival.snapshot.translates()
        && may_take_local_end(arrival.snapshot, service, client.0)
    {
        return Plan::Later;
    }
    let flow_hash = flow_hash(shared, service, &parsed.key);
    let index = index as u32;
    match propose(table, peer, shared, arrival, index, parsed, flow_hash, Choice::Any) {
        Ok(proposal) => Plan::Connect(proposal),
        Err(Failure::Refused(reason)) => Plan::Refused(reason),
        Err(Failure::OtherFamily(backend)) => Plan::Across(Across { service: index, backend, flow_hash }),
    }
}

/// Whether a connection of `client` needs a local end, which must be free in both tables where backends of one family are
/// spoken to by both.
fn may_take_local_end(snapshot: &Snapshot, service: &Service, client: IpAddr) -> bool {
    match service.mode {
        Mode::FullNat => true,
        Mode::Nat => snapshot.is_near_backend(client),
        Mode::Dsr => false,
    }
}

/// What the service's scheduler goes by.
pub(super) fn flow_hash<K: FlowKey>(shared: &Shared, service: &Service, key: &K) -> u64 {
    match (&service.affinity, service.scheduler.uses_hash()) {
        (_, false) => 0,
        (None, true) => service.hash_fields.hash(key, shared.maglev.seed),
        (Some(affinity), true) => {
            let client = key.source().0;
            let client = K::new(0, (affinity.client(client), 0), (client, 0));
            HashFields::SOURCE_ADDRESS.hash(&client, shared.maglev.seed)
        }
    }
}

/// Whether a segment opens a connection.
fn begins(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) == flag::SYN
}

/// The mark of the client in the memory of affinity; `None` for services without.
fn mark<K: FlowKey>(shared: &Shared, service: &Service, key: &K) -> Option<Mark> {
    let affinity = service.affinity.as_ref()?;
    Some(shared.clients.mark(service.id, affinity.client(key.source().0)))
}

/// The backend that the client had before, if the service has affinity and the backend may take more connections.
pub(super) fn remembered<K: FlowKey>(
    shared: &Shared,
    snapshot: &Snapshot,
    now: Tick,
    index: u32,
    key: &K,
) -> Option<u32> {
    let service = &snapshot.services()[index as usize];
    let timeout = service.affinity?.timeout;
    let slot = shared.clients.find(mark(shared, service, key)?, now, timeout)?;
    let backend = snapshot.backend(slot)?;
    (backend.serving && backend.service == index).then_some(slot)
}

/// A connection to the backend that is given, or that the client had before, or that the scheduler picks for `flow_hash`.
#[allow(clippy::too_many_arguments, reason = "all that a connection depends on")]
pub(super) fn propose<K: Rewrite>(
    table: &Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    arrival: Context<'_>,
    index: u32,
    parsed: &Parsed<K>,
    flow_hash: u64,
    choice: Choice,
) -> Result<Proposal<K>, Failure> {
    let service = &arrival.snapshot.services()[index as usize];
    let key = parsed.key;
    let state = match key.protocol() {
        protocol::TCP if parsed.tcp_flags & flag::RST != 0 => return Err(DropReason::NoConnection.into()),
        // The backend knows it by another local end, if at all: this one cannot go on.
        protocol::TCP if service.mode == Mode::FullNat && !begins(parsed.tcp_flags) => {
            return Err(DropReason::NoConnection.into());
        }
        protocol::TCP if service.resets_unknown && !begins(parsed.tcp_flags) => {
            return Err(DropReason::UnknownConnection.into());
        }
        protocol::TCP => State::of_first_segment(parsed.tcp_flags),
        _ => State::UdpNew,
    };
    let one_way = service.mode == Mode::Dsr;
    let known = match choice {
        Choice::Any => remembered(shared, arrival.snapshot, arrival.now, index, &key),
        Choice::Other => None,
        Choice::Given(slot) => Some(slot),
    };
    let slot = if let Some(slot) = known {
        slot
    } else {
        let mut spare = Cursor::default();
        let cursor = shared.cursors.get_mut(service.id as usize).unwrap_or(&mut spare);
        service.scheduler.pick(flow_hash, cursor).ok_or(DropReason::NoBackend)?
    };
    let backend = arrival.snapshot.backend(slot).ok_or(DropReason::NoBackend)?;
    if service.mode == Mode::FullNat && backend.address.is_ipv6() && !K::BOTH_FAMILIES {
        return Err(Failure::OtherFamily(slot));
    }
    let to_backend = shared.neighbor_of_backend(arrival.snapshot, slot, backend.address)?;
    let (client, target) = (key.source(), key.destination());
    let (to_client, reply) = if one_way {
        (to_backend, key.reversed())
    } else {
        let to_client = shared.neighbor_towards(arrival.snapshot, client.0)?;
        let to = (backend.address, backend.port.unwrap_or(target.1));
        let hairpin;
        let local = if service.mode == Mode::FullNat {
            Some(arrival.snapshot.local_addresses(slot))
        } else {
            hairpin = arrival.snapshot.hairpin(client.0, backend.address);
            hairpin.as_ref().map(std::slice::from_ref)
        };
        let reply = match local {
            // The backend knows it by another local end, if at all: this one cannot go on.
            Some(_) if key.protocol() == protocol::TCP && !begins(parsed.tcp_flags) => {
                return Err(DropReason::NoConnection.into());
            }
            Some(addresses) => full_nat::answers(table, peer, shared, addresses, key.protocol(), to)
                .ok_or(DropReason::LocalPortsExhausted)?,
            None => K::new(key.protocol(), to, client),
        };
        (to_client, reply)
    };
    let keys = [key, reply];
    let (header_delta, transport_delta) = rewrite::deltas(&keys);
    let entry = Entry {
        keys,
        last_seen: arrival.now,
        backend: slot,
        epoch: shared.epoch,
        next_hops: [to_backend, to_client],
        header_delta,
        transport_delta,
        // Its first segment says.
        expected: 0,
        state,
        one_way,
        detour: if one_way {
            arrival.snapshot.tunnel(slot).is_some()
        } else {
            backend.address.is_ipv6() != client.0.is_ipv6()
        },
    };
    let hashes = table.prepare(parsed.hash, &entry.keys);
    // Now, not when it is entered: others of this client may be in the same burst.
    if let (true, Some(mark)) = (choice != Choice::Other, mark(shared, service, &key)) {
        shared.clients.note(shared.worker, mark, slot, arrival.now);
    }
    Ok(Proposal { entry, hashes, service: index, flow_hash, timeout: service.timeouts.of(state) })
}

/// Enters a proposed connection and sends its first packet through it.
pub(super) fn connect<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    arrival: Context<'_>,
    proposal: &mut Proposal<K>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    for attempt in 1..=ATTEMPTS {
        match enter(table, shared, proposal, arrival.now) {
            Ok(id) => {
                shared.counters.connections_total.add(1);
                if let Some(counters) = shared.counters.backends.get(proposal.entry.backend as usize) {
                    counters.connections_total.add(1);
                    counters.connections_active.add(1);
                    counters.entries.add(1);
                }
                return first(table, shared, arrival, id, parsed, packet);
            }
            // Not where its next segment would be reset.
            Err(Full::NoRoom) if proposal.entry.one_way && !is_reset_untracked(arrival, proposal) => {
                return untracked(shared, arrival, proposal, parsed, packet);
            }
            Err(Full::NoRoom) => return Verdict::Drop(DropReason::TableFull),
            Err(Full::ReplyKeyTaken) => {
                // Another backend; with full-nat another local port will do.
                let other = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let full_nat = arrival.snapshot.services()[proposal.service as usize].mode == Mode::FullNat;
                let (choice, hash) = if full_nat {
                    (Choice::Given(proposal.entry.backend), proposal.flow_hash)
                } else {
                    (Choice::Other, proposal.flow_hash.wrapping_add(other))
                };
                match propose(table, peer, shared, arrival, proposal.service, parsed, hash, choice) {
                    Ok(other) => *proposal = other,
                    Err(Failure::Refused(reason)) => {
                        return refuse::packet(shared, arrival, parsed, packet, reason);
                    }
                    Err(Failure::OtherFamily(_)) => return Verdict::Drop(DropReason::NoBackend),
                }
            }
        }
    }
    Verdict::Drop(DropReason::ReplyConflict)
}

/// Whether the service has connections reset that are not in the table.
fn is_reset_untracked<K: FlowKey>(arrival: Context<'_>, proposal: &Proposal<K>) -> bool {
    let service = &arrival.snapshot.services()[proposal.service as usize];
    service.resets_unknown && proposal.entry.keys[0].protocol() == protocol::TCP
}

/// A later fragment of a datagram whose first one went on without a connection, as `dsr` allows; or whose connection is gone.
pub(super) fn unconnected<K: Rewrite, P: Packet>(
    table: &Table<K>,
    peer: &Table<K::Peer>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    match plan(table, Some(peer), shared, arrival, parsed) {
        Plan::Connect(proposal) if proposal.entry.one_way => {
            untracked(shared, arrival, &proposal, parsed, packet)
        }
        Plan::Settled(Verdict::Drop(reason)) | Plan::Refused(reason) => Verdict::Drop(reason),
        Plan::Settled(Verdict::Punt) => Verdict::Punt,
        Plan::Connect(_) | Plan::Settled(_) | Plan::Later | Plan::Across(_) => {
            Verdict::Drop(DropReason::NoConnection)
        }
    }
}

/// Forwards a packet for which the table has no room, in a mode that can do without.
#[cold]
fn untracked<K: Rewrite, P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    proposal: &Proposal<K>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let service = &arrival.snapshot.services()[proposal.service as usize];
    // The same backend for every packet of the flow, whatever the scheduler remembers.
    let picked = remembered(shared, arrival.snapshot, arrival.now, proposal.service, &parsed.key)
        .or_else(|| service.scheduler.pick(proposal.flow_hash, &mut Cursor::at(parsed.hash as u32)));
    let Some((number, backend)) = picked.and_then(|slot| Some((slot, arrival.snapshot.backend(slot)?)))
    else {
        return Verdict::Drop(DropReason::NoBackend);
    };
    let slot = match shared.neighbor_of_backend(arrival.snapshot, number, backend.address) {
        Ok(slot) => slot,
        Err(reason) => return Verdict::Drop(reason),
    };
    let verdict = match arrival.snapshot.tunnel(number) {
        Some(tunnel) => tunnel::enter::<K, P>(shared, arrival, tunnel, slot, parsed.hash, packet),
        None if parsed.bytes > u32::from(shared.neighbors.get(slot).max_frame) => {
            too_big(shared, arrival, slot, 0, packet)
        }
        None => {
            K::decrement_hop_limit(packet.data_mut());
            address(shared, slot, packet.data_mut())
        }
    };
    shared.counters.stateless.add(u64::from(!matches!(verdict, Verdict::Drop(_) | Verdict::Refuse(_))));
    verdict
}

/// Enters a connection, if need be in the place of one that may give way.
fn enter<K: Rewrite>(
    table: &mut Table<K>,
    shared: &Shared,
    proposal: &Proposal<K>,
    now: u32,
) -> Result<usize, Full> {
    let Proposal { entry, hashes, timeout, .. } = proposal;
    match table.insert(entry, *hashes, now, *timeout) {
        Err(Full::NoRoom) => {
            let evicted = table.evict().ok_or(Full::NoRoom)?;
            shared.counters.evictions.add(1);
            forget(&shared.counters, &evicted);
        }
        Err(Full::ReplyKeyTaken) => {
            // A connection that is over does not stand in the way of a new one.
            let handle = table.find(hashes[1], &entry.keys[1]).ok_or(Full::ReplyKeyTaken)?;
            if table.entry(handle.id()).state.class() != Class::Closing {
                return Err(Full::ReplyKeyTaken);
            }
            forget(&shared.counters, &table.remove(handle.id()));
        }
        done => return done,
    }
    table.insert(entry, *hashes, now, *timeout)
}
