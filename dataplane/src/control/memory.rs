//! Whether the machine has the memory that the configuration needs: asked before anything is taken.

use crate::affinity::Clients;
use crate::counters::{BackendCounters, MAX_BACKENDS};
use ctl::config::Runtime;
use std::fs;

/// Bytes of tables for each connection that fits: IPv4 and IPv6 together, and clients with affinity.
const PER_CONNECTION: u64 = 100 + 165 + Clients::bytes_per_connection();
/// For everything else of the process, and so that large pages are not used up to the last.
const RESERVE: u64 = 64 << 20;

/// Bytes that the workers' tables take, all together.
pub fn table_bytes(runtime: &Runtime) -> u64 {
    let counters = (MAX_BACKENDS * size_of::<BackendCounters>()) as u64;
    runtime.workers.len() as u64 * (u64::from(runtime.max_connections) * PER_CONNECTION + counters)
}

/// Whether the tables fit into the memory that is available, next to DPDK's if that is ordinary memory too.
///
/// # Errors
/// What is missing, in words.
pub fn check(runtime: &Runtime) -> Result<(), String> {
    match available() {
        Some(available) => compare(runtime, available),
        None => Ok(()),
    }
}

fn compare(runtime: &Runtime, available: u64) -> Result<(), String> {
    let packets = if runtime.hugepages { 0 } else { runtime.memory.as_bytes() };
    let tables = table_bytes(runtime);
    let needed = tables.saturating_add(packets).saturating_add(RESERVE);
    if needed <= available {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let and_packets = if packets > 0 { format!(" and packets {} MiB", mib(packets)) } else { String::new() };
    Err(format!(
        "too little memory: connection tables need {} MiB ({} workers with max_connections = {}){and_packets}, and {} MiB \
         are available; lower runtime.max_connections, or free some memory",
        mib(tables),
        runtime.workers.len(),
        runtime.max_connections,
        available >> 20
    ))
}

/// Whether the tables fit into the large pages that nobody uses right now.
pub fn large_pages_fit(runtime: &Runtime) -> bool {
    let free = number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    runtime.hugepages && free.is_some_and(|pages| pages * (2 << 20) >= table_bytes(runtime) + RESERVE)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Bytes that can be had without swapping.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_packets_must_fit() {
        let runtime = Runtime {
            workers: vec![1, 2],
            hugepages: false,
            memory: ctl::config::Size::from_mebibytes(1024),
            max_connections: 1_000_000,
            ..Runtime::default()
        };
        assert_eq!(compare(&runtime, 2 << 30), Ok(()));
        let error = compare(&runtime, 1 << 30).unwrap_err();
        assert!(
            error.contains("522 MiB (2 workers with max_connections = 1000000) and packets 1024 MiB"),
            "{error}"
        );
    }
}
