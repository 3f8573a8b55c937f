//! The libraries to link, and how.
//!
//! Dynamic: the libraries that the crate calls; EAL loads the drivers at run time from the folder compiled into it.
//! Static (feature `static`): the same libraries and a chosen set of drivers as archives, whole, because nothing refers to
//! a driver by name: its constructor registers it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Shared libraries that may hold a bound function. Releases differ (logging moved into `rte_log` in 24.03), so those that
/// the installed one does not list are left out.
const CALLED: &[&str] =
    &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "rte_log", "rte_kvargs"];

/// Archives of the drivers' dependencies and of the libraries, from users to used.
const CORE: &[&str] = &[
    "rte_vhost",
    "rte_pdump",
    "rte_pcapng",
    "rte_bpf",
    "rte_cryptodev",
    "rte_dmadev",
    "rte_sched",
    "rte_ip_frag",
    "rte_gso",
    "rte_gro",
    "rte_security",
    "rte_hash",
    "rte_timer",
    "rte_pci",
    "rte_ethdev",
    "rte_meter",
    "rte_net",
    "rte_mbuf",
    "rte_mempool",
    "rte_rcu",
    "rte_ring",
    "rte_eal",
    "rte_argparse",
    "rte_log",
    "rte_telemetry",
    "rte_kvargs",
];

/// What every binary needs besides: buses and the default pool implementation.
const ALWAYS: &[&str] = &["rte_bus_pci", "rte_bus_vdev", "rte_mempool_ring"];

/// System libraries of the core set.
const SYSTEM: &[&str] =
    &["numa", "bsd", "md", "m", "dl", "rt", "pthread", "atomic", "elf", "z", "crypto", "jansson", "fdt"];

/// A driver: its archive, further archives and system libraries it needs. Left out if one of them is not installed.
struct Driver(&'static str, &'static [&'static str], &'static [&'static str]);

const DRIVERS: &[Driver] = &[
    Driver("rte_net_af_packet", &[], &[]),
    Driver("rte_net_af_xdp", &[], &["xdp", "bpf"]),
    Driver("rte_net_virtio", &[], &[]),
    Driver("rte_net_vhost", &[], &[]),
    Driver("rte_net_memif", &[], &[]),
    Driver("rte_net_tap", &[], &[]),
    Driver("rte_net_pcap", &[], &["pcap"]),
    Driver("rte_net_null", &[], &[]),
    Driver("rte_net_ring", &[], &[]),
    Driver("rte_net_ixgbe", &[], &[]),
    Driver("rte_net_i40e", &[], &[]),
    Driver("rte_net_ice", &["rte_common_iavf"], &[]),
    Driver("rte_net_iavf", &["rte_common_iavf"], &[]),
    Driver("rte_net_ena", &[], &[]),
    Driver("rte_net_e1000", &[], &[]),
    Driver("rte_net_vmxnet3", &[], &[]),
    Driver("rte_net_bond", &[], &[]),
    Driver("rte_net_mlx5", &["rte_common_mlx5", "rte_bus_auxiliary"], &["mlx5", "ibverbs"]),
];

/// Prints the link lines.
pub(crate) fn emit() {
    if std::env::var_os("CARGO_FEATURE_STATIC").is_some() { archives() } else { shared() }
}

fn shared() {
    let listed = crate::pkg_config("--libs").unwrap_or_default();
    for word in listed.split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
    for library in CALLED {
        if listed.split_whitespace().any(|word| word.strip_prefix("-l") == Some(library)) {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
}

fn archives() {
    let folder = PathBuf::from(crate::pkg_config("--variable=libdir").unwrap_or_default());
    if !archive_exists(&folder, "rte_eal") {
        crate::fail(&format!(
            "DPDK's archives (librte_eal.a) are not in {}: apt-get install libdpdk-dev",
            folder.display()
        ));
    }
    println!("cargo::rustc-link-search=native={}", folder.display());

    let mut linked: Vec<&str> = Vec::new();
    let mut system = SYSTEM.to_vec();
    let mut left_out = Vec::new();
    for Driver(name, companions, libraries) in DRIVERS {
        let complete = archive_exists(&folder, name)
            && companions.iter().all(|companion| archive_exists(&folder, companion))
            && libraries.iter().all(|library| system_library(library).is_some());
        if complete {
            linked.push(name);
            linked.extend(*companions);
            system.extend(*libraries);
        } else {
            left_out.push(*name);
        }
    }
    linked.extend(ALWAYS);
    linked.extend(CORE.iter().filter(|name| archive_exists(&folder, name)));

    let mut seen = Vec::new();
    for archive in linked {
        // A library named twice with modifiers is an error to rustc.
        if !seen.contains(&archive) {
            println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={archive}");
            seen.push(archive);
        }
    }
    for library in system {
        // Named by its own folder: some (libatomic) are only in the compiler's.
        if let Some(path) = system_library(library) {
            if let Some(parent) = path.parent() {
                println!("cargo::rustc-link-search=native={}", parent.display());
            }
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
    if !left_out.is_empty() {
        println!(
            "cargo::warning=static drivers left out, their libraries are not installed: {}",
            left_out.join(" ")
        );
    }
}

fn archive_exists(folder: &Path, name: &str) -> bool {
    folder.join(format!("lib{name}.a")).exists()
}

/// Where the C compiler finds a shared library; `None` if it is not installed.
fn system_library(name: &str) -> Option<PathBuf> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(compiler).arg(format!("-print-file-name=lib{name}.so")).output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // An unknown file comes back as it was given, without a folder.
    path.is_absolute().then_some(path)
}
