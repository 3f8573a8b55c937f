//! What would become of a packet, without one: the look-ups of [`decide`](super::decide) and
//! [`forward`](super::forward), made by the same functions on the same worker, and changing nothing.

use super::{Pipeline, Shared, decide};
use crate::conn::{Class, Direction, State, Table, Tick, Timeouts};
use crate::flow::{FIRST_PROBE_PORT, FlowKey, V4Key, V6Key};
use crate::route::PortId;
use crate::snapshot::Snapshot;
use crate::steering::End;
use crate::wire::protocol;
use ctl::config::Mode;

/// A packet that is asked about; with TCP a SYN, unless it belongs to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    pub source: End,
    pub destination: End,
}

/// What one worker knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    pub worker: u8,
    /// By which tunnels tell flows apart.
    pub hash: u64,
    pub fate: Fate,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to a connection in the table of this worker.
    Known(Connection),
    /// It is for the control thread: a health check's.
    Delivered,
    /// No service is there. If some connection's answers look like that, they are `owner`'s.
    NoService { owner: u8 },
    /// It is for the host's kernel, by the interface that stands for the port; `owner` gives it.
    Punted { owner: u8, port: PortId },
    /// It says that it comes from the balancer itself.
    Forged,
    /// It is the first of a connection.
    New {
        /// Position in the snapshot.
        service: u32,
        /// The worker that makes the connection.
        owner: u8,
        /// Slot of the backend that this worker would pick now; `None`: there is none.
        pick: Option<u32>,
        /// The client had it before, and affinity keeps it there.
        remembered: bool,
        /// The backend has a connection with the same ends already: another one will be tried.
        conflict: bool,
    },
}

/// An entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Of the packet that is asked about.
    pub direction: Direction,
    /// How packets leave in that direction: from, to.
    pub leaves: (End, End),
    pub client: End,
    pub vip: End,
    /// Slot of the backend.
    pub backend: u32,
    pub one_way: bool,
    pub state: State,
    /// Milliseconds since the last packet, and after how many it is forgotten.
    pub idle: u32,
    pub timeout: u32,
}

impl Pipeline {
    /// What would become of a packet that came now.
    pub fn explain(&self, question: Question, now: Tick) -> Explanation {
        if question.destination.0.is_ipv4() {
            let explained = explain::<V4Key>(&self.v4, &self.shared, &self.snapshot, question, now);
            if matches!(explained.fate, Fate::Known(_)) || !self.snapshot.crosses(question.destination.0) {
                return explained;
            }
            // As a packet that the first table does not know.
            let key = V6Key::new(question.protocol, question.source, question.destination);
            let across = known(&self.v6, &self.snapshot, &key, self.v6.hash(&key), now);
            Explanation { fate: across.map_or(explained.fate, Fate::Known), ..explained }
        } else {
            explain::<V6Key>(&self.v6, &self.shared, &self.snapshot, question, now)
        }
    }
}

fn explain<K: FlowKey>(
    table: &Table<K>,
    shared: &Shared,
    snapshot: &Snapshot,
    question: Question,
    now: Tick,
) -> Explanation {
    let key = K::new(question.protocol, question.source, question.destination);
    let hash = table.hash(&key);
    let fate = known(table, snapshot, &key, hash, now)
        .map_or_else(|| first(table, shared, snapshot, &key, now), Fate::Known);
    Explanation { worker: shared.worker, hash, fate }
}

/// The connection that a packet belongs to, if it goes on.
fn known<K: FlowKey>(
    table: &Table<K>,
    snapshot: &Snapshot,
    key: &K,
    hash: u64,
    now: Tick,
) -> Option<Connection> {
    let handle = table.find(hash, key)?;
    let (entry, direction) = (table.entry(handle.id()), handle.direction());
    let backend = snapshot.backend(entry.backend)?;
    // Datagrams leave a backend that was removed.
    if backend.removed && key.protocol() == protocol::UDP {
        return None;
    }
    let [request, answer] = entry.keys;
    let left = match direction {
        Direction::Forward => answer.reversed(),
        Direction::Reply => request.reversed(),
    };
    let left = if entry.one_way { *key } else { left };
    Some(Connection {
        direction,
        leaves: (left.source(), left.destination()),
        client: request.source(),
        vip: request.destination(),
        backend: entry.backend,
        one_way: entry.one_way,
        state: entry.state,
        idle: now.wrapping_sub(entry.last_seen),
        timeout: Timeouts::of(&backend.timeouts, entry.state),
    })
}

/// As [`decide::plan`](super::decide): the first packet of a connection, or of none.
fn first<K: FlowKey>(table: &Table<K>, shared: &Shared, snapshot: &Snapshot, key: &K, now: Tick) -> Fate {
    let (client, target) = (key.source(), key.destination());
    if target.1 >= FIRST_PROBE_PORT && snapshot.owns(target.0) {
        return Fate::Delivered;
    }
    let Some(index) = snapshot.find_service(key.protocol(), target.0, target.1) else {
        let owner = match (snapshot.is_local(target.0), shared.steering.is_local_port(target.1)) {
            (true, true) => shared.steering.owner_of_local(client, target),
            (true, false) => shared.worker,
            (false, _) => shared.steering.owner_of_answer(target),
        };
        // By whichever port it comes, if that has an interface too; most likely by its own.
        return match snapshot.host_of(target.0) {
            Some(_) if snapshot.is_local(client.0) => Fate::Forged,
            Some(port) => Fate::Punted { owner, port },
            None => Fate::NoService { owner },
        };
    };
    if snapshot.is_local(client.0) {
        return Fate::Forged;
    }
    let service = &snapshot.services()[index];
    let owner = shared.steering.owner_of_request(service.mode, client, target);
    let flow_hash = decide::flow_hash(shared, service, key);
    let before = decide::remembered(shared, snapshot, now, index as u32, key);
    // A copy: the worker's own stays where it is.
    let mut cursor = shared.cursors.get(service.id as usize).copied().unwrap_or_default();
    let pick = before.or_else(|| service.scheduler.pick(flow_hash, &mut cursor));
    let backend = pick.and_then(|slot| snapshot.backend(slot));
    let conflict = service.mode == Mode::Nat
        && backend.is_some_and(|backend| {
            if snapshot.hairpin(client.0, backend.address).is_some() {
                return false;
            }
            let to = (backend.address, backend.port.unwrap_or(target.1));
            let answer = K::new(key.protocol(), to, client);
            let taken = table.find(table.hash(&answer), &answer);
            taken.is_some_and(|handle| table.entry(handle.id()).state.class() != Class::Closing)
        });
    Fate::New {
        service: index as u32,
        owner,
        pick: backend.and(pick),
        remembered: before.is_some(),
        conflict,
    }
}
