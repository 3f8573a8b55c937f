//! The ports of a service.

use super::{ValueError, quote, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// An inclusive range of ports: `80`, `100-200`, or `*` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port, written `*`: 1 to 65535.
    pub const ANY: Self = Self { first: 1, last: u16::MAX };

    /// `None` when the range is empty or holds port 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    pub const fn first(self) -> u16 {
        self.first
    }

    pub const fn last(self) -> u16 {
        self.last
    }

    /// The port, when there is but one.
    pub const fn single(self) -> Option<u16> {
        if self.first == self.last { Some(self.first) } else { None }
    }

    pub const fn is_any(self) -> bool {
        self.first == Self::ANY.first && self.last == Self::ANY.last
    }

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports: 1 to 65535.
    pub const fn count(self) -> u16 {
        self.last - self.first + 1
    }

    /// Whether every port of `other` is in this range.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the two ranges share a port.
    pub const fn intersects(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_any(), self.single()) {
            (true, _) => f.pad("*"),
            (_, Some(port)) => port.fmt(f),
            _ => f.pad(&format!("{}-{}", self.first, self.last)),
        }
    }
}

impl FromStr for Ports {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "*" {
            return Ok(Self::ANY);
        }
        if text.contains(',') {
            return Err(ValueError::new(
                format!("{} is a list of ports", quote(text)),
                "write one [[service]] for each range",
            ));
        }
        let number = |digits: &str| -> Result<u16, ValueError> {
            Some(digits)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|&port| port != 0)
                .ok_or_else(|| {
                    ValueError::new(
                        format!("{} is not a port number", quote(digits)),
                        "write a number from 1 to 65535, a range such as \"100-200\", or \"*\" for all",
                    )
                })
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        Self::new(first, last).ok_or_else(|| {
            ValueError::new(
                format!("{} ends before it begins", quote(text)),
                format!("write \"{last}-{first}\""),
            )
        })
    }
}

serde_as_text!(Ports);
