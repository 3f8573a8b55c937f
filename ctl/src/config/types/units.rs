//! Numbers with a unit: times and sizes.

use super::{ValueError, quote, serde_as_text};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: `500ms`, `2s`, `5m`, `1h`. Whole milliseconds, at most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeSpan {
    milliseconds: u64,
}

impl TimeSpan {
    /// The longest: 366 days.
    pub const MAX: Self = Self::from_secs(366 * 24 * 3600);

    pub const fn from_secs(seconds: u64) -> Self {
        Self { milliseconds: seconds * 1000 }
    }

    pub const fn from_millis(milliseconds: u64) -> Self {
        Self { milliseconds }
    }

    pub const fn as_millis(self) -> u64 {
        self.milliseconds
    }

    /// In seconds, with fractions.
    pub fn as_secs_f64(self) -> f64 {
        self.milliseconds as f64 / 1000.0
    }

    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }

    pub const fn is_zero(self) -> bool {
        self.milliseconds == 0
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        span.as_duration()
    }
}

/// Units of time in milliseconds, the largest first.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.pad("0s");
        }
        let (unit, size) = TIME_UNITS
            .into_iter()
            .find(|(_, size)| self.milliseconds.is_multiple_of(*size))
            .unwrap_or(("ms", 1));
        f.pad(&format!("{}{unit}", self.milliseconds / size))
    }
}

impl FromStr for TimeSpan {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text);
        let number = number.ok_or_else(|| {
            ValueError::new(
                format!("{} is not a length of time", quote(text)),
                "write for example \"500ms\", \"2s\", \"5m\" or \"1h\"",
            )
        })?;
        if unit.is_empty() {
            return Err(ValueError::new(
                format!("{} lacks a unit", quote(text)),
                format!("write for example \"{number}s\"; the units are ms, s, m and h"),
            ));
        }
        let Some((_, size)) = TIME_UNITS.into_iter().find(|(name, _)| *name == unit) else {
            return Err(ValueError::new(
                format!("{} is not a unit of time", quote(unit)),
                "use ms, s, m or h",
            ));
        };
        number.checked_mul(size).map(Self::from_millis).filter(|span| *span <= Self::MAX).ok_or_else(|| {
            ValueError::new(format!("{} is too long", quote(text)), "use at most 8784h (366 days)")
        })
    }
}

/// A size in bytes: `512M`, `1G`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    bytes: u64,
}

impl Size {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self { bytes: mebibytes << 20 }
    }

    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }

    /// In MiB, rounded down: what the EAL's `-m` takes.
    pub const fn as_mebibytes(self) -> u64 {
        self.bytes >> 20
    }
}

/// Units of size in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = SIZE_UNITS
            .into_iter()
            .find(|(_, size)| self.bytes != 0 && self.bytes.is_multiple_of(*size))
            .unwrap_or(("", 1));
        f.pad(&format!("{}{unit}", self.bytes / size))
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text);
        let bad = || {
            ValueError::new(
                format!("{} is not a size", quote(text)),
                "write for example \"512M\" or \"1G\"; the units are K, M, G and T",
            )
        };
        let number = number.ok_or_else(bad)?;
        let size = match unit {
            "" => 1,
            unit => SIZE_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1,
        };
        number.checked_mul(size).map(Self::from_bytes).ok_or_else(bad)
    }
}

/// Leading digits as a number (`None` without digits or when they do not fit), and what follows them.
fn split_unit(text: &str) -> (Option<u64>, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits.parse().ok(), unit)
}

serde_as_text!(TimeSpan, Size);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_and_printed_in_their_largest_unit() {
        for (text, milliseconds) in
            [("500ms", 500), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!((span.as_millis(), span.to_string().as_str()), (milliseconds, text));
        }
        assert_eq!("7440s".parse::<TimeSpan>().unwrap().to_string(), "124m");
        for text in ["", "5", "s", "1.5s", "5 s", "5d", "-5s", "9999999h", "99999999999999999999s"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!("1G".parse::<Size>().unwrap(), Size::from_mebibytes(1024));
        assert_eq!("1536M".parse::<Size>().unwrap().as_mebibytes(), 1536);
        assert_eq!("1048576".parse::<Size>().unwrap().to_string(), "1M");
        for text in ["", "G", "1GB", "1g", "1.5G", "-1", "99999999999T"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn times_read_back(milliseconds in 0..=TimeSpan::MAX.as_millis()) {
            let span = TimeSpan::from_millis(milliseconds);
            prop_assert_eq!(span.to_string().parse::<TimeSpan>().unwrap(), span);
        }

        #[test]
        fn sizes_read_back(bytes in any::<u64>(), shift in 0..64u32) {
            let size = Size::from_bytes((bytes >> shift) << (shift / 2));
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = (text.parse::<TimeSpan>(), text.parse::<Size>());
        }
    }
}
