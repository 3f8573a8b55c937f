//! Single TOML values to Rust values.

use super::types::{
    Affinity, BackendAddress, HashField, HealthType, InterfaceAddress, Mode, Mss, Payload, Poll, Ports,
    Prefix, Protocol, Scheduler, Size, StatusSet, Steering, TimeSpan, Tunnel, UnknownConnections, ValueError,
    quote,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use toml::de::DeValue;

/// A type that a value of the file can be read as.
pub(super) trait FromValue: Sized {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError>;
}

/// What a value is, in words, for "X where Y is wanted".
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

impl FromValue for String {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        value.as_str().map(str::to_owned).ok_or_else(|| {
            let remedy = match value {
                DeValue::Integer(number) => format!("put it in quotes: \"{number}\""),
                DeValue::Float(number) => format!("put it in quotes: \"{number}\""),
                DeValue::Array(_) => "write one value in quotes".to_owned(),
                _ => "write it in quotes".to_owned(),
            };
            ValueError::new(format!("{} where text is wanted", kind(value)), remedy)
        })
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        String::from_value(value).map(Self::from)
    }
}

impl FromValue for bool {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        value.as_bool().ok_or_else(|| {
            ValueError::new(
                format!("{} where true or false is wanted", kind(value)),
                "write true or false, without quotes",
            )
        })
    }
}

/// A whole number from `least` to `most`.
fn integer(value: &DeValue<'_>, least: i128, most: i128) -> Result<i128, ValueError> {
    let DeValue::Integer(number) = value else {
        let remedy = match value {
            DeValue::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
                format!("take away the quotes: {}", quote(text).trim_matches('"'))
            }
            _ => format!("write a number from {least} to {most}"),
        };
        return Err(ValueError::new(format!("{} where a whole number is wanted", kind(value)), remedy));
    };
    i128::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            ValueError::new(
                format!("{} is out of range", quote(&number.to_string()).trim_matches('"')),
                format!("use a number from {least} to {most}"),
            )
        })
}

macro_rules! integers {
    ($($type:ty: $most:expr),+) => {$(
        impl FromValue for $type {
            fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
                integer(value, 0, i128::from($most)).map(|number| number as $type)
            }
        }
    )+};
}

// TOML has signed 64-bit numbers; what is larger could not be written back.
integers!(u8: u8::MAX, u16: u16::MAX, u32: u32::MAX, u64: i64::MAX);

macro_rules! texts {
    ($($type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
                String::from_value(value)?.parse()
            }
        }
    )+};
}

texts!(
    Affinity,
    BackendAddress,
    HashField,
    HealthType,
    InterfaceAddress,
    Mode,
    Payload,
    Poll,
    Steering,
    Prefix,
    Protocol,
    Scheduler,
    Size,
    TimeSpan,
    Tunnel,
    UnknownConnections
);

/// Text that is often a number: `ports = 80` says the same as `ports = "80"`, so it is taken.
macro_rules! texts_or_numbers {
    ($($type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
                match value {
                    DeValue::Integer(number) => number.to_string().parse(),
                    _ => String::from_value(value)?.parse(),
                }
            }
        }
    )+};
}

impl FromValue for StatusSet {
    /// `status = 200` and `status = ["200", "301"]` say the same as `status = "200,301"` would.
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        match value {
            DeValue::Integer(number) => number.to_string().parse(),
            DeValue::Array(items) if !items.is_empty() => {
                let texts: Result<Vec<String>, ValueError> = items
                    .iter()
                    .map(|item| match item.get_ref() {
                        DeValue::Integer(number) => Ok(number.to_string()),
                        other => String::from_value(other),
                    })
                    .collect();
                Self::of(texts?.iter().map(String::as_str))
            }
            _ => String::from_value(value)?.parse(),
        }
    }
}
texts_or_numbers!(Ports, Mss);

impl FromValue for IpAddr {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| {
            let remedy = match text.split_once('/') {
                Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                    format!("write the address without the prefix length: \"{address}\"")
                }
                _ => "write an address such as \"192.0.2.10\" or \"2001:db8::10\"".to_owned(),
            };
            ValueError::new(format!("{} is not an IP address", quote(&text)), remedy)
        })
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: &DeValue<'_>) -> Result<Self, ValueError> {
        let text = String::from_value(value)?;
        text.parse().ok().filter(|address: &Self| address.port() != 0).ok_or_else(|| {
            ValueError::new(
                format!("{} is not an address with a port", quote(&text)),
                "write for example \"127.0.0.1:9108\" or \"[::1]:9108\"",
            )
        })
    }
}
