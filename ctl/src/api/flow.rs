//! `GET /v1/flows`: connections, as the workers' tables hold them.

use crate::config::{Prefix, Protocol};
use serde::{Deserialize, Serialize};

/// Which flows to list. All that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// A name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A backend's address as in the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The client's address, or a prefix that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Prefix>,
    /// At most this many; [`FlowQuery::DEFAULT_LIMIT`] when not given, never more than
    /// [`FlowQuery::MAX_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl FlowQuery {
    pub const DEFAULT_LIMIT: u32 = 100;
    pub const MAX_LIMIT: u32 = 10_000;

    /// The limit that applies.
    pub fn effective_limit(&self) -> u32 {
        self.limit.unwrap_or(Self::DEFAULT_LIMIT).min(Self::MAX_LIMIT)
    }

    /// The query string, without the question mark; empty when nothing is asked for.
    pub fn to_query_string(&self) -> String {
        let fields = [
            ("service", self.service.clone()),
            ("backend", self.backend.clone()),
            ("client", self.client.map(|client| client.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let pairs: Vec<String> = fields
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", super::paths::encode(&value?))))
            .collect();
        pairs.join("&")
    }
}

/// The flows that were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    pub flows: Vec<Flow>,
    /// Whether there are more than the limit allowed.
    pub truncated: bool,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub protocol: Protocol,
    /// The name of the service.
    pub service: String,
    /// Address and port: `198.51.100.7:40000`, `[2001:db8::7]:40000`.
    pub client: String,
    pub vip: String,
    pub backend: String,
    /// With `full-nat`: the address and port that the backend sees in place of the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    pub state: FlowState,
    /// The CPU of the worker that owns it.
    pub worker: u16,
    pub age_seconds: f64,
    /// Since its last packet.
    pub idle_seconds: f64,
    /// It is forgotten when idle for this long.
    pub timeout_seconds: f64,
    /// `None` when packets are not counted per connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Where a connection is in its life, as seen from the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// TCP: a SYN was seen, the handshake is not finished.
    Syn,
    Established,
    /// TCP: one side or both have closed.
    Fin,
    /// TCP: reset, or closed by both sides and acknowledged.
    Closed,
    /// UDP: it has no states.
    Udp,
}

impl FlowState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::Established => "established",
            Self::Fin => "fin",
            Self::Closed => "closed",
            Self::Udp => "udp",
        }
    }
}
