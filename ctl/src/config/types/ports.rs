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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads_back() {
        for text in ["80", "100-200", "*", "1-2", "65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("1-65535".parse::<Ports>().unwrap(), Ports::ANY);
        assert_eq!("80-80".parse::<Ports>().unwrap().single(), Some(80));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "0-5", "65536", "-80", "80-", "5-4", "80,443", " 80", "+80", "0x50"] {
            assert!(text.parse::<Ports>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_read_back(first in any::<u16>(), last in any::<u16>()) {
            if let Some(ports) = Ports::new(first, last) {
                prop_assert_eq!(ports.to_string().parse::<Ports>().unwrap(), ports);
                prop_assert!(ports.contains(first) && ports.contains(last));
                prop_assert_eq!(u32::from(ports.count()), u32::from(last) - u32::from(first) + 1);
            }
        }

        #[test]
        fn covering_is_intersecting_with_all(a in 1..50u16, b in 0..50u16, c in 1..50u16, d in 0..50u16) {
            let (outer, inner) = (Ports::new(a, a + b).unwrap(), Ports::new(c, c + d).unwrap());
            let shared = (inner.first()..=inner.last()).filter(|port| outer.contains(*port)).count();
            prop_assert_eq!(outer.intersects(inner), shared > 0);
            prop_assert_eq!(outer.covers(inner), shared == usize::from(inner.count()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<Ports>();
        }
    }
}
