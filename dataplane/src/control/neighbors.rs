//! Neighbours: the hardware address of every next hop, asked for, confirmed and forgotten (RFC 4861 section 7.3; ARP
//! is treated alike).
//!
//! A state machine without I/O: time comes in as an argument, in milliseconds from any origin; what has to be done
//! comes out as [`Action`]s.

use crate::route::{NextHop, PortId};
use crate::wire::ethernet::Mac;
use ctl::api::NeighborState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// Milliseconds.
pub type Millis = u64;

/// Most neighbours known.
pub const CAPACITY: usize = crate::neighbor::CAPACITY;
/// Most neighbours that are being asked for or did not answer, those of the configuration aside: whoever makes up
/// clients on the link must not push out real ones.
const UNANSWERED: usize = 4096;
/// How long to wait after each question: quickly once, since the first frame on a link is the likeliest to be lost.
const WAITS: [Millis; 3] = [200, 1000, 1000];
/// After this long a neighbour that is in use is asked again whether it is still there (RFC 4861: REACHABLE_TIME).
const REACHABLE: Millis = 30_000;
/// Not forwarded to for this long, a neighbour is forgotten.
const UNUSED: Millis = 300_000;
/// A neighbour that did not answer is not asked again before this.
const RETRY: Millis = 1_000;
/// One of the configuration is asked again by itself after this, so that it is known when it comes back.
const RETRY_WANTED: Millis = 5_000;
/// How long one that did not answer is remembered, for `sluicectl neighbor`.
const FAILED: Millis = 10_000;

/// What has to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask `hop` for its address: all of the link, or the one who had it last.
    Ask { hop: NextHop, to: Option<Mac> },
    /// Workers use this from now on; `None`: it has none.
    Tell { hop: NextHop, mac: Option<Mac> },
    /// For the log: it has another address than before.
    Moved { hop: NextHop, from: Mac, to: Mac },
    /// For the log: a configured neighbour stopped answering, or never began.
    Lost { hop: NextHop },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Asked all of the link so many times.
    Asking(u8),
    Reachable,
    /// Usable; nobody needs to know whether it is still there.
    Stale,
    /// Usable; asked it alone so many times.
    Probing(u8),
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: Option<Mac>,
    phase: Phase,
    /// Last answer, or the first question.
    confirmed: Millis,
    used: Millis,
    /// When to look at it again.
    due: Millis,
    /// A worker waits for it although it did not answer.
    wanted: bool,
    /// It did not answer the last time, and that was said.
    lost: bool,
}

/// A line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub hop: NextHop,
    pub mac: Option<Mac>,
    pub state: NeighborState,
    /// Since it was last confirmed, or first asked for.
    pub age: Millis,
}

/// What a check may count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Known(Mac),
    /// Asked for the first time, or again after it was known.
    Asking,
    /// Did not answer the last time.
    Silent,
    /// Nobody asked for it yet.
    Unknown,
}

/// All neighbours.
#[derive(Debug, Default)]
pub struct Neighbors {
    table: HashMap<NextHop, Entry>,
    timers: BTreeSet<(Millis, PortId, IpAddr)>,
    /// Those of the configuration: never forgotten.
    pinned: HashSet<NextHop>,
    /// Entries in [`Phase::Asking`] and [`Phase::Failed`].
    unanswered: usize,
    /// Neighbours not taken up because there were too many.
    pub refused: u64,
}

impl Neighbors {
    /// Next hops that the configuration needs, from now on; new ones are asked for at once.
    pub fn pin(&mut self, now: Millis, hops: HashSet<NextHop>, actions: &mut Vec<Action>) {
        for &hop in &hops {
            match self.table.get(&hop).map(|entry| entry.phase) {
                None => self.ask_anew(now, hop, actions),
                Some(Phase::Stale) => self.probe(now, hop, actions),
                Some(_) => {}
            }
        }
        self.pinned = hops;
    }

    /// What is known of `hop` right now.
    pub fn look(&self, hop: NextHop) -> Look {
        let Some(entry) = self.table.get(&hop) else { return Look::Unknown };
        match (entry.phase, entry.mac) {
            (phase, Some(mac)) if usable(phase) => Look::Known(mac),
            (Phase::Asking(_), _) if !entry.lost => Look::Asking,
            _ => Look::Silent,
        }
    }

    /// A worker has packets for `hop` and does not know its address.
    pub fn wanted(&mut self, now: Millis, hop: NextHop, actions: &mut Vec<Action>) {
        let Some(entry) = self.table.get_mut(&hop) else {
            if self.table.len() >= CAPACITY || self.unanswered >= UNANSWERED {
                self.refused += 1;
                actions.push(Action::Tell { hop, mac: None });
            } else {
                self.ask_anew(now, hop, actions);
            }
            return;
        };
        entry.used = now;
        match entry.phase {
            Phase::Asking(_) => {}
            Phase::Failed => {
                // No answer to the worker until it has been asked for again: so it does not ask with each packet.
                entry.wanted = true;
                let due = entry.confirmed.max(now.saturating_sub(RETRY)) + RETRY;
                if due < entry.due {
                    self.set_timer(hop, due);
                }
            }
            Phase::Reachable | Phase::Probing(_) => actions.push(Action::Tell { hop, mac: entry.mac }),
            Phase::Stale => {
                actions.push(Action::Tell { hop, mac: entry.mac });
                self.probe(now, hop, actions);
            }
        }
    }

    /// A worker forwarded to `hop` lately.
    pub fn used(&mut self, now: Millis, hop: NextHop, actions: &mut Vec<Action>) {
        let Some(entry) = self.table.get_mut(&hop) else {
            // Forgotten while it was in use: the worker has to ask again.
            actions.push(Action::Tell { hop, mac: None });
            return;
        };
        entry.used = now;
        if entry.phase == Phase::Stale {
            self.probe(now, hop, actions);
        }
    }

    /// `hop` said that `mac` is its address; `solicited`: in answer to a question.
    pub fn seen(&mut self, now: Millis, hop: NextHop, mac: Mac, solicited: bool, actions: &mut Vec<Action>) {
        let before = match self.table.get(&hop) {
            Some(entry) => *entry,
            // Nobody asked.
            None if solicited => return,
            None if self.table.len() >= CAPACITY => {
                self.refused += 1;
                return;
            }
            None => Entry {
                mac: None,
                phase: Phase::Stale,
                confirmed: now,
                used: now,
                due: now,
                wanted: false,
                lost: false,
            },
        };
        let changed = before.mac != Some(mac);
        if let (true, Some(from)) = (changed, before.mac) {
            actions.push(Action::Moved { hop, from, to: mac });
        }
        let phase = if solicited {
            Phase::Reachable
        } else {
            match before.phase {
                Phase::Reachable | Phase::Probing(_) if !changed => before.phase,
                // "the neighbor's cached reachability state MUST be set to STALE" (RFC 4861 section 7.2.5)
                _ => Phase::Stale,
            }
        };
        let confirmed = if solicited || before.mac.is_none() { now } else { before.confirmed };
        let due = match phase {
            Phase::Reachable => confirmed + REACHABLE,
            Phase::Probing(_) => before.due,
            _ => before.used.max(now) + UNUSED,
        };
        self.put(hop, Entry { mac: Some(mac), phase, confirmed, due, wanted: false, lost: false, ..before });
        if changed || !usable(before.phase) {
            actions.push(Action::Tell { hop, mac: Some(mac) });
        }
        if phase == Phase::Stale && self.pinned.contains(&hop) {
            self.probe(now, hop, actions);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Millis, actions: &mut Vec<Action>) {
        while let Some(&(due, port, address)) = self.timers.first() {
            if due > now {
                break;
            }
            self.expire(now, NextHop { port, address }, actions);
        }
    }

    /// When [`Neighbors::tick`] has something to do next.
    pub fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|timer| timer.0)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All of them, by port and address.
    pub fn rows(&self, now: Millis) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .table
            .iter()
            .map(|(&hop, entry)| Row {
                hop,
                mac: if usable(entry.phase) { entry.mac } else { None },
                state: match entry.phase {
                    Phase::Asking(_) => NeighborState::Incomplete,
                    Phase::Reachable => NeighborState::Reachable,
                    Phase::Stale | Phase::Probing(_) => NeighborState::Stale,
                    Phase::Failed => NeighborState::Failed,
                },
                age: now.saturating_sub(entry.confirmed),
            })
            .collect();
        rows.sort_by_key(|row| (row.hop.port, row.hop.address));
        rows
    }

    fn expire(&mut self, now: Millis, hop: NextHop, actions: &mut Vec<Action>) {
        let Some(&entry) = self.table.get(&hop) else {
            self.timers.retain(|&(_, port, address)| (port, address) != (hop.port, hop.address));
            return;
        };
        let pinned = self.pinned.contains(&hop);
        match entry.phase {
            Phase::Asking(asked) if usize::from(asked) < WAITS.len() => {
                actions.push(Action::Ask { hop, to: None });
                let due = now + WAITS[usize::from(asked)];
                self.put(hop, Entry { phase: Phase::Asking(asked + 1), due, ..entry });
            }
            Phase::Asking(_) => {
                if pinned && !entry.lost {
                    actions.push(Action::Lost { hop });
                }
                actions.push(Action::Tell { hop, mac: None });
                let due = now + if pinned { RETRY_WANTED } else { FAILED };
                let failed = Entry { mac: None, phase: Phase::Failed, confirmed: now, due, ..entry };
                self.put(hop, Entry { wanted: false, lost: true, ..failed });
            }
            Phase::Probing(asked) if usize::from(asked) < WAITS.len() => {
                actions.push(Action::Ask { hop, to: entry.mac });
                let due = now + WAITS[usize::from(asked)];
                self.put(hop, Entry { phase: Phase::Probing(asked + 1), due, ..entry });
            }
            // It may have another address by now; the old one is used until nobody answers.
            Phase::Probing(_) => {
                actions.push(Action::Ask { hop, to: None });
                self.put(hop, Entry { phase: Phase::Asking(1), due: now + WAITS[0], ..entry });
            }
            Phase::Reachable if pinned || now.saturating_sub(entry.used) < REACHABLE => {
                self.probe(now, hop, actions);
            }
            Phase::Reachable => {
                self.put(hop, Entry { phase: Phase::Stale, due: entry.used + UNUSED, ..entry });
            }
            Phase::Stale if pinned => self.probe(now, hop, actions),
            Phase::Stale if now.saturating_sub(entry.used) < UNUSED => {
                self.set_timer(hop, entry.used + UNUSED);
            }
            Phase::Failed if pinned || entry.wanted => self.ask_anew(now, hop, actions),
            Phase::Stale | Phase::Failed => {
                actions.push(Action::Tell { hop, mac: None });
                self.forget(hop);
            }
        }
    }

    /// Starts with the first question to all.
    fn ask_anew(&mut self, now: Millis, hop: NextHop, actions: &mut Vec<Action>) {
        let (lost, used) = self.table.get(&hop).map_or((false, now), |entry| (entry.lost, entry.used));
        actions.push(Action::Ask { hop, to: None });
        let (phase, due) = (Phase::Asking(1), now + WAITS[0]);
        self.put(hop, Entry { mac: None, phase, confirmed: now, used, due, wanted: false, lost });
    }

    /// Asks the neighbour itself whether it is still there.
    fn probe(&mut self, now: Millis, hop: NextHop, actions: &mut Vec<Action>) {
        let Some(&entry) = self.table.get(&hop) else { return };
        actions.push(Action::Ask { hop, to: entry.mac });
        self.put(hop, Entry { phase: Phase::Probing(1), due: now + WAITS[0], ..entry });
    }

    fn put(&mut self, hop: NextHop, entry: Entry) {
        self.forget(hop);
        self.unanswered += usize::from(!usable(entry.phase));
        self.timers.insert((entry.due, hop.port, hop.address));
        self.table.insert(hop, entry);
    }

    fn forget(&mut self, hop: NextHop) {
        if let Some(entry) = self.table.remove(&hop) {
            self.unanswered -= usize::from(!usable(entry.phase));
            self.timers.remove(&(entry.due, hop.port, hop.address));
        }
    }

    fn set_timer(&mut self, hop: NextHop, due: Millis) {
        if let Some(entry) = self.table.get_mut(&hop) {
            self.timers.remove(&(entry.due, hop.port, hop.address));
            entry.due = due;
            self.timers.insert((due, hop.port, hop.address));
        }
    }
}

/// Whether workers have an address to use.
fn usable(phase: Phase) -> bool {
    matches!(phase, Phase::Reachable | Phase::Stale | Phase::Probing(_))
}

#[cfg(test)]
mod tests;
