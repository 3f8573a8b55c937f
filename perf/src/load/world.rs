//! Who is who on the link: the addresses that the generator plays, and the configuration of `sluiced` that fits them.

use crate::traffic::{self, BACKEND_PORT, Family, SERVICE_PORT};
use clap::{Args, ValueEnum};
use dataplane::wire::ethernet::Mac;
use serde::Serialize;
use std::fmt::Write as _;
use std::net::IpAddr;

/// What the device under test does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It swaps the hardware addresses: `testpmd` in mode `macswap`.
    Echo,
    Nat,
    FullNat,
    Dsr,
    Ipip,
    Gue,
    Gre,
}

impl Mode {
    /// Whether answers come back through the device.
    pub(crate) fn has_replies(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat)
    }

    /// Whether packets arrive in another packet.
    pub(crate) fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue | Self::Gre)
    }

    /// Whether the backend is named by its own address and port.
    pub(crate) fn translates(self) -> bool {
        self.has_replies()
    }
}

/// Which packets are sent, and through what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Scene {
    /// What the device under test does
    #[arg(long, value_enum, default_value_t = Mode::Nat)]
    pub(crate) mode: Mode,
    #[arg(long, value_enum, default_value_t = Family::V4)]
    pub(crate) family: Family,
    /// Flows, each with a client address and port of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) flows: u32,
    /// Backends of the service
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub(crate) backends: u8,
}

/// The generator's hardware address as the clients' gateway.
const GATEWAY: Mac = traffic::PEER;
/// And as backend `n`, in the last byte.
const BACKEND_PREFIX: [u8; 5] = [2, 0, 0, 0, 0xbb];

/// One side of the link, as the generator plays it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    /// The balancer's addresses there.
    pub(crate) balancer_v4: [u8; 4],
    pub(crate) balancer_v6: u128,
    /// The gateway's, for clients beyond it; the backends' subnet has one too, from which questions are asked.
    pub(crate) gateway_v4: [u8; 4],
    pub(crate) gateway_v6: u128,
}

/// Ports of the device and what is on their subnets: clients behind the first, backends on the last.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) sides: Vec<Side>,
}

/// Whom the generator plays when a frame is addressed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Backend(u8),
}

const WAN: Side = Side {
    balancer_v4: [10, 0, 0, 2],
    balancer_v6: 0x2001_0db8_0000_0000_0000_0000_0000_0002,
    gateway_v4: [10, 0, 0, 1],
    gateway_v6: 0x2001_0db8_0000_0000_0000_0000_0000_0001,
};
const LAN: Side = Side {
    balancer_v4: [10, 1, 0, 1],
    balancer_v6: 0x2001_0db8_0001_0000_0000_0000_0000_0001,
    gateway_v4: [10, 1, 0, 254],
    gateway_v6: 0x2001_0db8_0001_0000_0000_0000_0000_00fe,
};

impl World {
    /// One port (one-arm) or two.
    pub(crate) fn new(scene: &Scene, ports: usize) -> Self {
        let sides = if ports > 1 { vec![WAN, LAN] } else { vec![LAN] };
        Self { scene: scene.clone(), sides }
    }

    pub(crate) fn gateway_mac() -> Mac {
        GATEWAY
    }

    pub(crate) fn backend_mac(n: u8) -> Mac {
        let [a, b, c, d, e] = BACKEND_PREFIX;
        Mac([a, b, c, d, e, n])
    }

    /// Whom the generator plays at this hardware address.
    pub(crate) fn role(&self, mac: Mac) -> Option<Role> {
        match mac.0 {
            _ if mac == GATEWAY => Some(Role::Gateway),
            [prefix @ .., n] if prefix == BACKEND_PREFIX && n < self.scene.backends => Some(Role::Backend(n)),
            _ => None,
        }
    }

    /// The hardware address of `address`, if the generator plays it on this side.
    pub(crate) fn mac_of(&self, side: usize, address: IpAddr) -> Option<Mac> {
        let here = &self.sides[side];
        if address == IpAddr::from(here.gateway_v4) || address == IpAddr::from(here.gateway_v6.to_be_bytes())
        {
            return Some(GATEWAY);
        }
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        if side + 1 != self.sides.len() {
            return None;
        }
        (0..self.scene.backends).find(|&n| traffic::backend(n, family) == address).map(Self::backend_mac)
    }

    /// Port of the service, and of its backends.
    pub(crate) fn backend_port(&self) -> u16 {
        if self.scene.mode.translates() { BACKEND_PORT } else { SERVICE_PORT }
    }
}

/// How `sluiced` is to run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Daemon {
    /// Port of `sluiced`: one, or two with the backends behind the second
    #[arg(long = "port-device", required = true, num_args = 1)]
    pub(crate) ports: Vec<String>,
    /// Its control socket
    #[arg(long)]
    pub(crate) socket: String,
    #[arg(long, default_value_t = 1)]
    pub(crate) worker_cpu: u16,
    #[arg(long, default_value_t = 0)]
    pub(crate) control_cpu: u16,
    /// Connections that its table takes; by default enough for the flows
    #[arg(long)]
    pub(crate) max_connections: Option<u32>,
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) hugepages: bool,
    #[arg(long, default_value = "256M")]
    pub(crate) memory: String,
    #[arg(long, default_value = "busy")]
    pub(crate) poll: String,
    #[arg(long, default_value = "maglev")]
    pub(crate) scheduler: String,
}

/// The configuration file of a `sluiced` that balances this scene.
pub(crate) fn configuration(scene: &Scene, daemon: &Daemon) -> String {
    let world = World::new(scene, daemon.ports.len());
    let connections = daemon.max_connections.unwrap_or(scene.flows + scene.flows / 4 + 10_000);
    let mut text = format!(
        "[runtime]\nworkers = [{}]\ncontrol_cpus = [{}]\nsocket = \"{}\"\nhugepages = {}\nmemory = \"{}\"\n\
         max_connections = {connections}\npoll = \"{}\"\n",
        daemon.worker_cpu, daemon.control_cpu, daemon.socket, daemon.hugepages, daemon.memory, daemon.poll,
    );
    let v6 = |address: u128| IpAddr::from(address.to_be_bytes());
    for (n, (side, device)) in world.sides.iter().zip(&daemon.ports).enumerate() {
        let [v4, v6] = [IpAddr::from(side.balancer_v4), v6(side.balancer_v6)];
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[port]]\nname = \"port{n}\"\ndevice = \"{device}\"\naddresses = [\"{v4}/24\", \"{v6}/64\"]\n"
        );
    }
    let gateway = &world.sides[0];
    for (to, via) in [("0.0.0.0/0", IpAddr::from(gateway.gateway_v4)), ("::/0", v6(gateway.gateway_v6))] {
        let _ = write!(text, "\n[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n");
    }
    let (mode, tunnel) = match scene.mode {
        Mode::Echo | Mode::Nat => ("nat", None),
        Mode::FullNat => ("full-nat", None),
        Mode::Dsr => ("dsr", None),
        Mode::Ipip => ("dsr", Some("ipip")),
        Mode::Gue => ("dsr", Some("gue")),
        Mode::Gre => ("dsr", Some("gre")),
    };
    for protocol in ["udp", "tcp"] {
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{protocol}\"\nvip = \"{}\"\nports = \"{SERVICE_PORT}\"\nprotocol = \"{protocol}\"\n\
             mode = \"{mode}\"\nscheduler = \"{}\"\n",
            traffic::vip(scene.family),
            daemon.scheduler
        );
        if let Some(tunnel) = tunnel {
            let _ = writeln!(text, "tunnel = \"{tunnel}\"");
        }
        for n in 0..scene.backends {
            let address = std::net::SocketAddr::new(traffic::backend(n, scene.family), world.backend_port());
            let _ = write!(text, "[[service.backend]]\naddress = \"{address}\"\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(mode: Mode) -> Scene {
        Scene { mode, family: Family::V4, flows: 100, backends: 16 }
    }

    #[test]
    fn the_generator_answers_for_whom_it_plays_and_nobody_else() {
        let world = World::new(&scene(Mode::Nat), 2);
        let gateway = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(world.mac_of(0, gateway), Some(World::gateway_mac()));
        assert_eq!(world.mac_of(1, gateway), None);
        assert_eq!(world.mac_of(0, traffic::backend(3, Family::V4)), None, "backends are on the other side");
        assert_eq!(world.mac_of(1, traffic::backend(3, Family::V6)), Some(World::backend_mac(3)));
        assert_eq!(world.mac_of(1, traffic::backend(16, Family::V4)), None, "there are 16");
        assert_eq!(world.role(World::backend_mac(15)), Some(Role::Backend(15)));
        assert_eq!(world.role(World::backend_mac(16)), None);
        assert_eq!(world.role(World::gateway_mac()), Some(Role::Gateway));
    }

    #[test]
    fn sluiced_takes_the_configuration() {
        for mode in [Mode::Nat, Mode::FullNat, Mode::Dsr] {
            for ports in [1, 2] {
                let devices = (0..ports).map(|n| format!("net_null{n}")).collect();
                let daemon = Daemon {
                    ports: devices,
                    socket: "/run/sluice/test.sock".into(),
                    worker_cpu: 1,
                    control_cpu: 0,
                    max_connections: None,
                    hugepages: false,
                    memory: "256M".into(),
                    poll: "busy".into(),
                    scheduler: "maglev".into(),
                };
                let text = configuration(&scene(mode), &daemon);
                let loaded = ctl::config::Config::parse(&text, "test.toml");
                assert!(loaded.is_ok(), "{loaded:?}\n{text}");
            }
        }
    }
}
