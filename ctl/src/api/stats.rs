//! `GET /v1/stats`: the counters.

use super::object::{AdminState, HealthState};
use crate::config::{Mode, Ports, Prefix, Protocol, Scheduler};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every counter, read once, worker by worker.
///
/// After traffic has stopped two equations hold exactly:
/// `rx = forwarded + consumed + punted + held + Σ drops` and `tx = forwarded + generated`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Of the snapshot that all workers use.
    pub generation: u64,
    #[serde(default)]
    pub uptime_seconds: f64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    #[serde(default)]
    pub rx_bytes: u64,
    #[serde(default)]
    pub tx_bytes: u64,
    /// Received and sent on.
    pub forwarded_packets: u64,
    /// Meant for the balancer itself and handled: ARP, neighbour discovery, echo.
    pub consumed_packets: u64,
    /// Given to the host's kernel.
    pub punted_packets: u64,
    /// Waiting for a next hop right now: a level, not a counter.
    pub held_packets: u64,
    /// Made by the balancer: ARP, neighbour discovery, echo replies.
    pub generated_packets: u64,
    /// ICMP errors passed on to the client or backend of the connection that they are about; forwarded packets too.
    #[serde(default)]
    pub icmp_error_packets: u64,
    /// Resets and FINs of clients with a sequence number that cannot be theirs; forwarded packets too.
    #[serde(default)]
    pub out_of_window_packets: u64,
    /// Dropped packets by reason, each packet under exactly one; reasons that never occurred may be left
    /// out or 0.
    pub drops: BTreeMap<String, u64>,
    pub services: Vec<ServiceStats>,
    pub workers: Vec<WorkerStats>,
    #[serde(default)]
    pub ports: Vec<PortStats>,
}

/// Counters of a service, summed over workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStats {
    pub name: String,
    pub vip: Prefix,
    pub ports: Ports,
    pub protocol: Protocol,
    pub mode: Mode,
    pub scheduler: Scheduler,
    pub connections_active: u64,
    pub connections_total: u64,
    /// From clients.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// Towards clients; 0 with `dsr`.
    pub packets_out: u64,
    pub bytes_out: u64,
    pub backends: Vec<BackendStats>,
}

/// Counters of a backend within a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStats {
    /// As in the configuration file.
    pub address: String,
    pub admin: AdminState,
    pub health: HealthState,
    /// Whether anything checks it; without a check it counts as up.
    pub health_checked: bool,
    /// What the last check said, or `unchecked`.
    pub health_detail: String,
    pub weight: u16,
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
}

/// Counters of a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    pub cpu: u16,
    pub rx_packets: u64,
    pub tx_packets: u64,
    /// The share of its time spent on packets since the last second began, 0 to 1.
    pub busy_ratio: f64,
    pub connections_active: u64,
    /// Packets handed to the worker that owns their connection.
    pub handoffs: u64,
}

/// Counters of a port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PortStats {
    pub name: String,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Frames that the device received broken.
    pub rx_errors: u64,
    /// Frames that the device lost because its ring was full.
    pub rx_missed: u64,
    /// Times that the device had no buffer to receive into.
    pub rx_no_buffer: u64,
    pub tx_errors: u64,
}
