//! NICs and interfaces: who drives them, where they are, whose the addresses are.

use super::{Findings, Host, cores};
use crate::api::Level;
use crate::config::{Config, Port};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// Where a port's packets come from.
enum Kind<'a> {
    /// A PCI address in full.
    Pci(String),
    /// A kernel's interface.
    Interface(&'a str),
    /// Nothing that the machine has.
    Software,
}

fn kind(port: &Port) -> Kind<'_> {
    let device = port.device.as_str();
    let name = device.split(',').next().unwrap_or(device);
    let is_pci = |text: &str| {
        let parts: Vec<&str> = text.split([':', '.']).collect();
        parts.len() == 4
            && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if is_pci(name) {
        return Kind::Pci(name.to_ascii_lowercase());
    }
    // Domain 0 may be left out.
    let full = format!("0000:{name}");
    if is_pci(&full) {
        return Kind::Pci(full.to_ascii_lowercase());
    }
    let on_interface = device.starts_with("net_af_packet") || device.starts_with("net_af_xdp");
    match device.split(',').find_map(|argument| argument.strip_prefix("iface=")) {
        Some(interface) if on_interface => Kind::Interface(interface),
        _ => Kind::Software,
    }
}

/// Whether a port is a PCI device, which DPDK drives by itself.
pub(super) fn is_pci(port: &Port) -> bool {
    matches!(kind(port), Kind::Pci(_))
}

fn folder(port: &Port) -> Option<String> {
    match kind(port) {
        Kind::Pci(address) => Some(format!("/sys/bus/pci/devices/{address}")),
        Kind::Interface(interface) => Some(format!("/sys/class/net/{interface}/device")),
        Kind::Software => None,
    }
}

/// The node of a port's device; `None` if there is none, or the firmware does not say.
pub(super) fn numa_node(host: &Host, port: &Port) -> Option<u32> {
    // -1: not known.
    host.text(&format!("{}/numa_node", folder(port)?))?.parse().ok()
}

pub(super) fn examine(host: &Host, config: &Config, findings: &mut Findings) {
    for port in &config.ports {
        match kind(port) {
            Kind::Pci(address) => pci(host, port, &address, findings),
            Kind::Interface(name) => interface(host, port, name, findings),
            Kind::Software => {}
        }
        numa(host, config, port, findings);
    }
    addresses(host, config, findings);
}

fn pci(host: &Host, port: &Port, address: &str, findings: &mut Findings) {
    let (check, subject) = ("driver", format!("port {}", port.name));
    let folder = format!("/sys/bus/pci/devices/{address}");
    let bind = format!("modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci {address}");
    if !host.exists(&folder) {
        let what = format!("there is no PCI device {address}");
        let remedy = "name another: dpdk-devbind.py --status-dev net";
        findings.add(Level::Problem, check, &subject, what, "the port cannot be opened", remedy);
        return;
    }
    match host.link(&format!("{folder}/driver")).as_deref() {
        Some("vfio-pci") => {
            findings.ok(check, &subject, format!("{address} is bound to vfio-pci"));
            iommu(host, &subject, address, findings);
        }
        Some(driver @ ("uio_pci_generic" | "igb_uio")) => findings.add(
            Level::Warning,
            check,
            &subject,
            format!("{address} is bound to {driver}"),
            "nothing confines what the device may write to, and root is needed for physical addresses",
            format!("turn the IOMMU on (intel_iommu=on iommu=pt), then {bind}"),
        ),
        Some(driver @ ("mlx5_core" | "mlx4_core")) => {
            findings.ok(check, &subject, format!("{address} stays with {driver}, which DPDK works beside"));
        }
        Some(driver) => {
            let interfaces = host.names(&format!("{folder}/net"));
            let up = interfaces.iter().find(|name| is_up(host, name));
            let interface =
                up.or(interfaces.first()).map_or_else(String::new, |name| format!(" (interface {name})"));
            let remedy = match up {
                Some(name) => {
                    format!("if nobody is logged in through it: ip link set {name} down; {bind}")
                }
                None => bind,
            };
            let what = format!("{address} is driven by the kernel's {driver}{interface}");
            findings.add(Level::Problem, check, &subject, what, "DPDK cannot take it", remedy);
        }
        None => {
            let what = format!("{address} is bound to no driver");
            findings.add(Level::Problem, check, &subject, what, "DPDK cannot reach it", bind);
        }
    }
}

fn iommu(host: &Host, subject: &str, address: &str, findings: &mut Findings) {
    let check = "iommu";
    let without = host.text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y");
    let Some(group) = host.link(&format!("/sys/bus/pci/devices/{address}/iommu_group")) else {
        let (level, why) = if without {
            (Level::Warning, "the device may write to all memory")
        } else {
            (Level::Problem, "VFIO refuses a device without an IOMMU")
        };
        let remedy = "turn VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on iommu=pt; in a guest without one: \
                      modprobe vfio enable_unsafe_noiommu_mode=1";
        findings.add(level, check, subject, format!("{address} is behind no IOMMU"), why, remedy);
        return;
    };
    let others = host.names(&format!("/sys/kernel/iommu_groups/{group}/devices"));
    let foreign: Vec<_> = others
        .into_iter()
        .filter(|other| other != address)
        .filter(|other| {
            let driver = host.link(&format!("/sys/bus/pci/devices/{other}/driver"));
            // Bridges may stay with the kernel.
            driver.is_some_and(|driver| !["vfio-pci", "pcieport"].contains(&driver.as_str()))
        })
        .collect();
    if foreign.is_empty() {
        findings.ok(check, subject, format!("{address} is in IOMMU group {group}"));
    } else {
        let what =
            format!("{} of {address}'s IOMMU group {group} still belong to the kernel", foreign.join(", "));
        let remedy = format!("dpdk-devbind.py --bind=vfio-pci {}", foreign.join(" "));
        findings.add(Level::Problem, check, subject, what, "VFIO takes a group as a whole", remedy);
    }
}

/// `IFF_UP` of the kernel's interface flags.
fn is_up(host: &Host, interface: &str) -> bool {
    let flags = host.text(&format!("/sys/class/net/{interface}/flags")).unwrap_or_default();
    u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 1 == 1)
}

fn interface(host: &Host, port: &Port, name: &str, findings: &mut Findings) {
    let subject = format!("port {}", port.name);
    let folder = format!("/sys/class/net/{name}");
    if !host.exists(&folder) {
        let what = format!("there is no interface {name}");
        let why = "the port cannot be opened";
        findings.add(
            Level::Problem,
            "interface",
            &subject,
            what,
            why,
            "ip -br link, in the network namespace of sluiced",
        );
        return;
    }
    let carrier = host.text(&format!("{folder}/carrier")).as_deref() == Some("1");
    let why = "no packet comes or goes";
    if !is_up(host, name) {
        let what = format!("the interface {name} is down");
        findings.add(Level::Problem, "interface", &subject, what, why, format!("ip link set {name} up"));
    } else if carrier {
        findings.ok("interface", &subject, format!("the interface {name} is up"));
    } else {
        let what = format!("the interface {name} has no carrier");
        findings.add(
            Level::Problem,
            "interface",
            &subject,
            what,
            why,
            format!("look at the cable: ethtool {name}"),
        );
    }
    match host.number(&format!("{folder}/mtu")) {
        Some(mtu) if mtu < u64::from(port.mtu) => findings.add(
            Level::Problem,
            "mtu",
            &subject,
            format!("the interface {name} takes {mtu} bytes, the port's mtu is {}", port.mtu),
            "larger packets are lost on the way out",
            format!("ip link set {name} mtu {}, or lower the port's mtu", port.mtu),
        ),
        Some(mtu) => findings.ok("mtu", &subject, format!("the interface {name} takes {mtu} bytes")),
        None => {}
    }
}

fn numa(host: &Host, config: &Config, port: &Port, findings: &mut Findings) {
    let Some(node) = numa_node(host, port) else { return };
    let (subject, check) = (format!("port {}", port.name), "numa");
    let far: Vec<String> = config
        .runtime
        .workers
        .iter()
        .filter(|&&cpu| cores::node(host, cpu).is_some_and(|of_cpu| of_cpu != node))
        .map(ToString::to_string)
        .collect();
    if far.is_empty() {
        findings.ok(check, &subject, format!("its device and the workers are on node {node}"));
    } else {
        let what = format!("its device is on node {node}, the workers on CPUs {} are not", far.join(", "));
        let remedy = format!("use CPUs of node {node}: cat /sys/devices/system/node/node{node}/cpulist");
        let why = "each packet crosses the link between the nodes twice";
        findings.add(Level::Warning, check, &subject, what, why, remedy);
    }
}

/// Addresses that the kernel of this network namespace answers for.
fn kernels(host: &Host) -> BTreeSet<IpAddr> {
    let mut own = BTreeSet::new();
    // A leaf of the trie is an address, and below it what it is: "/32 host LOCAL".
    let mut leaf = None;
    for line in host.text("/proc/net/fib_trie").unwrap_or_default().lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32") && line.ends_with("LOCAL") {
            own.extend(leaf.map(IpAddr::V4));
        }
    }
    for line in host.text("/proc/net/if_inet6").unwrap_or_default().lines() {
        let address = line.split_whitespace().next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        own.extend(address.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
    }
    own
}

fn addresses(host: &Host, config: &Config, findings: &mut Findings) {
    let kernels = kernels(host);
    let check = "addresses";
    // By the host's interface of a port the kernel has its addresses with the balancer's consent.
    let ports = config.ports.iter().filter(|port| port.host_interface.is_none()).flat_map(|port| {
        port.addresses.iter().map(move |own| (format!("port {}", port.name), own.address()))
    });
    let vips = config.services.iter().flat_map(|service| {
        let vip = service.vip.is_host().then(|| service.vip.address());
        let subject = format!("service {}", service.name);
        vip.into_iter()
            .chain(service.local_addresses.iter().copied())
            .map(move |address| (subject.clone(), address))
    });
    let mut told = BTreeSet::new();
    for (subject, address) in ports.chain(vips).filter(|(_, address)| kernels.contains(address)) {
        if told.insert(address) {
            findings.add(
                Level::Warning,
                check,
                &subject,
                format!("the host's kernel has the address {address} too"),
                "both answer for it, and the kernel resets connections that it does not know",
                format!(
                    "ip address | grep -F {address}; then ip address delete {address}/PREFIX dev INTERFACE"
                ),
            );
        }
    }
    if told.is_empty() {
        findings.ok(check, super::MACHINE, "no address of the balancer is the kernel's as well");
    }
}
