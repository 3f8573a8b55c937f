//! The small values of a configuration. Each has one text form: `FromStr`, `Display` and serde agree on
//! it, and parsing what was printed gives the same value back.

mod address;
mod health;
mod mss;
mod ports;
mod units;
mod words;

use std::fmt;

pub use address::{BackendAddress, InterfaceAddress, Prefix};
pub use health::{Payload, StatusSet};
pub use mss::Mss;
pub use ports::Ports;
pub use units::{Size, TimeSpan};
pub use words::{
    Affinity, HashField, HealthType, Mode, Poll, Protocol, Scheduler, Steering, Tunnel, UnknownConnections,
};

/// A value that cannot be read: why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, quoting the value: `"10.0.0.1/24" has host bits set`.
    pub problem: String,
    /// What to do about it: `write "10.0.0.0/24"`.
    pub remedy: String,
}

impl ValueError {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ValueError {}

/// At most this much of a bad value is quoted back, in characters.
const QUOTE_LIMIT: usize = 60;

/// Quotes a value for a message: escaped, and shortened when it is long.
pub(crate) fn quote(value: &str) -> String {
    match value.char_indices().nth(QUOTE_LIMIT) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// Serde through the text form.
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;
