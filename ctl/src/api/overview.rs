//! What the status page is made of.

use super::object::{Port, Service, Status, Worker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /status.json`: all that the status page shows, read at one time; rates follow from two of them and the uptime in
/// [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    pub status: Status,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Dropped packets by reason.
    pub drops: BTreeMap<String, u64>,
    pub services: Vec<Service>,
    pub workers: Vec<Worker>,
    pub ports: Vec<Port>,
}
