//! Limits of the process, and who may read and write its files.

use super::{Findings, Host, MACHINE, devices};
use crate::api::Level;
use crate::config::Config;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Connections of the API and of DPDK's devices, with room.
const OPEN_FILES: u64 = 1024;

/// The soft limit of a line of `/proc/self/limits`; `None` without one.
fn limit(host: &Host, name: &str) -> Option<u64> {
    let text = host.text("/proc/self/limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn limits(host: &Host, config: Option<&Config>, findings: &mut Findings) {
    let check = "memlock";
    let wanted = config.filter(|config| config.ports.iter().any(devices::is_pci));
    match (wanted.map(|config| config.runtime.memory.as_bytes()), limit(host, "Max locked memory")) {
        (Some(wanted), Some(bytes)) if bytes < wanted => findings.add(
            Level::Warning,
            check,
            MACHINE,
            format!(
                "a process here may lock {} MiB of memory, the devices need {} MiB",
                bytes >> 20,
                wanted >> 20
            ),
            "VFIO maps packet memory for the device only as far as that, unless the process has CAP_IPC_LOCK",
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited",
        ),
        _ => findings.ok(check, MACHINE, "enough memory may be locked"),
    }
    match limit(host, "Max open files") {
        Some(files) if files < OPEN_FILES => findings.add(
            Level::Warning,
            "open_files",
            MACHINE,
            format!("a process here may open {files} files"),
            "connections to the control socket and devices of many queues need more",
            format!("LimitNOFILE={} in the unit, or ulimit -n", OPEN_FILES * 64),
        ),
        _ => findings.ok("open_files", MACHINE, "enough files may be opened"),
    }
}

pub(super) fn permissions(host: &Host, config: &Config, file: &Path, findings: &mut Findings) {
    let metadata = |path: &Path| std::fs::metadata(host.path(&path.to_string_lossy())).ok();
    let (check, shown) = ("config_file", file.display());
    match metadata(file).map(|found| found.mode()) {
        Some(mode) if mode & 0o022 != 0 => findings.add(
            Level::Problem,
            check,
            MACHINE,
            format!("{shown} can be written by others than its owner (mode {:04o})", mode & 0o7777),
            "whoever can write it decides where the traffic goes",
            format!("chmod go-w {shown}"),
        ),
        Some(mode) if mode & 0o004 != 0 && has_secrets(config) => findings.add(
            Level::Warning,
            check,
            MACHINE,
            format!("{shown} can be read by everybody, and has payloads or queries of health checks"),
            "these often hold tokens or passwords",
            format!("chmod o-r {shown}"),
        ),
        Some(_) => findings.ok(check, MACHINE, format!("{shown} is its owner's to change")),
        None => {}
    }
    let socket = &config.runtime.socket;
    let shown = socket.display();
    match metadata(socket).map(|found| found.mode()) {
        Some(mode) if mode & 0o007 != 0 => findings.add(
            Level::Warning,
            "socket",
            MACHINE,
            format!("everybody may connect to {shown} (mode {:04o})", mode & 0o7777),
            "who is on this machine sees clients and backends",
            format!("chmod 0660 {shown}; set runtime.socket_group for those who should"),
        ),
        Some(_) => findings.ok("socket", MACHINE, format!("{shown} is for its owner and its group")),
        None => {}
    }
}

/// Whether health checks send what may be meant for the backends alone.
fn has_secrets(config: &Config) -> bool {
    config
        .services
        .iter()
        .filter_map(|service| service.health.as_ref())
        .any(|health| health.payload.is_some() || health.path.as_ref().is_some_and(|path| path.contains('?')))
}
