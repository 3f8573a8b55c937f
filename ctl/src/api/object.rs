//! The objects of a running balancer and the changes that can be made to them.

use super::stats::PortStats;
use super::steering::PortSteering;
use crate::config::{
    Affinity, HashField, InterfaceAddress, Mode, Ports, Prefix, Protocol, Scheduler, Tunnel,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    Enabled,
    /// No new connections; established ones go on.
    Disabled,
    /// Like disabled, on the way to being taken out.
    Draining,
}

impl AdminState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Draining => "draining",
        }
    }
}

/// Whether a backend can serve. One that nothing checks counts as up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    Up,
    Down,
}

impl HealthState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// `GET /v1/status`: whether all is well, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    pub dpdk_version: String,
    pub pid: u32,
    pub uptime_seconds: f64,
    /// Of the published snapshot; every worker has acknowledged it.
    pub generation: u64,
    /// The file that the daemon was started with.
    pub config_file: String,
    pub workers: u64,
    pub ports: u64,
    /// Ports whose link is up.
    pub ports_up: u64,
    pub services: u64,
    /// Services with no backend that can take a connection.
    pub services_down: u64,
    pub backends: u64,
    /// Backends that are enabled and up.
    pub backends_up: u64,
    pub connections_active: u64,
    /// Room for connections, all workers together.
    pub connections_max: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub dropped_packets: u64,
    /// What an operator should know: degraded ports, missing hugepages, workers that share a CPU.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A service as it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub vip: Prefix,
    pub ports: Ports,
    pub protocol: Protocol,
    pub mode: Mode,
    pub tunnel: Tunnel,
    pub scheduler: Scheduler,
    /// What of a flow the scheduler hashes; empty if it does not, or affinity decides.
    #[serde(default)]
    pub hash_fields: Vec<HashField>,
    pub affinity: Affinity,
    /// How long after its last new connection a client is remembered; `None` without affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_timeout_seconds: Option<f64>,
    pub connections_active: u64,
    pub connections_total: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Too few backends are up, so all that are enabled are used; see `panic_threshold`.
    #[serde(default)]
    pub panic: bool,
    pub backends: Vec<Backend>,
}

/// A backend of a service as it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    pub service: String,
    /// As in the configuration file.
    pub address: String,
    pub admin: AdminState,
    /// It is no longer in the configuration, and listed until its connections are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    pub health: HealthState,
    /// Whether anything checks it; without a check it counts as up.
    pub health_checked: bool,
    /// Why the last check failed (empty if it passed), `not checked yet`, or `unchecked`.
    pub health_detail: String,
    /// How long it has been up or down; `None` before the first check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since_seconds: Option<f64>,
    /// How long the last check that passed took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_seconds: Option<f64>,
    pub weight: u16,
    /// What it has of its weight during a slow start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_weight: Option<u16>,
    #[serde(default)]
    pub tier: u8,
    pub connections_active: u64,
    pub connections_total: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    #[serde(default)]
    pub packets_out: u64,
    #[serde(default)]
    pub bytes_out: u64,
    /// While draining: time until the deadline; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_remaining_seconds: Option<f64>,
}

/// `POST …/drain`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// After this long the drain counts as late; `None`: it may take for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<f64>,
    /// What becomes of the connections that are left then; `reset` needs a deadline.
    #[serde(default, skip_serializing_if = "DrainEnd::is_keep")]
    pub then: DrainEnd,
}

/// What becomes of connections that outlive a drain's deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainEnd {
    /// They go on.
    #[default]
    Keep,
    /// Both sides get a reset.
    Reset,
}

impl DrainEnd {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// `POST …/weight`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    pub weight: u16,
}

/// A worker: what it does and what its connection table looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub cpu: u16,
    /// The last snapshot that it has acknowledged.
    pub generation: u64,
    /// The share of its time spent on packets in the last second, 0 to 1.
    pub busy_ratio: f64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub forwarded_packets: u64,
    pub consumed_packets: u64,
    pub punted_packets: u64,
    pub held_packets: u64,
    pub generated_packets: u64,
    pub dropped_packets: u64,
    pub connections_active: u64,
    pub connections_max: u64,
    pub connections_total: u64,
    /// Entries in use over entries there are, 0 to 1.
    pub table_load_ratio: f64,
    /// Buckets read per look-up: the mean, and the most ever.
    pub table_probe_mean: f64,
    pub table_probe_max: u64,
    /// Entries that gave way to others before their time.
    pub evictions: u64,
    /// Connections ended by resets, since a drain was over.
    #[serde(default)]
    pub resets: u64,
    /// Packets handed to other workers, and taken from them.
    pub handoffs: u64,
    pub handoffs_in: u64,
    /// Packets sent by way of other workers, for want of a TX queue.
    #[serde(default)]
    pub relayed_packets: u64,
    /// Times that it slept because there was nothing to do (`poll = "adaptive"`).
    #[serde(default)]
    pub sleeps: u64,
    /// Memory of the tables of this worker.
    pub memory_bytes: u64,
}

/// Whether a cable is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    Up,
    Down,
    /// The driver cannot tell.
    Unknown,
}

impl Link {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// A DPDK port, or a VLAN on one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// As in the configuration file; that of its parent, if it is a sub-interface.
    pub device: String,
    /// The port whose device a sub-interface is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The VLAN that its frames are tagged with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The DPDK driver: `net_ixgbe`.
    pub driver: String,
    /// `02:00:00:00:00:01`
    pub mac: String,
    pub link: Link,
    /// `None` when the driver cannot tell.
    #[serde(default)]
    pub link_mbps: Option<u32>,
    pub mtu_bytes: u16,
    pub addresses: Vec<InterfaceAddress>,
    /// `None` when the port belongs to no node.
    #[serde(default)]
    pub numa_node: Option<u16>,
    pub queues: PortQueues,
    pub rss: Rss,
    #[serde(default)]
    pub steering: PortSteering,
    pub offloads: Vec<Offload>,
    /// What the port lacks and what is done instead.
    #[serde(default)]
    pub notices: Vec<String>,
    /// The kernel's interface that stands for it; `None`: the host gets nothing from this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<PortHost>,
    pub counters: PortStats,
}

/// The interface of the host's kernel for a port, and what went by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHost {
    pub interface: String,
    /// Whether it is there.
    pub present: bool,
    /// Packets a second that the kernel gets at most.
    pub rate: u32,
    /// Packets that workers gave the kernel.
    pub punted_packets: u64,
    /// Packets that they did not give it: over the rate, or more than the control thread had taken.
    pub limited_packets: u64,
    /// Packets given to the kernel that it did not take: the interface is down, or gone.
    pub refused_packets: u64,
    /// Packets of the kernel's that were sent.
    pub sent_packets: u64,
}

/// Queues of a port and their rings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortQueues {
    pub rx_queues: u16,
    pub tx_queues: u16,
    pub rx_queues_max: u16,
    pub tx_queues_max: u16,
    /// Per queue.
    pub rx_descriptors: u16,
    pub tx_descriptors: u16,
}

/// How the port spreads packets over queues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rss {
    pub offered: bool,
    pub in_use: bool,
    /// What is hashed, by DPDK's names: `ipv4-tcp`, `l3-src-only`; empty when not in use.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Where the key of the hash comes from; `None` when not in use.
    #[serde(default)]
    pub key: Option<RssKey>,
    /// Whether the queue of a packet can be computed beforehand: key and redirection table are known.
    #[serde(default)]
    pub computable: bool,
}

/// Where the key of a port's hash comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RssKey {
    /// Drawn at start.
    Random,
    /// The driver's own, which it tells.
    Driver,
    /// The driver does not tell.
    Unknown,
}

impl RssKey {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Driver => "driver",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that a port can do instead of a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// `rx_ipv4_checksum`
    pub name: String,
    pub in_use: bool,
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// The name of the port.
    pub port: String,
    pub address: IpAddr,
    /// `None` while it is being resolved or after that failed.
    #[serde(default)]
    pub mac: Option<String>,
    pub state: NeighborState,
    /// Since it was last confirmed.
    pub age_seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighborState {
    /// Asked, not answered.
    Incomplete,
    Reachable,
    /// Usable, about to be confirmed.
    Stale,
    /// Asked as often as allowed, never answered.
    Failed,
}

impl NeighborState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }
}
