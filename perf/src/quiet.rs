//! Whether a measurement had its core to itself.
//!
//! A window in which the kernel ran something else, or the hypervisor ran another machine, measures that. The kernel
//! counts both: the time that this thread was ready and waited, and the time that its CPU was stolen.

use std::fs;
use std::time::Instant;

/// Most of a window that may be taken, as a share of it.
const TOLERATED: f64 = 0.02;
/// Nanoseconds of one unit of `/proc/stat`, which counts in hundredths of a second on every Linux.
const TICK_NANOS: u64 = 10_000_000;

/// A window of the current thread, which stays on one CPU.
#[derive(Debug)]
pub(crate) struct Window {
    cpu: usize,
    start: Instant,
    waited: u64,
    stolen: u64,
}

impl Window {
    pub(crate) fn open(cpu: usize) -> Self {
        let (waited, stolen) = (waited(), stolen(cpu));
        Self { cpu, start: Instant::now(), waited, stolen }
    }

    /// Whether so much of it went to something else that its figures mean nothing.
    pub(crate) fn disturbed(&self) -> bool {
        let taken = (waited() - self.waited) + (stolen(self.cpu) - self.stolen);
        too_much(taken, self.start.elapsed().as_nanos() as u64)
    }
}

fn too_much(taken: u64, wall: u64) -> bool {
    taken as f64 > wall as f64 * TOLERATED
}

/// Nanoseconds that the current thread was ready and did not run; 0 where the kernel does not count them.
fn waited() -> u64 {
    fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| parse_waited(&text)).unwrap_or(0)
}

/// Nanoseconds that the hypervisor gave the CPU to others; 0 on a machine of its own.
fn stolen(cpu: usize) -> u64 {
    fs::read_to_string("/proc/stat").ok().and_then(|text| parse_stolen(&text, cpu)).unwrap_or(0)
}

/// The second number of a schedstat line: "time spent waiting on a runqueue".
fn parse_waited(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// The eighth number of the CPU's line.
fn parse_stolen(text: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
    line.split_whitespace().nth(8)?.parse::<u64>().ok().map(|ticks| ticks * TICK_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        assert_eq!(parse_waited("1250 69173 1\n"), Some(69173));
        assert_eq!(parse_waited("nonsense"), None);
        let stat = "cpu  9 9 9 9 9 9 9 99 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu10 1 2 3 4 5 6 7 80 0 0\n";
        assert_eq!((parse_stolen(stat, 0), parse_stolen(stat, 10)), (Some(80_000_000), Some(800_000_000)));
        assert_eq!(parse_stolen(stat, 1), None);
    }

    #[test]
    fn a_fiftieth_is_tolerated() {
        assert!(!too_much(0, 0) && !too_much(2_000, 100_000));
        assert!(too_much(2_001, 100_000));
    }
}
