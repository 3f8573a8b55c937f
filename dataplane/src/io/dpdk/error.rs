//! What can go wrong outside the packet path: what happened, why, and what to do.

use core::ffi::{CStr, c_int};

/// A refusal by DPDK or the system, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DPDK keeps its state in globals.
    #[error("DPDK was already started in this process; it can be started only once: restart the program")]
    AlreadyStarted,

    /// The kernel has no hugepages at all.
    #[error(
        "no hugepages are free (of {reserved_mib} MiB reserved); reserve some, for example \
         `sysctl -w vm.nr_hugepages=512` for 1 GiB, or set `hugepages = false` for a trial"
    )]
    NoHugepages {
        /// MiB of hugepages reserved, free or not.
        reserved_mib: u64,
    },

    /// There are hugepages, but fewer than the configuration asks for.
    #[error(
        "{wanted_mib} MiB of hugepages are wanted and {free_mib} MiB are free; reserve more with \
         `sysctl -w vm.nr_hugepages=…` (2 MiB each), or lower `memory`"
    )]
    TooFewHugepages {
        /// MiB asked for.
        wanted_mib: u64,
        /// MiB free.
        free_mib: u64,
    },

    /// `rte_eal_init` refused.
    #[error("DPDK does not start: {reason}; {advice}")]
    Start {
        /// What DPDK said.
        reason: String,
        /// What to do.
        advice: String,
    },

    /// A packet pool does not fit.
    #[error(
        "no memory for {mbufs} packet buffers of {bytes} bytes each: {reason}; raise `memory` or the hugepages reserved"
    )]
    Pool {
        /// Buffers asked for.
        mbufs: u32,
        /// Size of one in bytes, with its header.
        bytes: u32,
        /// What DPDK said.
        reason: String,
    },

    /// A second pool would break ports that free transmitted packets into the first without looking.
    #[error(
        "a packet pool cannot be added while a port relies on there being one only; create all pools before opening ports"
    )]
    SecondPool,

    /// The string does not name a device that can be opened.
    #[error("device {device:?} is unknown: {reason}; {advice}")]
    UnknownDevice {
        /// As configured.
        device: String,
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },

    /// The device is there, and refuses.
    #[error("device {device:?}: {step} failed: {reason}; {advice}")]
    Device {
        /// As configured.
        device: String,
        /// What was being done.
        step: &'static str,
        /// What DPDK said.
        reason: String,
        /// What to do.
        advice: String,
    },

    /// A device can be opened once.
    #[error("device {device:?} is already open; name it in one [[port]] only")]
    DeviceInUse {
        /// As configured.
        device: String,
    },

    /// A worker or control CPU cannot be used.
    #[error("CPU {cpu} cannot be used: {reason}; online are {online}")]
    Cpu {
        /// As configured.
        cpu: usize,
        /// Why.
        reason: String,
        /// The kernel's list of online CPUs.
        online: String,
    },

    /// A thread could not be created or made known to DPDK.
    #[error("worker thread {name:?} does not start: {reason}")]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },

    /// An argument cannot be passed to C.
    #[error("{what} {value:?} holds a zero byte")]
    ZeroByte {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// DPDK's text for an errno; negative values are taken as positive ones.
pub(super) fn errno_text(errno: c_int) -> String {
    // SAFETY: rte_strerror takes any number and returns a terminated string that lives until the thread's next call; it
    // is copied here.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno.abs())).to_string_lossy().into_owned() }
}

/// `errno`'s text and what DPDK logged about it since `mark`, in one line. A driver's plain -1 reads as EPERM though nobody
/// checked a permission, so then what was logged, if anything, stands alone.
pub(super) fn explain(errno: c_int, mark: u64) -> String {
    let said = super::log::since(mark);
    match (errno.abs(), said.is_empty()) {
        (libc::EPERM, true) => "the driver gives no reason".into(),
        (libc::EPERM, false) => format!("DPDK said: {said}"),
        (_, true) => errno_text(errno),
        (_, false) => format!("{} (DPDK said: {said})", errno_text(errno)),
    }
}
