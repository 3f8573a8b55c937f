//! Ethernet II (IEEE 802.3 clause 3, RFC 894, RFC 2464).

use super::{Malformed, be16, field, head, head_mut};
use std::fmt;

/// Length of the header without tags.
pub const LEN: usize = 14;

/// EtherTypes (IEEE registration authority).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// A VLAN tag of a provider's (IEEE 802.1Q, once 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const ETHERTYPE: usize = 12;

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Group addresses: multicast and broadcast.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Where IPv6 sends what goes to the multicast address `to` (RFC 2464 section 7).
    pub fn of_ipv6_multicast(to: std::net::Ipv6Addr) -> Self {
        let o = to.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a>(&'a [u8; LEN]);

impl<'a> Ethernet<'a> {
    pub fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        head(frame).map(Self)
    }

    pub fn destination(&self) -> Mac {
        Mac(field(self.0, DESTINATION))
    }

    pub fn source(&self) -> Mac {
        Mac(field(self.0, SOURCE))
    }

    pub fn ethertype(&self) -> u16 {
        be16(self.0, ETHERTYPE)
    }
}

/// Writes a header in front of what follows it in `frame`.
pub fn emit(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(frame)?;
    header[DESTINATION..SOURCE].copy_from_slice(&destination.0);
    header[SOURCE..ETHERTYPE].copy_from_slice(&source.0);
    header[ETHERTYPE..].copy_from_slice(&ethertype.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(destination: [u8; 6], source: [u8; 6], ethertype: u16) {
            let mut frame = [0; LEN + 3];
            emit(&mut frame, Mac(destination), Mac(source), ethertype).unwrap();
            let header = Ethernet::parse(&frame).unwrap();
            prop_assert_eq!(header.destination(), Mac(destination));
            prop_assert_eq!(header.source(), Mac(source));
            prop_assert_eq!(header.ethertype(), ethertype);
        }

        #[test]
        fn too_short_fails(frame in proptest::collection::vec(any::<u8>(), 0..LEN)) {
            prop_assert_eq!(Ethernet::parse(&frame).unwrap_err(), Malformed::Truncated);
        }
    }
}
