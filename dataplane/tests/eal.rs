//! Ports driven by DPDK: real packets through every software driver, and what happens when things go wrong.
//!
//! Needs root. DPDK starts once per process, so each test runs in a process and a network namespace of its own
//! (`eal/bench.rs`), whatever the test runner does; nothing it makes is seen outside or left behind.
#![cfg(feature = "dpdk")]

#[path = "eal/bench.rs"]
mod bench;
#[path = "eal/ports.rs"]
mod ports;
#[path = "eal/refusals.rs"]
mod refusals;
#[path = "eal/resources.rs"]
mod resources;
