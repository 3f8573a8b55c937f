//! The time stamp counter as a worker's clock.

use crate::worker::Clock;

/// The CPU's time stamp counter, at the rate that EAL measured. On CPUs without one, the system's monotonic clock.
#[derive(Debug, Clone)]
pub struct TscClock {
    hertz: u64,
    #[cfg(not(target_arch = "x86_64"))]
    origin: std::time::Instant,
}

impl TscClock {
    /// The rate is EAL's, which is why one has to be given.
    #[cfg(target_arch = "x86_64")]
    pub fn new(_eal: &super::Eal) -> Self {
        // SAFETY: EAL is initialised as long as `_eal` exists; the call reads a number.
        Self { hertz: unsafe { dpdk_sys::rte_get_tsc_hz() } }
    }

    /// Nanoseconds.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn new(_eal: &super::Eal) -> Self {
        Self { hertz: 1_000_000_000, origin: std::time::Instant::now() }
    }
}

impl Clock for TscClock {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn cycles(&mut self) -> u64 {
        // SAFETY: every x86-64 CPU has the instruction, and it touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn cycles(&mut self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn hertz(&self) -> u64 {
        self.hertz
    }
}

/// Lets the current thread sleep as short as it asks for: by default the kernel adds up to 50 µs to each sleep, to wake
/// several threads at once.
pub fn sleep_precisely() {
    // SAFETY: sets a number of the current thread; a kernel that refuses leaves it as it was.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}
