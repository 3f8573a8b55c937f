//! The limit of a service's maximum segment size.

use super::{ValueError, quote, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// What the MSS option of SYNs is limited to: `auto`, or bytes such as `1400`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mss {
    /// What the MTUs of the ports on the way allow.
    Auto,
    /// TCP payload of a segment in bytes.
    Bytes(u16),
}

impl Mss {
    /// RFC 879: every host takes this much, so nobody needs less.
    pub const LEAST: u16 = 536;
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl FromStr for Mss {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let bytes = text.parse().ok().filter(|bytes| *bytes >= Self::LEAST);
        bytes.map(Self::Bytes).ok_or_else(|| {
            ValueError::new(
                format!("{} is no segment size", quote(text)),
                format!("write \"auto\", or bytes from {} to {}, such as 1400", Self::LEAST, u16::MAX),
            )
        })
    }
}

serde_as_text!(Mss);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_auto_read_back() {
        for text in ["auto", "536", "1400", "65535"] {
            assert_eq!(text.parse::<Mss>().unwrap().to_string(), text);
        }
        for text in ["", "Auto", "535", "65536", "-1", "1400 "] {
            assert!(text.parse::<Mss>().is_err(), "{text:?}");
        }
    }
}
