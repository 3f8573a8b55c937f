//! How a port spreads packets over its RX queues, as plain data.

use serde::Serialize;

/// Header fields by which a port spreads packets over its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RssFields {
    /// Addresses and ports of both ends.
    #[default]
    FiveTuple,
    /// Address and port of the sender.
    Source,
    /// Address and port of the receiver.
    Destination,
}

/// Receive-side scaling in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RssState {
    /// The ends of a packet that are hashed.
    pub ends: RssFields,
    /// Kinds of packets and parts of headers that are hashed, by name.
    pub fields: Vec<String>,
    /// The Toeplitz key; empty if the driver does not tell. Not for display: it lets clients aim at one queue.
    #[serde(skip)]
    pub key: Vec<u8>,
    /// Whether the key is the one that was asked for.
    pub key_set: bool,
    /// Queue of each hash value modulo the table's length; empty if the driver does not tell.
    pub redirection: Vec<u16>,
}

impl RssState {
    /// Whether software can compute the queue of a packet: both the key and the table are known.
    pub fn is_known(&self) -> bool {
        !self.key.is_empty() && !self.redirection.is_empty()
    }
}
