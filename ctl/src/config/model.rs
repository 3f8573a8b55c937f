//! The configuration as the file describes it, with defaults filled in.

use super::origin::Origin;
use super::{
    Affinity, BackendAddress, HashField, HealthType, InterfaceAddress, Mode, Mss, Payload, Poll, Ports,
    Prefix, Protocol, Scheduler, Size, StatusSet, Steering, TimeSpan, Tunnel, UnknownConnections,
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A whole configuration file.
///
/// [`Config::parse`] makes one that has been checked; [`Config::to_toml`] prints it with every default
/// written out, and parsing that gives the same configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[runtime]`
    #[serde(default)]
    pub runtime: Runtime,
    /// `[[port]]`
    #[serde(rename = "port", default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// `[[route]]`
    #[serde(rename = "route", default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// `[[service]]`
    #[serde(rename = "service", default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Which line each item came from, for messages. Empty when the configuration came from elsewhere.
    #[serde(skip)]
    pub origin: Origin,
}

/// `[runtime]`: the process. Every key is optional, and so is the section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// CPU ids, one worker each. Default: the last CPU of the machine.
    pub workers: Vec<u16>,
    /// CPU ids of everything that is not a worker. Default: the others, or the same on a machine with
    /// one CPU.
    pub control_cpus: Vec<u16>,
    /// The control socket.
    pub socket: PathBuf,
    /// The group that may connect to it, by name or number; `None`: the daemon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_group: Option<String>,
    /// Who may change things besides root and the daemon's own user: users, and groups with an `@` in front.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<String>,
    /// Whether packet memory comes from hugepages. `false` is for tests and trials.
    pub hugepages: bool,
    /// Packet memory.
    pub memory: Size,
    /// Entries of the connection table, per worker.
    pub max_connections: u32,
    pub poll: Poll,
    /// What decides which worker owns a connection.
    pub steering: Steering,
    /// With `full-nat`: source ports towards backends, of each local address.
    pub local_ports: Ports,
    /// Further arguments for the EAL, passed through.
    pub eal_args: Vec<String>,
    /// Where Prometheus may scrape; `None`: only on the control socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether that listener also has a page for people.
    pub status_page: bool,
    /// Entries of each Maglev table, a prime. Balancers that share clients must agree.
    pub maglev_table_size: u32,
    /// Seed of the Maglev hash, 0 to 2^63 - 1. Balancers that share clients must agree.
    pub maglev_seed: u64,
}

impl Runtime {
    pub const DEFAULT_SOCKET: &'static str = "/run/sluice/sluice.sock";
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 1_000_000;
    pub const DEFAULT_MAGLEV_TABLE_SIZE: u32 = 65_537;
    /// None that is well known, and none of the last thousand, from which health checks speak.
    pub const DEFAULT_LOCAL_PORTS: Ports = Ports::new(1024, 64_511).expect("a range");
}

impl Default for Runtime {
    fn default() -> Self {
        let (workers, control_cpus) = super::Machine::current().default_cpus();
        Self {
            workers,
            control_cpus,
            socket: Self::DEFAULT_SOCKET.into(),
            socket_group: None,
            operators: Vec::new(),
            hugepages: true,
            memory: Size::from_mebibytes(1024),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            poll: Poll::Adaptive,
            steering: Steering::Auto,
            local_ports: Self::DEFAULT_LOCAL_PORTS,
            eal_args: Vec::new(),
            metrics: None,
            status_page: false,
            maglev_table_size: Self::DEFAULT_MAGLEV_TABLE_SIZE,
            maglev_seed: 0,
        }
    }
}

/// `[[port]]`: a DPDK Ethernet port, or a VLAN on one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What this port is called in commands and statistics.
    pub name: String,
    /// A PCI address, or a DPDK vdev such as `net_af_packet0,iface=eth1`. Empty: a sub-interface, with a `parent`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The port whose device a sub-interface is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The VLAN that all frames of this port are tagged with; `None`: they have no tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The port's own addresses with their subnets.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
    /// Bytes of an IP packet, without the Ethernet header and tag. Default of a sub-interface: its parent's.
    #[serde(default = "Port::default_mtu")]
    pub mtu: u16,
    /// Descriptors per receive queue; `None`: what the driver suggests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_descriptors: Option<u16>,
    /// Descriptors per transmit queue; `None`: what the driver suggests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_descriptors: Option<u16>,
    /// The kernel's interface that stands for this port: what is for the host itself goes there. `None`: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<String>,
    /// With `host_interface`: packets a second that the kernel gets; `None`: 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_rate: Option<u32>,
}

impl Port {
    pub const DEFAULT_MTU: u16 = 1500;
    pub const DEFAULT_HOST_RATE: u32 = 10_000;

    const fn default_mtu() -> u16 {
        Self::DEFAULT_MTU
    }

    /// Packets a second that the host's kernel gets from this port; `None`: none, for it has no interface there.
    pub fn rate_to_host(&self) -> Option<u32> {
        self.host_interface.as_ref().map(|_| self.host_rate.unwrap_or(Self::DEFAULT_HOST_RATE))
    }
}

/// `[[route]]`: which router leads to a prefix that is on no port's subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub to: Prefix,
    /// The router, on a subnet of one of the ports.
    pub via: IpAddr,
}

/// `[[service]]`: what clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Default: protocol, VIP and ports, such as `tcp-192.0.2.10-80`; see [`Service::default_name`].
    pub name: String,
    pub vip: Prefix,
    pub ports: Ports,
    pub protocol: Protocol,
    pub mode: Mode,
    /// With `dsr`: how backends are reached.
    #[serde(default = "Service::default_tunnel")]
    pub tunnel: Tunnel,
    /// With a tunnel: outer source addresses, one by flow, so that backends spread what arrives over their queues. For a
    /// backend of a family that is not among them, and when empty: the address of the port that leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_sources: Vec<Prefix>,
    /// With `gue`: the UDP port of the backends; `None`: [`Service::DEFAULT_GUE_PORT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
    /// With `gue`: 1, IP directly behind UDP, or 0, with a header of four bytes between. `None`: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_variant: Option<u8>,
    /// With `l3dsr`: the DSCP, 1 to 63, that the backends know the VIP by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// With TCP: no SYN that passes offers larger segments. `None`: they pass as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<Mss>,
    /// With `full-nat`: source addresses towards backends, which see those of their own family. Empty: those of the port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_addresses: Vec<IpAddr>,
    #[serde(default = "Service::default_scheduler")]
    pub scheduler: Scheduler,
    /// With a scheduler that hashes: what of a flow it looks at. Empty: all of it with `maglev`, the source address with
    /// `source-hash`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_fields: Vec<HashField>,
    #[serde(default = "Service::default_affinity")]
    pub affinity: Affinity,
    /// With `source-ip`: how long after its last new connection a client still finds the same backend; `None`:
    /// [`Service::DEFAULT_AFFINITY_TIMEOUT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_timeout: Option<TimeSpan>,
    /// With `source-ip`: IPv4 clients that agree in so many bits are one client; `None`: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_prefix_v4: Option<u8>,
    /// Likewise, for IPv6; `None`: 64, the subnet of one client with all its temporary addresses (RFC 8981).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_prefix_v6: Option<u8>,
    /// How long a backend that begins to serve takes to reach its weight; `None`: it has it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<TimeSpan>,
    /// With TCP: what becomes of segments of connections that are not known. `None`: `"adopt"` with `nat` and `dsr`,
    /// `"reset"` with `full-nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_connections: Option<UnknownConnections>,
    #[serde(default)]
    pub timeouts: Timeouts,
    /// `None`: backends are not checked and count as up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// `[[service.backend]]`
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
}

impl Service {
    /// Registered with IANA for "gue".
    pub const DEFAULT_GUE_PORT: u16 = 6080;
    /// Most addresses in `tunnel_sources`.
    pub const MAX_TUNNEL_SOURCES: usize = 256;
    pub const DEFAULT_AFFINITY_TIMEOUT: TimeSpan = TimeSpan::from_secs(600);
    pub const DEFAULT_AFFINITY_PREFIX_V4: u8 = 32;
    pub const DEFAULT_AFFINITY_PREFIX_V6: u8 = 64;

    pub(crate) const fn default_tunnel() -> Tunnel {
        Tunnel::None
    }

    pub(crate) const fn default_scheduler() -> Scheduler {
        Scheduler::Maglev
    }

    pub(crate) const fn default_affinity() -> Affinity {
        Affinity::None
    }

    /// What of a flow the scheduler looks at; nothing with one that does not hash. With affinity it is the client's
    /// prefix, whatever this says.
    pub fn hashed(&self) -> &[HashField] {
        match (self.scheduler, self.hash_fields.as_slice()) {
            (Scheduler::RoundRobin | Scheduler::LeastConnections, _) => &[],
            (Scheduler::Maglev, []) => HashField::ALL,
            (Scheduler::SourceHash, []) => &[HashField::SourceAddress],
            (_, fields) => fields,
        }
    }

    /// What becomes of TCP segments of connections that are not known. With `full-nat` none can go on: the backend knows it
    /// by a local end that is forgotten.
    pub fn on_unknown(&self) -> UnknownConnections {
        self.unknown_connections.unwrap_or(match self.mode {
            Mode::Nat | Mode::Dsr => UnknownConnections::Adopt,
            Mode::FullNat => UnknownConnections::Reset,
        })
    }

    /// With `source-ip`: how long a client is remembered.
    pub fn affinity_span(&self) -> Option<TimeSpan> {
        (self.affinity == Affinity::SourceIp)
            .then(|| self.affinity_timeout.unwrap_or(Self::DEFAULT_AFFINITY_TIMEOUT))
    }

    /// The name of a service that was given none. It stays the same as long as clients connect to the
    /// same thing, and holds no character that needs care in a URL or a shell: `tcp-192.0.2.10-80`,
    /// `udp-192.0.2.0_24-100-200`, `tcp-2001:db8::1-any`.
    pub fn default_name(protocol: Protocol, vip: Prefix, ports: Ports) -> String {
        let vip = vip.to_string().replace('/', "_");
        if ports.is_any() { format!("{protocol}-{vip}-any") } else { format!("{protocol}-{vip}-{ports}") }
    }

    /// Finds a backend by its address as written in the file.
    pub fn backend(&self, address: BackendAddress) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.address == address)
    }
}

/// `[service.timeouts]`: how long a connection may be idle before it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP, handshake not finished. Default 60 s.
    pub syn: TimeSpan,
    /// TCP, established. Default 2 h 4 min: "MUST NOT be less than 2 hours 4 minutes" (RFC 5382, REQ-5).
    pub established: TimeSpan,
    /// TCP, closing. Default 60 s.
    pub fin: TimeSpan,
    /// UDP. Default 2 min: "MUST NOT expire in less than two minutes" (RFC 4787, REQ-5).
    pub udp: TimeSpan,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            syn: TimeSpan::from_secs(60),
            established: TimeSpan::from_secs(7440),
            fin: TimeSpan::from_secs(60),
            udp: TimeSpan::from_secs(120),
        }
    }
}

/// `[service.health]`: how backends are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    #[serde(rename = "type")]
    pub kind: HealthType,
    /// From one check to the next. Default 2 s.
    #[serde(default = "Health::default_interval")]
    pub interval: TimeSpan,
    /// How long one check may take. Default 1 s.
    #[serde(default = "Health::default_timeout")]
    pub timeout: TimeSpan,
    /// Checks that must pass in a row before a backend is up. Default 2.
    #[serde(default = "Health::default_rise")]
    pub rise: u16,
    /// Checks that must fail in a row before a backend is down. Default 3.
    #[serde(default = "Health::default_fall")]
    pub fall: u16,
    /// Each check is late by up to this share of the interval, at random, in percent. Default 10.
    #[serde(default = "Health::default_jitter")]
    pub jitter: u8,
    /// The port that is asked; `None`: the backend's, or the service's if that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `http`, `https`: what is asked for. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http`, `https`: the Host header. Default: the address that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `http`, `https`: which answers pass. Default 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSet>,
    /// `http`, `https`: what the first 64 KiB of the answer must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// `tcp`, `udp`: what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// `tcp`, `udp`: what the answer must contain. `None`: with `udp` any answer, with `tcp` a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Payload>,
    /// `https`: whether the certificate must be valid for the name. Default `false`: what is checked is whether the
    /// backend answers, and backends often have certificates of their own making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_verify: Option<bool>,
    /// With `tls_verify`: PEM file of the authorities that may have signed the certificate. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// `https`: the server name that is sent (SNI) and that the certificate must be for. Default: `host`, or the
    /// address that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_name: Option<String>,
    /// Whether clients' connections count: a second in which most new ones got no answer or a reset is a failed
    /// check. Default `true`.
    #[serde(default = "Health::default_passive")]
    pub passive: bool,
    /// Percent. When fewer of the enabled backends are up, all are used. Default 1: when none is. 0: never.
    #[serde(default = "Health::default_panic_threshold")]
    pub panic_threshold: u8,
}

impl Health {
    pub(crate) const fn default_interval() -> TimeSpan {
        TimeSpan::from_secs(2)
    }

    pub(crate) const fn default_timeout() -> TimeSpan {
        TimeSpan::from_secs(1)
    }

    pub(crate) const fn default_rise() -> u16 {
        2
    }

    pub(crate) const fn default_fall() -> u16 {
        3
    }

    pub(crate) const fn default_jitter() -> u8 {
        10
    }

    pub(crate) const fn default_passive() -> bool {
        true
    }

    pub(crate) const fn default_panic_threshold() -> u8 {
        1
    }

    /// The port that is asked on `backend`, if the check has one.
    pub fn port_on(&self, service: &Service, backend: &Backend) -> Option<u16> {
        // What dsr delivers is not translated: the backend listens where clients ask.
        let own = if service.mode == Mode::Dsr { None } else { backend.address.port };
        self.port.or(own).or(service.ports.single()).or(backend.address.port)
    }
}

/// `[[service.backend]]`: a real server of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    pub address: BackendAddress,
    /// Share of new connections relative to the others, 0 to 65535. 0: no new connections.
    #[serde(default = "Backend::default_weight")]
    pub weight: u16,
    /// A higher tier serves only when every backend of all lower ones is down.
    #[serde(default)]
    pub tier: u8,
}

impl Backend {
    pub const DEFAULT_WEIGHT: u16 = 100;

    const fn default_weight() -> u16 {
        Self::DEFAULT_WEIGHT
    }
}
