//! How packets get to the workers that own their connections.

use serde::{Deserialize, Serialize};

/// How packets of a port reach the workers that own their connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PortSteering {
    /// Where its packets come from, as the configuration had it at start.
    pub side: PortSide,
    /// What names the owner of a connection, of all ports.
    pub owner_by: OwnerBy,
    pub delivery: Delivery,
    /// Packets that workers received from it, and those of them that another worker had to be given.
    pub rx_packets: u64,
    pub handoff_packets: u64,
    /// `handoff_packets` over `rx_packets`, 0 to 1.
    pub handoff_ratio: f64,
    /// `rx_packets` by worker, in the order of `runtime.workers`.
    #[serde(default)]
    pub rx_packets_by_worker: Vec<u64>,
}

/// Where a port's packets come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortSide {
    Clients,
    Backends,
    #[default]
    Both,
}

impl PortSide {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Backends => "backends",
            Self::Both => "clients and backends",
        }
    }
}

/// What names the worker that owns a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerBy {
    /// A secret hash.
    #[default]
    Secret,
    /// The hash of the ports over one end of a packet: the client's, or that which backends answer to.
    RssOneEnd,
    /// The hash of the ports over both ends.
    RssBothEnds,
}

impl OwnerBy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "a secret hash",
            Self::RssOneEnd => "RSS over one end",
            Self::RssBothEnds => "RSS over both ends",
        }
    }
}

/// Which worker a port delivers packets to, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Any; the owner gets them by hand-off.
    #[default]
    Any,
    /// The owner, but for connections by `nat`.
    OwnerButNat,
    /// The owner.
    Owner,
}

impl Delivery {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any worker",
            Self::OwnerButNat => "the owner, but any worker with nat",
            Self::Owner => "the owner",
        }
    }
}
