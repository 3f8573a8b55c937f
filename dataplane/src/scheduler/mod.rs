//! Which backend a new connection goes to.
//!
//! A scheduler is built on the control thread, is immutable, and is shared by all workers; what it must remember
//! between picks (where a round stands) is the worker's, in [`Cursor`]. A new scheduler is a file here and a line in
//! [`build`].

mod maglev;
mod round_robin;

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
pub struct Cursor(pub u32);

/// Chooses backends.
pub trait Scheduler: Send + Sync + Debug {
    /// Whether [`Scheduler::pick`] looks at `hash`.
    fn uses_hash(&self) -> bool;

    /// The slot of the backend for a connection whose stable hash is `hash`; `None` if there is no candidate.
    fn pick(&self, hash: u64, cursor: &mut Cursor) -> Option<u32>;
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

/// The scheduler that the configuration names; `None` if this build lacks it.
pub fn build(
    kind: ctl::config::Scheduler,
    candidates: &[Candidate],
    maglev: MaglevParameters,
) -> Option<Arc<dyn Scheduler>> {
    match kind {
        ctl::config::Scheduler::Maglev => Some(Arc::new(Maglev::new(candidates, maglev))),
        ctl::config::Scheduler::RoundRobin => Some(Arc::new(RoundRobin::new(candidates))),
        ctl::config::Scheduler::LeastConnections => None,
    }
}
