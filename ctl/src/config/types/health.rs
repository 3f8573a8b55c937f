//! What a health check sends and what it wants to hear.

use super::{ValueError, quote, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// HTTP status codes that pass: `200`, `200-299`, `200-299,301`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StatusSet {
    /// Inclusive ranges, as written.
    ranges: Vec<(u16, u16)>,
}

impl StatusSet {
    /// Most ranges that one set may have.
    const MOST: usize = 32;

    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&status))
    }

    /// Of several texts, each with one or more ranges.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, ValueError> {
        let mut ranges = Vec::new();
        for part in texts.into_iter().flat_map(|text| text.split(',')) {
            ranges.push(range(part.trim())?);
        }
        if ranges.len() > Self::MOST {
            let problem = format!("{} ranges of status codes are too many", ranges.len());
            return Err(ValueError::new(problem, format!("use at most {}", Self::MOST)));
        }
        Ok(Self { ranges })
    }
}

impl Default for StatusSet {
    /// Success, or sent elsewhere: 200 to 399.
    fn default() -> Self {
        Self { ranges: vec![(200, 399)] }
    }
}

/// `200` or `200-299`; RFC 9110 section 15: three digits, 100 to 599.
fn range(text: &str) -> Result<(u16, u16), ValueError> {
    let code = |digits: &str| -> Option<u16> {
        let valid = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|code| valid && (100..=599).contains(code))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(ValueError::new(
            format!("{} is not a status code or a range of them", quote(text)),
            "write for example \"200\", \"200-399\" or \"200-299,301\"",
        )),
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .ranges
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        f.pad(&parts.join(","))
    }
}

impl FromStr for StatusSet {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::of([text])
    }
}

/// Bytes of a check: text as it is, or `hex:` and hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload {
    bytes: Vec<u8>,
}

impl Payload {
    /// Most bytes: they fit a packet everywhere.
    pub const MAX: usize = 1024;
    const HEX: &'static str = "hex:";

    /// `None` if there are too many.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= Self::MAX).then_some(Self { bytes })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !text.starts_with(Self::HEX) => f.pad(text),
            _ => {
                f.write_str(Self::HEX)?;
                self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({self})")
    }
}

impl FromStr for Payload {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = match text.strip_prefix(Self::HEX) {
            None => text.as_bytes().to_vec(),
            Some(digits) => hex(digits).ok_or_else(|| {
                ValueError::new(
                    format!("{} is not hexadecimal", quote(text)),
                    "write two digits for each byte, such as \"hex:00ff\"",
                )
            })?,
        };
        let len = bytes.len();
        Self::new(bytes).ok_or_else(|| {
            ValueError::new(format!("{len} bytes are too many"), format!("use at most {}", Self::MAX))
        })
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

serde_as_text!(StatusSet, Payload);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn status_codes() {
        let set: StatusSet = "200-299, 301".parse().unwrap();
        assert_eq!(set.to_string(), "200-299,301");
        let passes = [199, 200, 250, 299, 300, 301, 302].map(|code| set.contains(code));
        assert_eq!(passes, [false, true, true, true, false, true, false]);
        assert_eq!(StatusSet::default(), "200-399".parse().unwrap());
        for text in ["", "2xx", "99", "600", "300-200", "200-", "-200", "200,,201", "0200", "+20"] {
            assert!(text.parse::<StatusSet>().is_err(), "{text:?}");
        }
        assert!(vec!["200"; 33].join(",").parse::<StatusSet>().is_err());
    }

    #[test]
    fn payloads() {
        let bytes = |text: &str| text.parse::<Payload>().unwrap().as_bytes().to_vec();
        assert_eq!(bytes("PING\r\n"), b"PING\r\n");
        assert_eq!(bytes("hex:00fFa0"), [0, 255, 0xa0]);
        assert_eq!(bytes("hex:"), [0; 0]);
        for text in ["hex:0", "hex:0g", "hex:é"] {
            assert!(text.parse::<Payload>().is_err(), "{text:?}");
        }
        assert!("x".repeat(1025).parse::<Payload>().is_err());
    }

    proptest! {
        #[test]
        fn payloads_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let payload = Payload::new(bytes).unwrap();
            prop_assert_eq!(payload.to_string().parse::<Payload>().unwrap(), payload);
        }

        #[test]
        fn texts_read_back(text in "(hex:)?[0-9a-z\u{e9}]{0,20}") {
            if let Ok(payload) = text.parse::<Payload>() {
                prop_assert_eq!(payload.to_string().parse::<Payload>().unwrap(), payload);
            }
        }

        #[test]
        fn status_sets_read_back(ranges in proptest::collection::vec((100u16..600, 0u16..200), 1..32)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| (first, (first + more).min(599))).collect();
            let set = StatusSet { ranges };
            prop_assert_eq!(set.to_string().parse::<StatusSet>().unwrap(), set);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = (text.parse::<StatusSet>(), text.parse::<Payload>());
        }
    }
}
