//! `GET /v1/explain`: what becomes of a packet, and why.

use super::{AdminState, FlowState, HealthState, NeighborState};
use crate::config::{Affinity, Mode, Ports, Prefix, Protocol, Scheduler, Tunnel};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The packet: its two ends. With TCP it is a SYN, unless it belongs to a connection that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What becomes of it. A packet that no service and no connection takes is answered with 404, and the nearest service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub protocol: Protocol,
    pub source: String,
    pub destination: String,
    pub outcome: ExplainOutcome,
    /// The counter that it ends in, if it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ExplainedService>,
    pub worker: ExplainedWorker,
    /// The connection that it belongs to; without one it would make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ExplainedConnection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<ExplainedBackend>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<ExplainedHop>,
    /// What it looks like when it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<ExplainedPacket>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainOutcome {
    Forwarded,
    /// It waits for the hardware address of its next hop first.
    Held,
    Dropped,
    /// It goes to the health checks of the control thread.
    Delivered,
    /// It goes to the host's kernel.
    Punted,
}

impl ExplainOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Held => "held",
            Self::Dropped => "dropped",
            Self::Delivered => "delivered",
            Self::Punted => "punted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedService {
    pub name: String,
    pub vip: Prefix,
    pub ports: Ports,
    pub mode: Mode,
    pub tunnel: Tunnel,
    pub scheduler: Scheduler,
    pub affinity: Affinity,
    /// Backends that take new connections.
    pub candidates: u64,
    pub panic: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedWorker {
    pub cpu: u16,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedConnection {
    pub client: String,
    pub vip: String,
    /// Whether the packet is the backend's.
    pub answer: bool,
    pub state: FlowState,
    pub idle_seconds: f64,
    pub timeout_seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    pub address: String,
    pub admin: AdminState,
    pub health: HealthState,
    pub weight: u16,
    pub why: String,
    /// Whether the answer will be the same until something changes: otherwise each new connection changes it.
    pub stable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedHop {
    pub port: String,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `None`: nobody has asked for it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NeighborState>,
}

/// A port of `*` is not chosen yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedPacket {
    /// The port that it leaves by.
    pub port: String,
    /// The VLAN that it is tagged with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    pub source_mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_mac: Option<String>,
    pub source: String,
    pub destination: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<ExplainedTunnel>,
}

/// What is around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedTunnel {
    pub kind: Tunnel,
    pub source: String,
    pub destination: String,
    /// With `l3dsr`: what names the VIP. Then source and destination are those of the packet itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    pub overhead_bytes: u64,
}
