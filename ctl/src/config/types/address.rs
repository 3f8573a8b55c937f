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

    /// How many addresses there are; for all of IPv6 one less.
    pub fn count(self) -> u128 {
        1u128.checked_shl(u32::from(width(self.address) - self.length)).unwrap_or(u128::MAX)
    }

    /// Every address, the first one first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (0..self.count()).map(move |n| match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + n as u32)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() + n)),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)]
    }

    fn remedy<T: FromStr<Err = ValueError> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().remedy
    }

    #[test]
    fn host_bits_are_an_error_that_names_the_prefix() {
        assert_eq!(
            remedy::<Prefix>("10.0.0.1/24"),
            "write \"10.0.0.0/24\" for the prefix, or \"10.0.0.1\" for the one address"
        );
        assert!(remedy::<Prefix>("2001:db8::1/64").starts_with("write \"2001:db8::/64\""));
        assert_eq!("0.0.0.0/0".parse::<Prefix>().unwrap().length(), 0);
    }

    #[test]
    fn a_host_prefix_prints_as_an_address() {
        assert_eq!("192.0.2.1/32".parse::<Prefix>().unwrap().to_string(), "192.0.2.1");
        assert_eq!("2001:db8::1/128".parse::<Prefix>().unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn prefixes_cover_what_is_in_them() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        assert!(prefix("10.0.0.0/8").covers(prefix("10.1.0.0/16")));
        assert!(!prefix("10.1.0.0/16").covers(prefix("10.0.0.0/8")));
        assert!(!prefix("0.0.0.0/0").contains("::".parse().unwrap()));
        assert!(prefix("::/0").contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn prefixes_list_their_addresses() {
        let all = |text: &str| {
            let prefix = text.parse::<Prefix>().unwrap();
            (prefix.count(), prefix.addresses().take(3).map(|a| a.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(all("10.0.0.64/31"), (2, "10.0.0.64 10.0.0.65".into()));
        assert_eq!(all("2001:db8::5"), (1, "2001:db8::5".into()));
        assert_eq!(all("0.0.0.0/0"), (1 << 32, "0.0.0.0 0.0.0.1 0.0.0.2".into()));
        assert_eq!(all("::/0").0, u128::MAX);
    }

    #[test]
    fn an_address_of_a_port_needs_its_subnet() {
        assert_eq!(remedy::<InterfaceAddress>("10.0.0.2"), "write for example \"10.0.0.2/24\"");
        let own: InterfaceAddress = "10.0.0.2/24".parse().unwrap();
        assert_eq!(own.subnet().to_string(), "10.0.0.0/24");
    }

    #[test]
    fn backends_with_and_without_ports() {
        for text in ["10.1.0.11:8080", "10.1.0.11", "[2001:db8::1]:80", "2001:db8::1"] {
            assert_eq!(text.parse::<BackendAddress>().unwrap().to_string(), text);
        }
        assert_eq!("[2001:db8::1]".parse::<BackendAddress>().unwrap().to_string(), "2001:db8::1");
        for text in
            ["", ":80", "10.1.0.11:", "10.1.0.11:+1", "10.1.0.11:99999", "[10.1.0.11]:80", "[::1", "[::1]80"]
        {
            assert!(text.parse::<BackendAddress>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prefixes_read_back(address in ip(), length in 0..=128u8) {
            if let Some(prefix) = Prefix::new(address, length) {
                prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
                prop_assert!(prefix.contains(address));
                let json = serde_json::to_string(&prefix).unwrap();
                prop_assert_eq!(serde_json::from_str::<Prefix>(&json).unwrap(), prefix);
            }
        }

        #[test]
        fn interface_addresses_read_back(address in ip(), length in 0..=128u8) {
            if let Some(own) = InterfaceAddress::new(address, length) {
                prop_assert_eq!(own.to_string().parse::<InterfaceAddress>().unwrap(), own);
                prop_assert!(own.subnet().contains(address));
            }
        }

        #[test]
        fn backend_addresses_read_back(address in ip(), port in prop::option::of(1..=u16::MAX)) {
            let backend = BackendAddress::new(address, port);
            prop_assert_eq!(backend.to_string().parse::<BackendAddress>().unwrap(), backend);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = (text.parse::<Prefix>(), text.parse::<InterfaceAddress>(), text.parse::<BackendAddress>());
        }

        #[test]
        fn nearly_addresses_never_panic(text in "[\\[]?[0-9a-f:.]{0,20}[\\]]?[:/]?[0-9]{0,6}") {
            let _ = (text.parse::<Prefix>(), text.parse::<InterfaceAddress>(), text.parse::<BackendAddress>());
        }
    }
}
