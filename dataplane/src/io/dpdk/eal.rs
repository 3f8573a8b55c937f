//! Starting and ending DPDK's environment abstraction layer (EAL).

use super::error::{Error, explain};
use super::log::{self, LogLevel, LogSink};
use super::thread::{allow_cpus, check_cpu};
use core::ffi::{CStr, c_char, c_int};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How to start DPDK.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Packet memory in hugepages; without, everything works at a fraction of the speed.
    pub hugepages: bool,
    /// MiB of packet memory to take at start. 0: as needed with hugepages, [`NO_HUGE_MIB`] without.
    pub memory_mib: u32,
    /// CPUs of the calling thread and of DPDK's own threads. Empty: those that the caller may use now.
    pub control_cpus: Vec<usize>,
    /// Prefix of DPDK's run-time files; unique to the process by default.
    pub file_prefix: Option<String>,
    /// More EAL arguments, passed last, so that they win.
    pub args: Vec<String>,
    /// Where DPDK's warnings go: standard error by default.
    pub log: Option<LogSink>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            hugepages: true,
            memory_mib: 0,
            control_cpus: Vec::new(),
            file_prefix: None,
            args: Vec::new(),
            log: None,
        }
    }
}

/// MiB of packet memory without hugepages, unless configured: that memory cannot grow.
const NO_HUGE_MIB: u32 = 256;

/// The PCI bus probes every device that it may, unless one is allowed by name: a NIC that the host uses must never be taken
/// by surprise. This is a host bridge, which no driver wants; ports are attached by name later.
const NO_PCI_DEVICE: &str = "0000:00:00.0";

/// DPDK, started. A handle: clones are the same environment, which ends when the last holder is gone.
#[derive(Debug, Clone)]
pub struct Eal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    _runtime_dir: RuntimeDir,
}

/// The folder of DPDK's run-time files, if its name is this process's alone: removed with what DPDK leaves in it.
#[derive(Debug)]
struct RuntimeDir(Option<PathBuf>);

impl RuntimeDir {
    /// To be called after `rte_eal_init`, successful or not.
    fn of_process() -> Self {
        // SAFETY: returns a static terminated string, empty until DPDK has made the folder; it is copied.
        let path = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
        let path = PathBuf::from(path.to_string_lossy().into_owned());
        Self(path.ends_with(own_prefix()).then_some(path))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// What is open, so that a promise made to a driver is kept.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Ports that a `Device` owns.
    pub(super) ports: BTreeSet<u16>,
    /// Pools that exist, also those never freed because packets were still out.
    pub(super) pools: u32,
    /// Ports that were promised that all packets come from one pool.
    pub(super) fast_free_ports: u32,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK. The calling thread is confined to the control CPUs, and so is every thread it makes later, unless that
    /// thread is pinned elsewhere.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] on a second call, also after a failed first one; [`Error::NoHugepages`] and
    /// [`Error::TooFewHugepages`] before anything is touched; [`Error::Cpu`] for a control CPU that cannot be used;
    /// [`Error::Start`] for what DPDK refuses.
    pub fn init(config: &EalConfig) -> Result<Self, Error> {
        for &cpu in &config.control_cpus {
            check_cpu(cpu)?;
        }
        if STARTED.load(Ordering::Acquire) {
            return Err(Error::AlreadyStarted);
        }
        if config.hugepages {
            check_hugepages(config.memory_mib)?;
        }
        let arguments = arguments(config)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyStarted);
        }
        if !config.control_cpus.is_empty() {
            // Before EAL starts: it confines its own threads to the caller's CPUs minus those of its lcores.
            allow_cpus(&config.control_cpus)?;
        }
        let shown = if config.args.iter().any(|arg| arg.starts_with("--log-level")) {
            LogLevel::Info
        } else {
            LogLevel::Warning
        };
        log::capture(config.log.unwrap_or(log::to_stderr), shown);

        let mark = log::mark();
        // Never freed: DPDK keeps pointers into its arguments.
        let mut argv: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
        let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        argv.push(ptr::null_mut());
        let argv = argv.leak();
        // SAFETY: `argv` holds `argc` terminated strings and a null, lives for ever, and DPDK may permute it. STARTED
        // makes this the only call in the process.
        let parsed = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        let runtime_dir = RuntimeDir::of_process();
        if parsed < 0 {
            // SAFETY: reads a thread-local number.
            let errno = unsafe { dpdk_sys::sluice_errno() };
            return Err(start_error(config, &explain(errno, mark)));
        }
        Ok(Self(Arc::new(Inner { state: Mutex::default(), _runtime_dir: runtime_dir })))
    }

    /// NUMA nodes with memory.
    pub fn memory_nodes(&self) -> Vec<u32> {
        // SAFETY: EAL is initialised as long as `self` exists.
        let count = unsafe { dpdk_sys::rte_socket_count() };
        // SAFETY: as above; an index below the count is valid.
        (0..count)
            .filter_map(|index| u32::try_from(unsafe { dpdk_sys::rte_socket_id_by_idx(index) }).ok())
            .collect()
    }

    /// Whether packet memory is in hugepages.
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: EAL is initialised as long as `self` exists.
        unsafe { dpdk_sys::rte_eal_has_hugepages() != 0 }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: every port, pool and registered thread holds an `Eal`, so none is left; packets hold their pool alive
        // (a pool with packets out is never freed and keeps its `Eal`).
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// Name and release of the DPDK in use, as "DPDK 22.11.11".
pub fn dpdk_version() -> String {
    // SAFETY: returns a static terminated string, with or without EAL.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}

/// The prefix that no other process has.
fn own_prefix() -> String {
    format!("sluice-{}", std::process::id())
}

/// The command line of EAL.
fn arguments(config: &EalConfig) -> Result<Vec<CString>, Error> {
    let mut line = vec![String::from("sluice"), String::from("--no-telemetry")];
    let prefix = config.file_prefix.clone().unwrap_or_else(own_prefix);
    line.push(format!("--file-prefix={prefix}"));

    let cpus = if config.control_cpus.is_empty() {
        super::thread::allowed_cpus()
    } else {
        config.control_cpus.iter().copied().collect()
    };
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    // One lcore that floats over the control CPUs; workers register as further ones.
    line.push(format!("--lcores=0@({})", cpus.join(",")));

    if config.hugepages {
        // virtio_user and vhost share memory by file descriptor and want few of them.
        line.extend(["--in-memory".into(), "--single-file-segments".into()]);
        if config.memory_mib > 0 {
            line.extend(["-m".into(), config.memory_mib.to_string()]);
        }
    } else {
        let memory = if config.memory_mib > 0 { config.memory_mib } else { NO_HUGE_MIB };
        line.extend(["--no-huge".into(), "-m".into(), memory.to_string()]);
    }
    let chooses_devices = |arg: &String| {
        ["-a", "-b", "--allow", "--block", "--no-pci"].iter().any(|option| arg.starts_with(option))
    };
    if !config.args.iter().any(chooses_devices) {
        line.push(format!("--allow={NO_PCI_DEVICE}"));
    }
    line.extend(config.args.iter().cloned());
    line.into_iter()
        .map(|value| CString::new(value.clone()).map_err(|_| Error::ZeroByte { what: "EAL argument", value }))
        .collect()
}

/// Hugepages of all sizes as the kernel counts them: MiB reserved and MiB free.
fn hugepages_mib() -> (u64, u64) {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return (0, 0) };
    let mut total = (0, 0);
    for entry in sizes.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib = name.trim_start_matches("hugepages-").trim_end_matches("kB").parse::<u64>().unwrap_or(0);
        let count = |file: &str| {
            fs::read_to_string(entry.path().join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        total.0 += count("nr_hugepages") * kib / 1024;
        total.1 += count("free_hugepages") * kib / 1024;
    }
    total
}

fn check_hugepages(wanted_mib: u32) -> Result<(), Error> {
    let (reserved_mib, free_mib) = hugepages_mib();
    let wanted_mib = u64::from(wanted_mib);
    if free_mib == 0 {
        Err(Error::NoHugepages { reserved_mib })
    } else if free_mib < wanted_mib {
        Err(Error::TooFewHugepages { wanted_mib, free_mib })
    } else {
        Ok(())
    }
}

/// Turns what DPDK said into advice.
fn start_error(config: &EalConfig, reason: &str) -> Error {
    let lower = reason.to_lowercase();
    let advice = if lower.contains("runtime directory") || lower.contains("runtime config") {
        "run as root, or set XDG_RUNTIME_DIR to a folder that the user may write to".to_string()
    } else if lower.contains("permission") || lower.contains("not permitted") {
        "run as root, or give the user CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_NET_RAW and its device nodes"
            .to_string()
    } else if lower.contains("memory") || lower.contains("hugepage") {
        "reserve more hugepages (`sysctl -w vm.nr_hugepages=…`), or lower `memory`".to_string()
    } else if config.args.is_empty() {
        "see the log lines above".to_string()
    } else {
        format!("check `eal_args` ({})", config.args.join(" "))
    };
    Error::Start { reason: reason.to_string(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &EalConfig) -> Vec<String> {
        arguments(config)
            .expect("arguments")
            .into_iter()
            .map(|arg| arg.into_string().expect("utf-8"))
            .collect()
    }

    #[test]
    fn no_huge_and_in_memory_exclude_each_other() {
        let huge = line(&EalConfig::default());
        assert!(huge.contains(&"--in-memory".into()) && !huge.contains(&"--no-huge".into()));
        let none = line(&EalConfig { hugepages: false, ..EalConfig::default() });
        assert!(none.contains(&"--no-huge".into()) && !none.contains(&"--in-memory".into()));
    }

    #[test]
    fn own_arguments_come_last_and_choose_devices() {
        let config = EalConfig { args: vec!["-a".into(), "0000:3b:00.0".into()], ..EalConfig::default() };
        let line = line(&config);
        assert_eq!(line[line.len() - 2..], ["-a", "0000:3b:00.0"]);
        assert!(!line.iter().any(|arg| arg.starts_with("--allow")));
    }

    #[test]
    fn control_cpus_are_one_lcore() {
        let config = EalConfig { control_cpus: vec![0, 1], ..EalConfig::default() };
        assert!(line(&config).contains(&"--lcores=0@(0,1)".into()));
    }
}
