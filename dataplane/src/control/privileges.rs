//! What the daemon may still do once it runs: as little as its ports need.
//!
//! Sockets, devices and memory are opened at start, with whatever that takes. From then on nothing but frames goes through
//! them, which needs no privilege: physical ports and AF_PACKET keep none.

use ctl::config::{Config, Port};

/// A capability, by its number in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Links, addresses and XDP programs of interfaces.
    NetAdmin = 12,
    /// Raw packet queues of the kernel.
    NetRaw = 13,
    /// Maps of XDP programs.
    Bpf = 39,
}

impl Capability {
    const ALL: [Self; 3] = [Self::NetAdmin, Self::NetRaw, Self::Bpf];

    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// The capabilities that are needed while `config` runs, bit by bit. `drivers` are those of its ports, as DPDK names them.
pub fn kept<'a>(config: &Config, drivers: impl IntoIterator<Item = &'a str>) -> u64 {
    let ports = config.ports.iter().flat_map(of_port);
    // Addresses and carrier of the host's interfaces follow the configuration and the cable.
    let hosts =
        config.ports.iter().filter(|port| port.host_interface.is_some()).map(|_| &Capability::NetAdmin);
    let drivers = drivers.into_iter().flat_map(of_driver);
    ports.chain(hosts).chain(drivers).fold(0, |set, capability| set | capability.bit())
}

fn of_port(port: &Port) -> &'static [Capability] {
    let device = port.device.as_str();
    if device.starts_with("net_af_xdp") {
        // Its program is taken off the interface at the end: nothing would reach the kernel there otherwise.
        &[Capability::NetAdmin, Capability::Bpf]
    } else if device.starts_with("net_tap") {
        // The driver sets its interface up and down.
        &[Capability::NetAdmin]
    } else {
        &[]
    }
}

fn of_driver(driver: &str) -> &'static [Capability] {
    // These share the device with the kernel, whose interface they change, and ask it for queues and rules.
    if driver.contains("mlx5") || driver.contains("mlx4") {
        &[Capability::NetAdmin, Capability::NetRaw]
    } else {
        &[]
    }
}

/// `no capability`, or the names of those in `set`.
pub fn words(set: u64) -> String {
    let names: Vec<_> =
        Capability::ALL.iter().filter(|one| set & one.bit() != 0).map(|one| one.as_str()).collect();
    if names.is_empty() { "no capability".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(devices: &[&str]) -> Config {
        let port =
            |(n, device): (usize, &&str)| format!("[[port]]\nname = \"p{n}\"\ndevice = \"{device}\"\n");
        let ports: Vec<String> = devices.iter().enumerate().map(port).collect();
        Config::parse(&ports.concat(), "test").unwrap()
    }

    #[test]
    fn what_is_kept_follows_from_the_ports() {
        let kept = |devices: &[&str], drivers: &[&str]| {
            words(super::kept(&config(devices), drivers.iter().copied()))
        };
        assert_eq!(kept(&["net_af_packet0,iface=eth1", "0000:3b:00.0"], &["net_ixgbe"]), "no capability");
        assert_eq!(kept(&["net_virtio_user0,path=/x"], &["net_virtio_user"]), "no capability");
        assert_eq!(kept(&["net_af_xdp0,iface=eth1"], &[]), "CAP_NET_ADMIN, CAP_BPF");
        assert_eq!(kept(&["net_null0", "net_tap0"], &[]), "CAP_NET_ADMIN");
        let mut with_host = config(&["net_null0"]);
        with_host.ports[0].host_interface = Some("wan0".into());
        assert_eq!(words(super::kept(&with_host, [])), "CAP_NET_ADMIN");
        assert_eq!(kept(&["0000:3b:00.0"], &["mlx5_pci"]), "CAP_NET_ADMIN, CAP_NET_RAW");
        // linux/capability.h
        assert_eq!([12, 13, 39].map(|n| 1u64 << n), Capability::ALL.map(Capability::bit));
    }
}
