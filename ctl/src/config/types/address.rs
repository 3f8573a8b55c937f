//! Addresses: prefixes, interface addresses, backend addresses.

use super::{ValueError, quote, serde_as_text};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Reads an address without a zone and without brackets.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Splits `address/length`; without a length, the address stands for itself alone.
fn address_and_length(text: &str) -> Result<(IpAddr, u8), ValueError> {
    let (address_text, length_text) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Some(address) = address(address_text) else {
        return Err(ValueError::new(
            format!("{} is not an IP address", quote(address_text)),
            "write an address such as \"192.0.2.10\" or \"2001:db8::10\", or a prefix such as \"192.0.2.0/24\"",
        ));
    };
    let longest = width(address);
    let length = match length_text {
        None => longest,
        Some(digits) => decimal(digits).filter(|&length: &u8| length <= longest).ok_or_else(|| {
            ValueError::new(
                format!("{} is not a prefix length", quote(digits)),
                format!("write a number from 0 to {longest} after the slash"),
            )
        })?,
    };
    Ok((address, length))
}

/// Digits only: `parse` alone would take a sign.
fn decimal<T: FromStr>(digits: &str) -> Option<T> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The number of bits of an address of this family.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with all bits after the first `length` cleared.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// An address or a prefix: `192.0.2.10`, `192.0.2.0/24`, `2001:db8::/64`. No host bit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`; host bits are cleared.
    /// `None` when the family has fewer bits than `length`.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= width(address)).then(|| Self { address: network(address, length), length })
    }

    /// The prefix of one address.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: width(address) }
    }

    /// The first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether this is one address.
    pub const fn is_host(self) -> bool {
        self.length == width(self.address)
    }

    pub const fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether `address` lies inside. Addresses of the other family never do.
    pub fn contains(self, address: IpAddr) -> bool {
        self.is_ipv6() == address.is_ipv6() && network(address, self.length) == self.address
    }

    /// Whether every address of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.length) }
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (address, length) = address_and_length(text)?;
        let prefix = Self { address: network(address, length), length };
        if prefix.address == address {
            Ok(prefix)
        } else {
            Err(ValueError::new(
                format!("{} has host bits set", quote(text)),
                format!("write \"{prefix}\" for the prefix, or \"{address}\" for the one address"),
            ))
        }
    }
}

/// An address of a port together with its subnet: `10.0.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    address: IpAddr,
    length: u8,
}

impl InterfaceAddress {
    /// `None` when the family has fewer bits than `length`.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= width(address)).then_some(Self { address, length })
    }

    /// The port's own address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the subnet's prefix in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The subnet: the addresses that are reached without a router.
    pub fn subnet(self) -> Prefix {
        Prefix { address: network(self.address, self.length), length: self.length }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for InterfaceAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.contains('/') && address(text).is_some() {
            let usual = if text.contains(':') { 64 } else { 24 };
            return Err(ValueError::new(
                format!("{} lacks the length of its subnet", quote(text)),
                format!("write for example \"{text}/{usual}\""),
            ));
        }
        let (address, length) = address_and_length(text)?;
        Ok(Self { address, length })
    }
}

/// Where a backend listens: `10.1.0.11:8080`, `[2001:db8::1]:80`, or an address alone, which keeps the
/// port that the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendAddress {
    pub ip: IpAddr,
    /// `None`: the destination port of the packet stays.
    pub port: Option<u16>,
}

impl BackendAddress {
    pub const fn new(ip: IpAddr, port: Option<u16>) -> Self {
        Self { ip, port }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.port) {
            (ip, None) => ip.fmt(f),
            (IpAddr::V4(ip), Some(port)) => write!(f, "{ip}:{port}"),
            (IpAddr::V6(ip), Some(port)) => write!(f, "[{ip}]:{port}"),
        }
    }
}

impl FromStr for BackendAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(ip) = address(text) {
            return Ok(Self { ip, port: None });
        }
        let bad = || {
            ValueError::new(
                format!("{} is not a backend address", quote(text)),
                "write \"10.1.0.11:8080\", \"[2001:db8::1]:80\", or an address alone to keep the port",
            )
        };
        let (ip, port) = if let Some(rest) = text.strip_prefix('[') {
            let (ip, rest) = rest.split_once(']').ok_or_else(bad)?;
            let ip = ip.parse::<Ipv6Addr>().map_err(|_| bad())?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) };
            (IpAddr::V6(ip), port)
        } else {
            let (ip, port) = text.split_once(':').ok_or_else(bad)?;
            (IpAddr::V4(ip.parse::<Ipv4Addr>().map_err(|_| bad())?), Some(port))
        };
        let port = match port {
            None => None,
            Some(digits) => Some(decimal(digits).filter(|&port: &u16| port != 0).ok_or_else(|| {
                ValueError::new(
                    format!("{} is not a port number", quote(digits)),
                    "write a number from 1 to 65535 after the colon, or leave the port out to keep it",
                )
            })?),
        };
        Ok(Self { ip, port })
    }
}

serde_as_text!(Prefix, InterfaceAddress, BackendAddress);
