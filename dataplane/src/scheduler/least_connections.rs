//! Weighted least-connections: the backend with the fewest connections for its weight, those of all workers counted.
//!
//! No worker looks for the least: the control thread does, every few milliseconds. From the connections that all workers
//! count it works out the backends of the next new connections, one after the other, as if it saw each of them begin
//! (`Outlook`). Workers walk through that plan in steps of their number, so that together they take every place once;
//! picking costs the same with thousands of backends. What exceeds the plan before there is a new one goes round-robin by
//! weight, which also bounds how many connections a backend gets that has just come.
//!
//! Who is next: a backend of weight `w` with `n` connections has, of `S` connections in all and one more, a fair part of
//! `w (S + 1) / W`. Those that lack a whole connection go first, by `(n + 1) / w`: with equal weights that is the least
//! number. Else one of those below their part goes, in the order of weighted fair turns: which of several idle backends
//! answers is then decided by their weights and by who was chosen before, not by their place in the file, also where
//! connections are over sooner than anybody counts them.

use super::{Candidate, Cursor, Load, RoundRobin, Scheduler};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Most and fewest connections that are planned for at once.
const PLAN: usize = 8192;
const LEAST_PLAN: u64 = 64;
/// How many connections a backend may be behind its turns, or ahead: what is long ago does not count.
const CREDIT: f64 = 64.0;

/// Numbers all plans of all services, so that a cursor never takes one for another.
static VERSIONS: AtomicU32 = AtomicU32::new(1);

/// The plan, which all workers read on their way to a new connection and nobody writes but the control thread. A worker
/// that reads while it is written gets places of two plans, which does no harm.
#[derive(Debug)]
pub struct LeastConnections {
    version: AtomicU32,
    /// The distance between two places of one worker.
    stride: AtomicU32,
    length: AtomicU32,
    /// Slots of backends.
    places: Box<[AtomicU32]>,
    /// What exceeds the plan.
    round: RoundRobin,
    /// Only the control thread takes it.
    outlook: Mutex<Outlook>,
}

impl LeastConnections {
    pub fn new(candidates: &[Candidate]) -> Self {
        let usable = candidates.iter().filter(|candidate| candidate.weight > 0);
        let places = if usable.clone().next().is_some() { PLAN } else { 0 };
        Self {
            version: AtomicU32::new(0),
            stride: AtomicU32::new(1),
            length: AtomicU32::new(0),
            places: (0..places).map(|_| AtomicU32::default()).collect(),
            round: RoundRobin::new(candidates),
            outlook: Mutex::new(Outlook::new(usable)),
        }
    }

    fn planned(&self, cursor: &mut Cursor) -> Option<u32> {
        let worker = u32::from(cursor.worker?);
        let version = self.version.load(Relaxed);
        if cursor.plan != version {
            (cursor.plan, cursor.step) = (version, 0);
        }
        let stride = self.stride.load(Relaxed).max(1);
        let place = worker % stride + cursor.step * stride;
        if place >= self.length.load(Relaxed) {
            return None;
        }
        cursor.step += 1;
        Some(self.places.get(place as usize)?.load(Relaxed))
    }
}

impl Scheduler for LeastConnections {
    fn uses_hash(&self) -> bool {
        false
    }

    fn pick(&self, hash: u64, cursor: &mut Cursor) -> Option<u32> {
        self.planned(cursor).or_else(|| self.round.pick(hash, cursor))
    }

    fn follows_load(&self) -> bool {
        true
    }

    fn observe(&self, workers: u8, load: &dyn Fn(u32) -> Load) {
        let mut outlook = self.outlook.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(new) = outlook.observe(load) else { return };
        let length = (2 * new).max(LEAST_PLAN).min(self.places.len() as u64) as usize;
        for (place, slot) in self.places.iter().zip(outlook.plan(length)) {
            place.store(slot, Relaxed);
        }
        self.length.store(length as u32, Relaxed);
        // Where connections are few each worker begins with the very least: two that do so at the same time are the
        // exception. Where they are many nobody takes a place that another one has.
        let many = new > u64::from(workers);
        self.stride.store(if many { u32::from(workers) } else { 1 }, Relaxed);
        self.version.store(VERSIONS.fetch_add(1, Relaxed), Relaxed);
    }
}

/// What the control thread knows of the candidates.
#[derive(Debug)]
struct Outlook {
    backends: Vec<Known>,
    /// Of all weights.
    weights: f64,
    /// Counts as of the first look are there.
    looked: bool,
}

#[derive(Debug)]
struct Known {
    slot: u32,
    weight: f64,
    load: Load,
    /// Connections that it took beyond its turns, or less than them.
    ahead: f64,
}

impl Outlook {
    fn new<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Self {
        let known = |candidate: &Candidate| Known {
            slot: candidate.slot,
            weight: f64::from(candidate.weight),
            load: Load::default(),
            ahead: 0.0,
        };
        let backends: Vec<Known> = candidates.map(known).collect();
        Self { weights: backends.iter().map(|known| known.weight).sum(), backends, looked: false }
    }

    /// Takes up the present loads. Returns how many connections are new, or `None` if nothing changed.
    fn observe(&mut self, load: impl Fn(u32) -> Load) -> Option<u64> {
        let mut changed = !self.looked;
        let mut new = 0;
        for known in &mut self.backends {
            let now = load(known.slot);
            changed |= now != known.load;
            let more = if self.looked { now.total.wrapping_sub(known.load.total) } else { 0 };
            known.load = now;
            known.ahead += more as f64;
            new += more;
        }
        self.looked = true;
        for known in &mut self.backends {
            let turns = new as f64 * known.weight / self.weights;
            known.ahead = (known.ahead - turns).clamp(-CREDIT, CREDIT);
        }
        changed.then_some(new)
    }

    /// The slots for the next `length` connections.
    fn plan(&self, length: usize) -> Vec<u32> {
        let mut active: Vec<u64> = self.backends.iter().map(|known| known.load.active).collect();
        let mut ahead: Vec<f64> = self.backends.iter().map(|known| known.ahead).collect();
        let weight = |index: usize| self.backends[index].weight;
        // Every backend is in `due`, by when it lacks a whole connection, and in one of the others: `waiting` for when it
        // is below its part, or `ready`, by whose turn it is. What was chosen since is there again, with its new number.
        let due = |index: usize, active: u64| Ranked::new((active + 1) as f64 / weight(index), index, active);
        let wait = |index: usize, active: u64| Ranked::new(active as f64 / weight(index), index, active);
        let mut lacking: BinaryHeap<Ranked> = active.iter().enumerate().map(|(i, &n)| due(i, n)).collect();
        let mut waiting: BinaryHeap<Ranked> = active.iter().enumerate().map(|(i, &n)| wait(i, n)).collect();
        let mut ready: BinaryHeap<Ranked> = BinaryHeap::with_capacity(self.backends.len());
        let mut sum: u64 = active.iter().sum();
        let mut plan = Vec::with_capacity(length);
        while plan.len() < length {
            let level = (sum + 1) as f64 / self.weights;
            while let Some(next) = first(&mut waiting, &active, |key| key < level) {
                let turn = (ahead[next.index] + 1.0) / weight(next.index);
                ready.push(Ranked::new(turn, next.index, next.active));
            }
            let chosen = first(&mut lacking, &active, |key| key <= level)
                .or_else(|| first(&mut ready, &active, |_| true));
            let Some(Ranked { index, .. }) = chosen else { break };
            active[index] += 1;
            ahead[index] += 1.0;
            sum += 1;
            lacking.push(due(index, active[index]));
            waiting.push(wait(index, active[index]));
            plan.push(self.backends[index].slot);
        }
        plan
    }
}

/// A backend in an order: the smallest key first, of equal ones the first in the file.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    key: f64,
    index: usize,
    /// Its connections when it was entered: with others it is out of date.
    active: u64,
}

impl Ranked {
    fn new(key: f64, index: usize, active: u64) -> Self {
        Self { key, index, active }
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        // The greatest of a heap comes out first.
        other.key.total_cmp(&self.key).then(other.index.cmp(&self.index))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// Takes out the first that is up to date, if its key is good enough.
fn first(heap: &mut BinaryHeap<Ranked>, active: &[u64], good: impl Fn(f64) -> bool) -> Option<Ranked> {
    loop {
        let top = heap.peek()?;
        let current = active[top.index] == top.active;
        if current && !good(top.key) {
            return None;
        }
        let top = heap.pop()?;
        if current {
            return Some(top);
        }
    }
}

#[cfg(test)]
mod tests;
