//! Threads pinned to a CPU and known to DPDK.

use super::eal::Eal;
use super::error::{Error, errno_text};
use core::marker::PhantomData;
use core::mem;
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc;
use std::{fs, thread};

/// The current thread, pinned and registered with EAL, until this is dropped.
///
/// Registered threads have a number (lcore id), and with it a cache in every pool: allocation and free do not touch shared
/// memory. Bound to its thread: neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct RegisteredThread {
    _eal: Eal,
    _bound_to_its_thread: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// Pins the current thread to `cpu` and registers it.
    ///
    /// # Errors
    /// [`Error::Cpu`] if the CPU does not exist or is not allowed; [`Error::Thread`] if DPDK has no number left, or knows the
    /// thread already.
    pub fn register(eal: &Eal, cpu: usize) -> Result<Self, Error> {
        let name = || thread::current().name().unwrap_or("unnamed").to_string();
        check_cpu(cpu)?;
        if lcore_id().is_some() {
            return Err(Error::Thread { name: name(), reason: "DPDK knows it already".into() });
        }
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            return Err(cpu_error(
                cpu,
                "this process may not run there (a cpuset or container forbids it)".into(),
            ));
        }
        // SAFETY: EAL is initialised as long as `eal` exists, and the thread is not registered.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            // SAFETY: reads a thread-local number.
            let reason = errno_text(unsafe { dpdk_sys::sluice_errno() });
            return Err(Error::Thread {
                name: name(),
                reason: format!("DPDK does not register it: {reason}"),
            });
        }
        Ok(Self { _eal: eal.clone(), _bound_to_its_thread: PhantomData })
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this is the thread that was registered (the type cannot leave it), and EAL is still there.
        unsafe { dpdk_sys::rte_thread_unregister() }
    }
}

/// DPDK's number for the current thread; `None` if it is not registered.
pub(super) fn lcore_id() -> Option<u32> {
    // SAFETY: reads a thread-local number.
    match unsafe { dpdk_sys::sluice_lcore_id() } {
        u32::MAX => None,
        id => Some(id),
    }
}

/// A thread that runs on one CPU, registered with EAL for its whole life.
#[derive(Debug)]
pub struct WorkerThread<T> {
    handle: thread::JoinHandle<Option<T>>,
    cpu: usize,
}

impl<T: Send + 'static> WorkerThread<T> {
    /// Starts `run` on `cpu`. Returns once the thread is pinned and registered.
    ///
    /// # Errors
    /// As [`RegisteredThread::register`], or [`Error::Thread`] if the system refuses the thread; `run` is dropped then.
    pub fn spawn(
        eal: &Eal,
        cpu: usize,
        name: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Self, Error> {
        let failed = |reason: String| Error::Thread { name: name.to_string(), reason };
        let (report, outcome) = mpsc::sync_channel(1);
        let eal = eal.clone();
        let body = move || match RegisteredThread::register(&eal, cpu) {
            Ok(_registered) => {
                let _ = report.send(Ok(()));
                Some(run())
            }
            Err(error) => {
                let _ = report.send(Err(error));
                None
            }
        };
        let handle = thread::Builder::new()
            .name(name.to_string())
            .spawn(body)
            .map_err(|error| failed(error.to_string()))?;
        outcome.recv().map_err(|_| failed("it ended before it began".into()))??;
        Ok(Self { handle, cpu })
    }

    /// The CPU that it runs on.
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// Whether `run` has returned.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for the thread and returns what `run` returned.
    ///
    /// # Errors
    /// The value of its panic.
    pub fn join(self) -> thread::Result<T> {
        // Spawn succeeded, so `run` was called: there is a value unless it panicked.
        self.handle.join().map(|value| value.expect("the closure ran"))
    }
}

/// Refuses a CPU that is not online.
pub(super) fn check_cpu(cpu: usize) -> Result<(), Error> {
    if parse_cpu_list(&online()).contains(&cpu) {
        Ok(())
    } else {
        Err(cpu_error(cpu, "it does not exist or is offline".into()))
    }
}

fn cpu_error(cpu: usize, reason: String) -> Error {
    Error::Cpu { cpu, reason, online: online() }
}

/// The kernel's list of online CPUs, as "0-3,8".
fn online() -> String {
    fs::read_to_string("/sys/devices/system/cpu/online")
        .map(|text| text.trim().to_string())
        .unwrap_or_default()
}

fn parse_cpu_list(list: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// CPUs that the current thread may use.
pub(super) fn allowed_cpus() -> BTreeSet<usize> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    cpus.into_iter().map(|core| core.id).collect()
}

/// Confines the current thread to `cpus`, which exist.
pub(super) fn allow_cpus(cpus: &[usize]) -> Result<(), Error> {
    // SAFETY: a CPU set is a bit array, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(cpu_error(cpu, format!("only CPUs below {} can be named", libc::CPU_SETSIZE)));
        }
        // SAFETY: the index is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is initialised, its size is given, and 0 names the current thread.
    let status = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    if status == 0 {
        Ok(())
    } else {
        let cpu = cpus.first().copied().unwrap_or_default();
        Err(cpu_error(cpu, format!("the kernel refuses the control CPUs: {}", io::Error::last_os_error())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-2,5"), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(parse_cpu_list(""), BTreeSet::new());
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_named() {
        let error = check_cpu(4095).expect_err("no such CPU").to_string();
        assert!(error.contains("CPU 4095") && error.contains("online are"), "{error}");
    }
}
