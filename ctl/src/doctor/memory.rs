//! Pages.

use super::{Findings, Host, MACHINE, devices};
use crate::api::Level;
use crate::config::Config;

const MIB: u64 = 1 << 20;
/// Bytes of connection tables for each connection: about, and enough to reserve pages by.
const PER_CONNECTION: u64 = 270;
const RESERVE: u64 = 64 * MIB;

/// Bytes of pages of all sizes in a folder such as `/sys/kernel/mm/hugepages`: reserved, and free.
fn pages(host: &Host, folder: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for size in host.names(folder) {
        let kib =
            size.strip_prefix("hugepages-").and_then(|size| size.strip_suffix("kB")?.parse::<u64>().ok());
        let count = |name: &str| host.number(&format!("{folder}/{size}/{name}")).unwrap_or(0);
        let bytes = kib.unwrap_or(0) * 1024;
        sum.0 += bytes * count("nr_hugepages");
        sum.1 += bytes * count("free_hugepages");
    }
    sum
}

/// Without a configuration: what there is.
pub(super) fn reserved(host: &Host, findings: &mut Findings) {
    let (reserved, free) = pages(host, "/sys/kernel/mm/hugepages");
    let what = format!("{} MiB of hugepages are reserved, {} MiB of them free", reserved / MIB, free / MIB);
    findings.add(Level::Note, "hugepages", MACHINE, what, "", "");
}

pub(super) fn hugepages(host: &Host, config: &Config, findings: &mut Findings) {
    let runtime = &config.runtime;
    let check = "hugepages";
    if !runtime.hugepages {
        let why = "with ordinary pages address translation misses on nearly every packet, at a half to a third of the speed";
        let remedy = "reserve hugepages and remove hugepages = false";
        findings.add(Level::Note, check, MACHINE, "hugepages are not used (hugepages = false)", why, remedy);
        return;
    }
    let (reserved, free) = pages(host, "/sys/kernel/mm/hugepages");
    // A daemon that looks at itself has its pages already.
    let own = host.field("/proc/self/status", "HugetlbPages");
    let own = own.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024;
    let (available, wanted) = (free + own, runtime.memory.as_bytes());
    let tables = runtime.workers.len() as u64 * u64::from(runtime.max_connections) * PER_CONNECTION + RESERVE;
    let missing = (wanted + tables).saturating_sub(available).div_ceil(2 * MIB);
    let count = host.number("/proc/sys/vm/nr_hugepages").unwrap_or(0) + missing;
    let remedy = format!("sysctl -w vm.nr_hugepages={count}; then read it back, and reserve them at boot");
    if available < wanted {
        let what = format!(
            "{} MiB of hugepages are free (of {} MiB reserved), memory = \"{}\" is wanted",
            available / MIB,
            reserved / MIB,
            runtime.memory
        );
        findings.add(Level::Problem, check, MACHINE, what, "packet buffers must lie in hugepages", remedy);
    } else if available < wanted + tables {
        let what = format!(
            "{} MiB of hugepages hold the packet buffers, and not {} MiB of connection tables",
            available / MIB,
            tables / MIB
        );
        let why = "tables in ordinary pages cost a miss in address translation for each packet";
        findings.add(Level::Warning, check, MACHINE, what, why, remedy);
    } else {
        findings.ok(check, MACHINE, format!("{} MiB of hugepages are there for it", available / MIB));
    }
    per_node(host, config, findings);
}

/// Each node that has a NIC or a worker needs pages of its own.
fn per_node(host: &Host, config: &Config, findings: &mut Findings) {
    let nodes: Vec<u32> = host
        .names("/sys/devices/system/node")
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    if nodes.len() < 2 {
        return;
    }
    let ports = config.ports.iter().filter_map(|port| devices::numa_node(host, port));
    let workers = config.runtime.workers.iter().filter_map(|&cpu| super::cores::node(host, cpu));
    let mut used: Vec<u32> = ports.chain(workers).collect();
    used.sort_unstable();
    used.dedup();
    for node in used {
        let (reserved, free) = pages(host, &format!("/sys/devices/system/node/node{node}/hugepages"));
        let subject = format!("node {node}");
        if reserved == 0 {
            let file = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages");
            let wanted = config.runtime.memory.as_bytes().div_ceil(2 * MIB);
            findings.add(
                Level::Problem,
                "hugepages_numa",
                &subject,
                format!("node {node} has a NIC or a worker and no hugepages"),
                "buffers and tables are taken from the node where they are used",
                format!("echo {wanted} > {file}"),
            );
        } else {
            findings.ok(
                "hugepages_numa",
                &subject,
                format!("{} MiB of hugepages, {} MiB free", reserved / MIB, free / MIB),
            );
        }
    }
}

pub(super) fn transparent(host: &Host, findings: &mut Findings) {
    let check = "transparent_hugepages";
    let file = "/sys/kernel/mm/transparent_hugepage/enabled";
    match host.text(file) {
        Some(text) if text.contains("[always]") => findings.add(
            Level::Note,
            check,
            MACHINE,
            "transparent hugepages are always on",
            "the kernel moves memory about in the background, which now and then holds up a worker",
            format!("echo madvise > {file}"),
        ),
        Some(_) => findings.ok(check, MACHINE, "transparent hugepages are only for those who ask"),
        None => findings.ok(check, MACHINE, "this kernel has no transparent hugepages"),
    }
}
