//! IPv4 (RFC 791), as a forwarder has to check it (RFC 1812 section 5.2.2).

use super::checksum::Sum;
use super::{Malformed, be16, field, head, head_mut};
use std::net::Ipv4Addr;

/// Length of the header without options.
pub const LEN: usize = 20;

/// Offsets from the start of the header.
pub mod at {
    /// Differentiated services code point and explicit congestion notification (RFC 2474, RFC 3168).
    pub const TOS: usize = 1;
    pub const TOTAL_LENGTH: usize = 2;
    pub const IDENTIFICATION: usize = 4;
    pub const FRAGMENT: usize = 6;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: usize = 10;
    pub const SOURCE: usize = 12;
    pub const DESTINATION: usize = 16;
}

/// Don't Fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// More Fragments.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// More Fragments, and the 13 bits of the fragment offset.
pub const MF_OR_OFFSET: u16 = 0x3fff;

/// The header of a packet whose version, header length and total length agree with the bytes present.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a>(&'a [u8; LEN]);

impl<'a> Ipv4<'a> {
    /// Checks all that RFC 1812 section 5.2.2 lists but the checksum. `bytes` starts at the header; `present` is how
    /// much of the packet there is, link-layer padding included (more than `bytes` if it has further segments).
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], present: usize) -> Result<Self, Malformed> {
        let header: &[u8; LEN] = head(bytes)?;
        let this = Self(header);
        if header[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let (header_len, total) = (this.header_len(), this.total_len());
        if header_len < LEN || header_len > bytes.len() {
            return Err(Malformed::HeaderLength);
        }
        if total < header_len || total > present {
            return Err(Malformed::TotalLength);
        }
        Ok(this)
    }

    /// Header with options, in bytes (the field counts 32-bit words).
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    /// Header and payload, in bytes.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.0, at::TOTAL_LENGTH))
    }

    /// Whether this is one fragment of several, the first included.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        be16(self.0, at::FRAGMENT) & MF_OR_OFFSET != 0
    }

    /// Where the payload belongs in that of the whole datagram, in bytes (the field counts units of 8).
    pub fn fragment_offset(&self) -> usize {
        usize::from(be16(self.0, at::FRAGMENT) & 0x1fff) * 8
    }

    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.0[at::TTL]
    }

    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0[at::PROTOCOL]
    }

    pub fn source(&self) -> Ipv4Addr {
        field::<4>(self.0, at::SOURCE).into()
    }

    pub fn destination(&self) -> Ipv4Addr {
        field::<4>(self.0, at::DESTINATION).into()
    }
}

/// Whether the checksum of a header (with its options) verifies.
#[inline(always)]
pub fn checksum_ok(header: &[u8]) -> bool {
    if let Ok(header) = <&[u8; LEN]>::try_from(header) {
        return plain_checksum_ok(header);
    }
    Sum::default().bytes(header).checksum() == 0
}

/// Makes the checksum of a header (with its options) right.
#[inline(always)]
pub fn seal(header: &mut [u8]) {
    if let Some(field) = header.get_mut(at::CHECKSUM..at::SOURCE) {
        field.fill(0);
    }
    let checksum = Sum::default().bytes(header).checksum();
    if let Some(field) = header.get_mut(at::CHECKSUM..at::SOURCE) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// As [`checksum_ok`], for a header without options: 64 bits at a time, each carry added at the other end.
#[inline(always)]
fn plain_checksum_ok(header: &[u8; LEN]) -> bool {
    let (sum, carry) =
        u64::from_le_bytes(field(header, 0)).overflowing_add(u64::from_le_bytes(field(header, 8)));
    let last = u64::from(u32::from_le_bytes(field(header, 16))) + u64::from(carry);
    let (sum, carry) = sum.overflowing_add(last);
    let sum = sum + u64::from(carry);
    // Both halves, with the carry, in the upper one; then the same once more.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
}

/// Writes a header without options, of a packet of `total_len` bytes, with its checksum.
pub fn emit(
    bytes: &mut [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    total_len: u16,
) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    *header = [0; LEN];
    header[0] = 0x45;
    header[at::TOTAL_LENGTH..at::TOTAL_LENGTH + 2].copy_from_slice(&total_len.to_be_bytes());
    header[at::TTL] = ttl;
    header[at::PROTOCOL] = protocol;
    header[at::SOURCE..at::DESTINATION].copy_from_slice(&source.octets());
    header[at::DESTINATION..].copy_from_slice(&destination.octets());
    seal(header);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(source: [u8; 4], destination: [u8; 4], protocol: u8, ttl: u8, payload in 0usize..60) {
            let mut bytes = vec![0; LEN + payload];
            emit(&mut bytes, source.into(), destination.into(), protocol, ttl, (LEN + payload) as u16).unwrap();
            let ip = Ipv4::parse(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(ip.source(), Ipv4Addr::from(source));
            prop_assert_eq!(ip.destination(), Ipv4Addr::from(destination));
            prop_assert_eq!((ip.protocol(), ip.ttl(), ip.total_len()), (protocol, ttl, LEN + payload));
            prop_assert!(checksum_ok(&bytes[..LEN]));
            let (theirs, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
            prop_assert_eq!(theirs.calc_header_checksum(), theirs.header_checksum);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), present in 0usize..100) {
            if let Ok(ip) = Ipv4::parse(&bytes, present) {
                prop_assert!(ip.header_len() <= bytes.len() && ip.total_len() <= present && bytes[0] >> 4 == 4);
                let _ = (checksum_ok(&bytes[..ip.header_len()]), ip.is_fragment());
            }
        }

        #[test]
        fn one_flipped_bit_breaks_the_checksum(bit in 0usize..160, source: [u8; 4]) {
            let mut bytes = [0; LEN];
            emit(&mut bytes, source.into(), [10, 0, 0, 1].into(), 6, 64, 20).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!checksum_ok(&bytes));
        }
    }

    #[test]
    fn each_check_has_its_error() {
        let mut good = [0; 24];
        emit(&mut good, [1, 2, 3, 4].into(), [5, 6, 7, 8].into(), 17, 9, 24).unwrap();
        let broken = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Ipv4::parse(&bytes, bytes.len()).map(|_| ()).unwrap_err()
        };
        assert_eq!(broken(0, 0x65), Malformed::Version);
        assert_eq!(broken(0, 0x44), Malformed::HeaderLength);
        assert_eq!(broken(0, 0x47), Malformed::HeaderLength);
        assert_eq!(broken(3, 19), Malformed::TotalLength);
        assert_eq!(broken(3, 25), Malformed::TotalLength);
        assert_eq!(Ipv4::parse(&good[..19], 19).unwrap_err(), Malformed::Truncated);
    }
}
