//! The first packet of a connection: which service, which worker, which backend.

use super::forward::{address, through};
use super::parse::Parsed;
use super::{Context, Shared, forget};
use crate::conn::{Class, Direction, Entry, Full, State, Table};
use crate::packet::Packet;
use crate::rewrite::{self, Rewrite};
use crate::scheduler::{Cursor, stable_hash};
use crate::verdict::{DropReason, Verdict};
use crate::wire::protocol;
use crate::wire::tcp::flag;
use ctl::config::Mode;

/// Backends tried when one already has a connection from the client's address and port.
const ATTEMPTS: u64 = 4;

/// Decides for a packet that belongs to no connection of this worker.
#[inline(never)]
pub(super) fn decide<K: Rewrite, P: Packet>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    let (client, target) = (parsed.key.source(), parsed.key.destination());
    let number = parsed.key.protocol();
    let Some(index) = arrival.snapshot.find_service(number, target.0, target.1) else {
        // Not to a service: perhaps a backend's reply to a client whose connection another worker owns.
        let owner = shared.owner(target);
        if !arrival.handed && owner != shared.worker && !arrival.snapshot.is_local(target.0) {
            return Verdict::HandOff(owner);
        }
        return Verdict::Drop(DropReason::NoService);
    };
    let owner = shared.owner(client);
    if !arrival.handed && owner != shared.worker {
        return Verdict::HandOff(owner);
    }
    match connect(table, shared, arrival, index, parsed) {
        Ok(Place::Tracked(id)) => through(table, shared, arrival, id, Direction::Forward, parsed, packet),
        Ok(Place::Untracked(slot)) => {
            if parsed.bytes > u32::from(shared.neighbors.get(slot).max_frame) {
                return Verdict::Drop(DropReason::MtuExceeded);
            }
            shared.counters.stateless.add(1);
            K::decrement_hop_limit(packet.data_mut());
            address(shared, slot, packet.data_mut())
        }
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Where a first packet was put.
enum Place {
    /// Connection number.
    Tracked(usize),
    /// The table is full, and the mode can do without: the neighbour's slot.
    Untracked(u16),
}

/// Makes the connection for a first packet to the service at `index`.
fn connect<K: Rewrite>(
    table: &mut Table<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    index: usize,
    parsed: &Parsed<K>,
) -> Result<Place, DropReason> {
    let snapshot = arrival.snapshot;
    let service = &snapshot.services()[index];
    let key = parsed.key;
    let (client, target) = (key.source(), key.destination());
    let state = match key.protocol() {
        protocol::TCP if parsed.tcp_flags & flag::RST != 0 => return Err(DropReason::NoConnection),
        protocol::TCP => State::of_first_segment(parsed.tcp_flags),
        _ => State::UdpNew,
    };
    let hash = if service.scheduler.uses_hash() {
        if service.source_affinity {
            let addresses = key.addresses();
            stable_hash(&addresses[..addresses.len() / 2], shared.maglev.seed)
        } else {
            stable_hash(&key.bytes(), shared.maglev.seed)
        }
    } else {
        0
    };
    let one_way = service.mode == Mode::Dsr;
    for attempt in 0..ATTEMPTS {
        let hash = hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut spare = Cursor::default();
        let cursor = shared.cursors.get_mut(service.id as usize).unwrap_or(&mut spare);
        let slot = service.scheduler.pick(hash, cursor).ok_or(DropReason::NoBackend)?;
        let backend = snapshot.backend(slot).ok_or(DropReason::NoBackend)?;
        let to_backend = shared.neighbor_towards(arrival.snapshot, backend.address)?;
        let to_client =
            if one_way { to_backend } else { shared.neighbor_towards(arrival.snapshot, client.0)? };
        let reply = if one_way {
            key.reversed()
        } else {
            K::new(key.protocol(), (backend.address, backend.port.unwrap_or(target.1)), client)
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
            state,
            one_way,
        };
        match enter(table, shared, entry, arrival.now, service.timeouts.of(state)) {
            Ok(id) => {
                shared.counters.connections_total.add(1);
                if let Some(counters) = shared.counters.backends.get(slot as usize) {
                    counters.connections_total.add(1);
                    counters.connections_active.add(1);
                }
                return Ok(Place::Tracked(id));
            }
            Err(Full::NoRoom) if one_way => {
                // The same backend for every packet of the flow, whatever the scheduler remembers.
                let slot = service
                    .scheduler
                    .pick(hash, &mut Cursor(parsed.hash as u32))
                    .ok_or(DropReason::NoBackend)?;
                let backend = snapshot.backend(slot).ok_or(DropReason::NoBackend)?;
                return Ok(Place::Untracked(shared.neighbor_towards(arrival.snapshot, backend.address)?));
            }
            Err(Full::NoRoom) => return Err(DropReason::TableFull),
            Err(Full::ReplyKeyTaken) => {}
        }
    }
    Err(DropReason::ReplyConflict)
}

/// Enters a connection, if need be in the place of one that may give way.
fn enter<K: Rewrite>(
    table: &mut Table<K>,
    shared: &Shared,
    entry: Entry<K>,
    now: u32,
    timeout: u32,
) -> Result<usize, Full> {
    match table.insert(entry, now, timeout) {
        Err(Full::NoRoom) => {
            let evicted = table.evict().ok_or(Full::NoRoom)?;
            shared.counters.evictions.add(1);
            forget(&shared.counters, &evicted);
            table.insert(entry, now, timeout)
        }
        Err(Full::ReplyKeyTaken) => {
            // A connection that is over does not stand in the way of a new one.
            let key = entry.keys[1];
            let handle = table.find(table.hash(&key), &key).ok_or(Full::ReplyKeyTaken)?;
            if table.entry(handle.id()).state.class() != Class::Closing {
                return Err(Full::ReplyKeyTaken);
            }
            forget(&shared.counters, &table.remove(handle.id()));
            table.insert(entry, now, timeout)
        }
        other => other,
    }
}
