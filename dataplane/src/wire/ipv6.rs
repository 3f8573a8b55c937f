//! IPv6 (RFC 8200).

use super::{Malformed, be16, field, head, head_mut};
use std::net::Ipv6Addr;

/// Length of the fixed header.
pub const LEN: usize = 40;

/// Length of the fragment header (section 4.5).
pub const FRAGMENT_LEN: usize = 8;
/// Of the 16 bits with the offset: those that mean nothing.
pub const FRAGMENT_RESERVED: u16 = 0x0006;

/// Offsets from the start of the header.
pub mod at {
    pub const PAYLOAD_LENGTH: usize = 4;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SOURCE: usize = 8;
    pub const DESTINATION: usize = 24;
}

/// Extension headers (RFC 8200 section 4) that may stand before the upper layer's.
pub mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Extension headers walked over before a packet is refused: more never occur in practice, and the walk must end.
const MAX_EXTENSIONS: usize = 4;

/// The fixed header of a packet whose version and payload length agree with the bytes present.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a>(&'a [u8; LEN]);

/// Where the upper-layer header of a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    pub protocol: u8,
    /// From the start of the fixed header.
    pub offset: usize,
    /// A fragment header was there: this is one fragment of several, or an atomic one (RFC 6946).
    pub fragment: bool,
}

impl<'a> Ipv6<'a> {
    /// `bytes` starts at the header; `present` is how much of the packet there is, link-layer padding included.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], present: usize) -> Result<Self, Malformed> {
        let header: &[u8; LEN] = head(bytes)?;
        let this = Self(header);
        if header[0] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        if this.total_len() > present {
            return Err(Malformed::TotalLength);
        }
        Ok(this)
    }

    /// Fixed header and payload, in bytes (the field counts the payload alone).
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        LEN + usize::from(be16(self.0, at::PAYLOAD_LENGTH))
    }

    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.0[at::NEXT_HEADER]
    }

    #[inline(always)]
    pub fn hop_limit(&self) -> u8 {
        self.0[at::HOP_LIMIT]
    }

    pub fn source(&self) -> Ipv6Addr {
        field::<16>(self.0, at::SOURCE).into()
    }

    pub fn destination(&self) -> Ipv6Addr {
        field::<16>(self.0, at::DESTINATION).into()
    }
}

/// Walks the extension headers of the packet in `bytes` (already checked by [`Ipv6::parse`]).
pub fn upper_layer(bytes: &[u8], first: u8) -> Result<UpperLayer, Malformed> {
    let mut found = UpperLayer { protocol: first, offset: LEN, fragment: false };
    for _ in 0..=MAX_EXTENSIONS {
        let rest = bytes.get(found.offset..).unwrap_or_default();
        let len = match found.protocol {
            // RFC 8200 sections 4.3, 4.4, 4.6: length in units of 8 bytes, not including the first.
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION_OPTIONS => {
                8 + 8 * usize::from(*rest.get(1).ok_or(Malformed::Truncated)?)
            }
            extension::FRAGMENT => {
                found.fragment = true;
                FRAGMENT_LEN
            }
            _ => return Ok(found),
        };
        if rest.len() < len {
            return Err(Malformed::HeaderLength);
        }
        found.protocol = rest[0];
        found.offset += len;
        if found.fragment {
            // What follows a fragment header may be the middle of a payload.
            return Ok(found);
        }
    }
    Err(Malformed::HeaderLength)
}

/// Writes a fixed header.
pub fn emit(
    bytes: &mut [u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload_len: u16,
) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    header[..at::PAYLOAD_LENGTH].copy_from_slice(&[0x60, 0, 0, 0]);
    header[at::PAYLOAD_LENGTH..at::NEXT_HEADER].copy_from_slice(&payload_len.to_be_bytes());
    header[at::NEXT_HEADER] = next_header;
    header[at::HOP_LIMIT] = hop_limit;
    header[at::SOURCE..at::DESTINATION].copy_from_slice(&source.octets());
    header[at::DESTINATION..].copy_from_slice(&destination.octets());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(source: [u8; 16], destination: [u8; 16], next: u8, hop: u8, payload in 0usize..60) {
            let mut bytes = vec![0; LEN + payload];
            emit(&mut bytes, source.into(), destination.into(), next, hop, payload as u16).unwrap();
            let ip = Ipv6::parse(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(ip.source(), Ipv6Addr::from(source));
            prop_assert_eq!(ip.destination(), Ipv6Addr::from(destination));
            prop_assert_eq!((ip.next_header(), ip.hop_limit(), ip.total_len()), (next, hop, bytes.len()));
            let (theirs, _) = etherparse::Ipv6Header::from_slice(&bytes).unwrap();
            prop_assert_eq!(theirs.destination, destination);
            prop_assert_eq!(theirs.hop_limit, hop);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), first: u8) {
            let _ = Ipv6::parse(&bytes, bytes.len());
            if let Ok(upper) = upper_layer(&bytes, first) {
                prop_assert!(upper.offset <= bytes.len().max(LEN));
            }
        }
    }

    #[test]
    fn walks_extensions_and_stops_at_fragments() {
        let mut bytes = [0; LEN + 40];
        // Hop-by-hop of 8, destination options of 16, then UDP.
        bytes[LEN] = 60;
        bytes[LEN + 8..LEN + 10].copy_from_slice(&[17, 1]);
        assert_eq!(
            upper_layer(&bytes, 0),
            Ok(UpperLayer { protocol: 17, offset: LEN + 24, fragment: false })
        );
        bytes[LEN] = 44;
        bytes[LEN + 8] = 6;
        assert_eq!(upper_layer(&bytes, 0), Ok(UpperLayer { protocol: 6, offset: LEN + 16, fragment: true }));
        assert_eq!(upper_layer(&bytes[..LEN + 9], 0), Err(Malformed::HeaderLength));
        assert_eq!(upper_layer(&bytes[..=LEN], 0), Err(Malformed::Truncated));
    }

    #[test]
    fn endless_extensions_are_refused() {
        // Destination options, each naming another.
        let mut bytes = [0; LEN + 80];
        for at in (LEN..LEN + 80).step_by(8) {
            bytes[at] = 60;
        }
        assert_eq!(upper_layer(&bytes, 60), Err(Malformed::HeaderLength));
    }
}
