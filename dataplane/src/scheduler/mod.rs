//! Which backend a new connection goes to.
//!
//! A scheduler is built on the control thread, is immutable, and is shared by all workers; what it must remember
//! between picks (where a round stands) is the worker's, in [`Cursor`]. A new scheduler is a file here and a line in
//! [`build`].

mod hash_fields;
mod least_connections;
mod maglev;
mod round_robin;

pub use hash_fields::HashFields;
pub use least_connections::LeastConnections;
pub use maglev::Maglev;
pub use round_robin::RoundRobin;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

/// A backend that may take new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its slot in the snapshot.
    pub slot: u32,
    pub address: IpAddr,
    /// 0: the connection's own destination port.
    pub port: u16,
    /// Share of new connections, relative to the other weights; not 0.
    pub weight: u16,
}

/// What a worker remembers for one service between picks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// Place in a round.
    at: u32,
    /// Whose it is; `None`: nobody's, the pick is to depend on `at` alone.
    worker: Option<u8>,
    /// Which plan was followed last, and how far.
    plan: u32,
    step: u32,
}

impl Cursor {
    /// That of one of several workers. They begin their rounds at different places, so that together they are even.
    pub fn new(worker: u8, workers: u8) -> Self {
        let at = if workers > 1 { u32::from(worker) * 0x5555 } else { 0 };
        Self { at, worker: Some(worker), ..Self::default() }
    }

    /// One that remembers nothing: equal places give equal picks.
    pub fn at(place: u32) -> Self {
        Self { at: place, ..Self::default() }
    }
}

/// What all workers together count for a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are not over.
    pub active: u64,
    /// Connections ever made.
    pub total: u64,
}

/// Chooses backends.
pub trait Scheduler: Send + Sync + Debug {
    /// Whether [`Scheduler::pick`] looks at `hash`.
    fn uses_hash(&self) -> bool;

    /// The slot of the backend for a connection whose stable hash is `hash`; `None` if there is no candidate.
    fn pick(&self, hash: u64, cursor: &mut Cursor) -> Option<u32>;

    /// Whether the control thread is to call [`Scheduler::observe`] every few milliseconds.
    fn follows_load(&self) -> bool {
        false
    }

    /// The loads of backends, by slot, as `workers` workers count them. On the control thread.
    fn observe(&self, _workers: u8, _load: &dyn Fn(u32) -> Load) {}
}

/// Parameters that all balancers of a group must share for their choices to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaglevParameters {
    pub seed: u64,
    /// Slots of the table; a prime.
    pub table_size: u32,
}

impl Default for MaglevParameters {
    fn default() -> Self {
        Self { seed: 0, table_size: 65537 }
    }
}

/// The scheduler that the configuration names.
pub fn build(
    kind: ctl::config::Scheduler,
    candidates: &[Candidate],
    maglev: MaglevParameters,
) -> Arc<dyn Scheduler> {
    match kind {
        // They differ in what is hashed, which is not theirs to decide.
        ctl::config::Scheduler::Maglev | ctl::config::Scheduler::SourceHash => {
            Arc::new(Maglev::new(candidates, maglev))
        }
        ctl::config::Scheduler::RoundRobin => Arc::new(RoundRobin::new(candidates)),
        ctl::config::Scheduler::LeastConnections => Arc::new(LeastConnections::new(candidates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctl::config::Scheduler as Kind;
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let candidate = |(slot, &weight): (u32, &u16)| Candidate {
            slot,
            address: [10, 1, (slot >> 8) as u8, slot as u8].into(),
            port: 80,
            weight,
        };
        (0..).zip(weights).map(candidate).collect()
    }

    /// Connections by backend after so many flows that two workers give out in turn, none of which ends.
    fn shares(kind: Kind, weights: &[u16], flows: u64) -> Vec<u64> {
        let scheduler = build(kind, &candidates(weights), MaglevParameters::default());
        let mut cursors = [Cursor::new(0, 2), Cursor::new(1, 2)];
        let counts = RefCell::new(vec![0u64; weights.len()]);
        for flow in 0..flows {
            if flow % 4000 == 0 {
                let counts = counts.borrow();
                let load = |slot: u32| Load { active: counts[slot as usize], total: counts[slot as usize] };
                scheduler.observe(2, &load);
            }
            let hash = crate::flow::stable_hash(&flow.to_be_bytes(), 0);
            let slot = scheduler.pick(hash, &mut cursors[(flow % 2) as usize]).unwrap();
            counts.borrow_mut()[slot as usize] += 1;
        }
        counts.into_inner()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2))]

        /// Within 1 % of its share, every backend of every scheduler; with hashing, as far as chance lets it.
        #[test]
        fn weights_hold_over_a_million_flows(weights in proptest::collection::vec(20u16..=1000, 2..10)) {
            const FLOWS: u64 = 1_000_000;
            let all: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for &kind in Kind::ALL {
                let hashes = build(kind, &[], MaglevParameters::default()).uses_hash();
                for (&count, &weight) in shares(kind, &weights, FLOWS).iter().zip(&weights) {
                    let exact = FLOWS as f64 * f64::from(weight) / all;
                    let chance = if hashes { 4.0 * exact.sqrt() } else { 0.0 };
                    let off = (count as f64 - exact).abs();
                    prop_assert!(off <= exact / 100.0 + chance, "{kind}: {count} for {exact} of {weights:?}");
                }
            }
        }
    }

    #[test]
    fn many_odd_weights_hold_as_well() {
        let weights: Vec<u16> = (0..1000u32).map(|n| (n * 7919 % 60_000 + 1) as u16).collect();
        let all: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        for kind in [Kind::RoundRobin, Kind::LeastConnections] {
            for (&count, &weight) in shares(kind, &weights, 1_000_000).iter().zip(&weights) {
                let exact = 1_000_000.0 * f64::from(weight) / all;
                assert!((count as f64 - exact).abs() <= exact / 100.0 + 4.0, "{kind}: {count} for {exact}");
            }
        }
    }
}
