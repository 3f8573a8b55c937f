//! The packet that an ICMP error quotes: its IP header and the beginning of what follows (RFC 792; RFC 4443 section 2.4 (c)).
//!
//! A quote is cut short, so its length fields say more than there is. Its IP header's checksum is not looked at: routers
//! quote the packet as it is when they give up on it, hop limit already changed.

use super::{be16, field, ipv4, ipv6, protocol};
use std::net::IpAddr;

/// What every quote holds of the payload: "the first 64 bits of the original datagram's data" (RFC 792).
pub const PAYLOAD: usize = 8;

/// A quote that says which flow it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub protocol: u8,
    /// Where the transport header is, counted from the start of the quote: [`PAYLOAD`] bytes of it are there.
    pub l4: usize,
    /// The first two words of the transport header's first four bytes: source and destination port of TCP and UDP.
    pub ports: (u16, u16),
    /// Identifier of an ICMP echo.
    pub identifier: u16,
    /// Header and payload of the whole packet by its header, in bytes.
    pub total_len: usize,
}

/// Why a quote does not say which flow it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("no IP header")]
    Malformed,
    #[error("ends before eight bytes of the payload")]
    Truncated,
    #[error("a fragment that is not the first one, without ports")]
    Fragment,
}

impl Quote {
    /// `bytes` is all that the error quotes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        match bytes.first().ok_or(Unusable::Truncated)? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => Err(Unusable::Malformed),
        }
    }

    fn v4(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.len() < ipv4::LEN {
            return Err(Unusable::Truncated);
        }
        let ip = ipv4::Ipv4::parse(bytes, usize::MAX).map_err(|_| Unusable::Malformed)?;
        if ip.fragment_offset() != 0 {
            return Err(Unusable::Fragment);
        }
        Self::with_payload(
            bytes,
            (ip.source().into(), ip.destination().into()),
            ip.protocol(),
            ip.header_len(),
        )
        .map(|quote| Self {
            total_len: ip.total_len(),
            traffic_class: bytes[ipv4::at::TOS],
            ..quote
        })
    }

    fn v6(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.len() < ipv6::LEN {
            return Err(Unusable::Truncated);
        }
        let ip = ipv6::Ipv6::parse(bytes, usize::MAX).map_err(|_| Unusable::Malformed)?;
        let upper = ipv6::upper_layer(bytes, ip.next_header()).map_err(|_| Unusable::Truncated)?;
        // The two bytes before the identification: offset in units of 8 bytes, above three bits of flags.
        if upper.fragment && be16(bytes, upper.offset - ipv6::FRAGMENT_LEN + 2) >> 3 != 0 {
            return Err(Unusable::Fragment);
        }
        Self::with_payload(bytes, (ip.source().into(), ip.destination().into()), upper.protocol, upper.offset)
            .map(|quote| Self {
                total_len: ip.total_len(),
                traffic_class: (be16(bytes, 0) >> 4) as u8,
                ..quote
            })
    }

    fn with_payload(
        bytes: &[u8],
        (source, destination): (IpAddr, IpAddr),
        protocol: u8,
        l4: usize,
    ) -> Result<Self, Unusable> {
        let payload = bytes.get(l4..).and_then(|rest| rest.first_chunk::<PAYLOAD>());
        let header = payload.ok_or(Unusable::Truncated)?;
        let ports = (be16(header, 0), be16(header, 2));
        let identifier = u16::from_be_bytes(field(header, super::icmp::IDENTIFIER));
        Ok(Self { source, destination, traffic_class: 0, protocol, l4, ports, identifier, total_len: 0 })
    }

    /// Whether the quoted packet is ICMP or ICMPv6.
    pub fn is_icmp(&self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn says_which_flow(a: [u8; 4], b: [u8; 4], c: [u8; 16], d: [u8; 16], sport: u16, dport: u16, v6: bool, cut in 0usize..60) {
            let mut packet = Vec::new();
            let data = [7; 20];
            if v6 {
                PacketBuilder::ipv6(c, d, 1).udp(sport, dport).write(&mut packet, &data).unwrap();
            } else {
                PacketBuilder::ipv4(a, b, 1).udp(sport, dport).write(&mut packet, &data).unwrap();
            }
            let (l4, total_len) = (packet.len() - 28, packet.len());
            packet.truncate(cut.max(1));
            let quote = Quote::parse(&packet);
            if packet.len() < l4 + PAYLOAD {
                prop_assert_eq!(quote, Err(Unusable::Truncated));
            } else {
                let quote = quote.unwrap();
                let ends: (IpAddr, IpAddr) = if v6 { (c.into(), d.into()) } else { (a.into(), b.into()) };
                prop_assert_eq!((quote.source, quote.destination), ends);
                prop_assert_eq!((quote.protocol, quote.l4, quote.ports), (17, l4, (sport, dport)));
                prop_assert_eq!(quote.total_len, total_len);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 4u8..7) {
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            if let Ok(quote) = Quote::parse(&bytes) {
                prop_assert!(quote.l4 + PAYLOAD <= bytes.len());
            }
        }
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([1; 4], [2; 4], 1).udp(1, 2).write(&mut packet, &[0; 40]).unwrap();
        packet[6] = 0x20;
        assert!(Quote::parse(&packet).is_ok(), "the first one has");
        packet[7] = 1;
        assert_eq!(Quote::parse(&packet), Err(Unusable::Fragment));
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 1).udp(1, 2).write(&mut packet, &[0; 40]).unwrap();
        packet[6] = 44;
        packet.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(Quote::parse(&packet).map(|quote| (quote.l4, quote.ports)), Ok((48, (1, 2))));
        packet[43] = 9;
        assert_eq!(Quote::parse(&packet), Err(Unusable::Fragment));
        assert_eq!(Quote::parse(&[0x75; 60]), Err(Unusable::Malformed));
    }
}
