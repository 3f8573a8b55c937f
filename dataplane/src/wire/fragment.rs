//! Fragments of datagrams, of IPv4 (RFC 791 section 3.2) and of IPv6 (RFC 8200 section 4.5).

use super::{Malformed, be16, field, ipv4, ipv6, protocol, tcp};
use std::net::IpAddr;

/// Offsets count units of so many bytes.
pub const UNIT: usize = 8;

/// Units that the payload of the longest datagram has.
pub const MOST_UNITS: usize = (u16::MAX as usize).div_ceil(UNIT);

/// One part of a datagram's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Tells the datagrams of a source apart: 16 bits with IPv4, for each protocol.
    pub identification: u32,
    /// Of the payload. With IPv6 only the first fragment's counts.
    pub protocol: u8,
    /// Where in the payload of the datagram, in bytes.
    pub offset: usize,
    /// In bytes; never 0.
    pub len: usize,
    /// It is not the last one.
    pub more: bool,
    /// Where the part begins in the packet.
    pub l4: usize,
}

impl Fragment {
    /// `packet` begins at an IP header that has been through [`ipv4::Ipv4::parse`] or [`ipv6::Ipv6::parse`].
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let this = if packet.first().ok_or(Malformed::Truncated)? >> 4 == 4 {
            Self::v4(packet)?
        } else {
            Self::v6(packet)?
        };
        // Only the last may end within a unit, and none beyond the longest datagram.
        let even = !this.more || this.len.is_multiple_of(UNIT);
        if this.len == 0 || !even || this.offset + this.len > usize::from(u16::MAX) {
            return Err(Malformed::Field);
        }
        Ok(this)
    }

    fn v4(packet: &[u8]) -> Result<Self, Malformed> {
        let ip = ipv4::Ipv4::parse(packet, usize::MAX)?;
        let word = be16(packet, ipv4::at::FRAGMENT);
        Ok(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            identification: be16(packet, ipv4::at::IDENTIFICATION).into(),
            protocol: ip.protocol(),
            offset: ip.fragment_offset(),
            len: ip.total_len() - ip.header_len(),
            more: word & ipv4::MORE_FRAGMENTS != 0,
            l4: ip.header_len(),
        })
    }

    fn v6(packet: &[u8]) -> Result<Self, Malformed> {
        let ip = ipv6::Ipv6::parse(packet, usize::MAX)?;
        let upper = ipv6::upper_layer(packet, ip.next_header())?;
        if !upper.fragment {
            return Err(Malformed::Field);
        }
        let header = upper.offset - ipv6::FRAGMENT_LEN;
        let word = be16(packet, header + 2);
        Ok(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            identification: u32::from_be_bytes(field(packet, header + 4)),
            protocol: upper.protocol,
            offset: usize::from(word >> 3) * UNIT,
            len: ip.total_len().checked_sub(upper.offset).ok_or(Malformed::TotalLength)?,
            more: word & 1 != 0,
            l4: upper.offset,
        })
    }

    /// Whether it has the ports.
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Whether it begins within a TCP header, so that what it says could replace what the first one said (RFC 1858
    /// section 3, RFC 3128).
    pub fn is_within_header(&self) -> bool {
        self.protocol == protocol::TCP && (1..tcp::LEN).contains(&self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn v4(offset: u16, more: bool, len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9)
            .udp(1, 2)
            .write(&mut packet, &vec![0; len])
            .unwrap();
        packet[4..6].copy_from_slice(&[0xab, 0xcd]);
        packet[6..8].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
        packet
    }

    fn v6(offset: u16, more: bool, len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 9).udp(1, 2).write(&mut packet, &vec![0; len]).unwrap();
        packet[6] = 44;
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        packet.splice(40..40, [17, 0, high, low, 1, 2, 3, 4]);
        let payload = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet
    }

    proptest! {
        #[test]
        fn fields_are_where_they_belong(offset in 0u16..8000, more: bool, len in 0usize..200) {
            for (packet, identification, l4) in
                [(v4(offset, more, len), 0xabcd, 20), (v6(offset, more, len), 0x0102_0304, 48)]
            {
                let fragment = Fragment::parse(&packet);
                if more && !len.is_multiple_of(8) {
                    prop_assert_eq!(fragment, Err(Malformed::Field));
                    continue;
                }
                let fragment = fragment.unwrap();
                prop_assert_eq!((fragment.offset, fragment.more, fragment.len), (usize::from(offset) * 8, more, len + 8));
                prop_assert_eq!((fragment.identification, fragment.protocol, fragment.l4), (identification, 17, l4));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), version in 4u8..7) {
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            let valid = match version {
                4 => ipv4::Ipv4::parse(&bytes, bytes.len()).is_ok(),
                _ => ipv6::Ipv6::parse(&bytes, bytes.len()).is_ok(),
            };
            if valid && let Ok(fragment) = Fragment::parse(&bytes) {
                prop_assert!(fragment.l4 + fragment.len <= bytes.len());
                prop_assert!((fragment.offset + fragment.len).div_ceil(UNIT) <= MOST_UNITS);
            }
        }
    }

    #[test]
    fn impossible_ones_are_refused() {
        // Beyond the longest datagram, as the "ping of death".
        assert_eq!(Fragment::parse(&v4(8191, false, 100)), Err(Malformed::Field));
        assert_eq!(Fragment::parse(&v6(8191, false, 100)), Err(Malformed::Field));
        let mut empty = v4(8, true, 0);
        empty.truncate(20);
        empty[3] = 20;
        assert_eq!(Fragment::parse(&empty), Err(Malformed::Field));
        let mut tcp = v4(1, true, 40);
        tcp[9] = 6;
        assert!(Fragment::parse(&tcp).unwrap().is_within_header());
        tcp[7] = 3;
        assert!(!Fragment::parse(&tcp).unwrap().is_within_header());
    }
}
