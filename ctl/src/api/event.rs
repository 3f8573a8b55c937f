//! `GET /v1/events`: what happened lately, numbered.

use serde::{Deserialize, Serialize};

/// Which events to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Those with a higher number; 0, or nothing, for all that are kept.
    #[serde(default)]
    pub since: u64,
    /// Whether to wait until there is one, for [`EventQuery::WAIT_SECONDS`] at most.
    #[serde(default)]
    pub follow: bool,
}

impl EventQuery {
    /// How long an answer is held back when there is no event.
    pub const WAIT_SECONDS: u64 = 15;
}

/// Events, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: Vec<Event>,
    /// The number of the newest event of all: what to ask for next is `since` this.
    pub last: u64,
    /// Events after `since` that are kept no more.
    pub missed: u64,
    /// Another one after each start of the daemon, which counts from 1 again.
    pub run: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1.
    pub number: u64,
    /// UTC, as RFC 3339 has it: `2026-11-26T20:17:03.250Z`.
    pub time: String,
    pub kind: EventKind,
    pub severity: Severity,
    /// In words.
    pub message: String,
    /// What it is about, as far as it is one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The address of a neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor: Option<String>,
    /// The CPU of a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// Set on the summary of a storm: so many events of this kind are not listed one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summarised: Option<u64>,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}

/// Kinds of events, each with its name in JSON and how much it matters.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $severity:ident,)*) => {
        /// What kind of event it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
            /// One that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl EventKind {
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                    Self::Unknown => "unknown",
                }
            }

            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => Severity::$severity,)*
                    Self::Unknown => Severity::Info,
                }
            }
        }
    };
}

kinds! {
    /// A check, or what clients' connections showed, changed the verdict on a backend.
    HealthUp "health_up" Info,
    HealthDown "health_down" Warning,
    /// Too few backends of a service are up: all are used.
    PanicBegun "panic_begun" Warning,
    PanicEnded "panic_ended" Info,
    /// An operator took a backend out, with its connections going on to their end.
    DrainBegun "drain_begun" Info,
    DrainEnded "drain_ended" Info,
    /// The deadline passed and connections are left.
    DrainLate "drain_late" Warning,
    /// An operator enabled or disabled a backend, or gave it another weight.
    BackendChanged "backend_changed" Info,
    ConfigApplied "config_applied" Info,
    ConfigRefused "config_refused" Warning,
    NeighborMoved "neighbor_moved" Info,
    NeighborLost "neighbor_lost" Warning,
    /// Another station claims an address of the balancer.
    AddressConflict "address_conflict" Warning,
    PortUp "port_up" Info,
    PortDown "port_down" Warning,
    /// The interface of the host for a port is there, or cannot be had.
    HostInterfaceUp "host_interface_up" Info,
    HostInterfaceLost "host_interface_lost" Warning,
    /// A worker does not come round.
    WorkerStalled "worker_stalled" Warning,
    WorkerResumed "worker_resumed" Info,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_called_alike_everywhere() {
        for kind in [EventKind::HealthUp, EventKind::ConfigRefused, EventKind::Unknown] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_no_error() {
        assert_eq!(serde_json::from_str::<EventKind>("\"full_moon\"").unwrap(), EventKind::Unknown);
    }
}
