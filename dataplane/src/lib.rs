//! Sluice's data plane.

pub mod affinity;
pub mod conn;
pub mod control;
pub mod counters;
pub mod flow;
pub mod io;
mod locality;
pub mod neighbor;
pub mod packet;
pub mod pipeline;
pub mod rewrite;
pub mod route;
pub mod scheduler;
pub mod service;
pub mod snapshot;
pub mod steering;
pub mod tunnel;
pub mod verdict;
pub mod vlan;
pub mod wire;
pub mod worker;
