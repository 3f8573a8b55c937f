//! Generic Routing Encapsulation (RFC 2784, with the optional fields of RFC 2890).

use super::{Malformed, be16, head, head_mut};

/// Length of the header without optional fields.
pub const LEN: usize = 4;

/// Flags of the first 16 bits.
mod flag {
    /// Checksum present (RFC 2784 section 2.1): four more bytes.
    pub(super) const CHECKSUM: u16 = 0x8000;
    /// Key and sequence number present (RFC 2890 section 2): four more bytes each.
    pub(super) const KEY: u16 = 0x2000;
    pub(super) const SEQUENCE: u16 = 0x1000;
    /// The version, which is zero (RFC 2784 section 2.3.1), and all else that a receiver must know to be zero.
    pub(super) const OTHERS: u16 = !(CHECKSUM | KEY | SEQUENCE);
}

/// A header.
#[derive(Debug, Clone, Copy)]
pub struct Gre<'a>(&'a [u8; LEN]);

impl<'a> Gre<'a> {
    /// Fails for another version, and for routing information (RFC 1701), which nobody sends.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let this = Self(head(bytes)?);
        if be16(this.0, 0) & flag::OTHERS != 0 {
            return Err(Malformed::Field);
        }
        Ok(this)
    }

    /// The EtherType of what is inside.
    pub fn ethertype(&self) -> u16 {
        be16(self.0, 2)
    }

    /// Header with its optional fields, in bytes.
    pub fn header_len(&self) -> usize {
        let flags = be16(self.0, 0);
        let present = |bit| usize::from(flags & bit != 0) * 4;
        LEN + present(flag::CHECKSUM) + present(flag::KEY) + present(flag::SEQUENCE)
    }
}

/// Writes a header without optional fields.
pub fn emit(bytes: &mut [u8], ethertype: u16) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    let [high, low] = ethertype.to_be_bytes();
    *header = [0, 0, high, low];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(ethertype: u16) {
            let mut bytes = [0xff; LEN];
            emit(&mut bytes, ethertype).unwrap();
            let gre = Gre::parse(&bytes).unwrap();
            prop_assert_eq!((gre.ethertype(), gre.header_len()), (ethertype, LEN));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Ok(gre) = Gre::parse(&bytes) {
                prop_assert!((4..=16).contains(&gre.header_len()));
            }
        }
    }

    #[test]
    fn optional_fields_count_and_other_versions_fail() {
        assert_eq!(Gre::parse(&[0xb0, 0, 8, 0]).unwrap().header_len(), 16);
        assert_eq!(Gre::parse(&[0x20, 0, 8, 0]).unwrap().header_len(), 8);
        // Version 1 is PPTP's (RFC 2637).
        assert_eq!(Gre::parse(&[0x20, 1, 8, 0]).unwrap_err(), Malformed::Field);
        assert_eq!(Gre::parse(&[0x40, 0, 8, 0]).unwrap_err(), Malformed::Field);
        assert_eq!(Gre::parse(&[0, 0, 8]).unwrap_err(), Malformed::Truncated);
    }
}
