//! Generic UDP Encapsulation (draft-ietf-intarea-gue-09): what stands behind the UDP header.

use super::{Malformed, head, head_mut};

/// The registered port (IANA "gue").
pub const PORT: u16 = 6080;

/// Length of variant 0's header without optional fields.
pub const LEN: usize = 4;

/// The top two bits of the first byte (section 3): 0 for the header form; 1 for IP directly, whose version nibble
/// begins with these very bits.
const VARIANT_SHIFT: u8 = 6;
/// The control flag of variant 0 (section 3.1): set, the rest is no packet.
const CONTROL: u8 = 0x20;
/// Length of variant 0's optional fields in 32-bit words.
const HLEN: u8 = 0x1f;

/// What follows the UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gue {
    /// A header of so many bytes, then a packet of that IP protocol.
    Header { protocol: u8, header_len: usize },
    /// An IP packet at once.
    Direct,
}

impl Gue {
    /// Fails for control messages and for variants that are not defined.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let first = *bytes.first().ok_or(Malformed::Truncated)?;
        match first >> VARIANT_SHIFT {
            0 => {
                let header: &[u8; LEN] = head(bytes)?;
                if first & CONTROL != 0 {
                    return Err(Malformed::Field);
                }
                let header_len = LEN + 4 * usize::from(first & HLEN);
                Ok(Self::Header { protocol: header[1], header_len })
            }
            1 => Ok(Self::Direct),
            _ => Err(Malformed::Version),
        }
    }
}

/// Writes variant 0's header without optional fields, in front of a packet of that IP protocol.
pub fn emit(bytes: &mut [u8], protocol: u8) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    *header = [0, protocol, 0, 0];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(protocol: u8) {
            let mut bytes = [0xff; LEN];
            emit(&mut bytes, protocol).unwrap();
            prop_assert_eq!(Gue::parse(&bytes).unwrap(), Gue::Header { protocol, header_len: LEN });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            let _ = Gue::parse(&bytes);
        }
    }

    #[test]
    fn variants_are_told_apart() {
        assert_eq!(Gue::parse(&[0x45]).unwrap(), Gue::Direct);
        assert_eq!(Gue::parse(&[0x60]).unwrap(), Gue::Direct);
        assert_eq!(Gue::parse(&[0x03, 41, 0, 0]).unwrap(), Gue::Header { protocol: 41, header_len: 16 });
        assert_eq!(Gue::parse(&[0x20, 0, 0, 0]).unwrap_err(), Malformed::Field);
        assert_eq!(Gue::parse(&[0x80, 4, 0, 0]).unwrap_err(), Malformed::Version);
        assert_eq!(Gue::parse(&[0, 4]).unwrap_err(), Malformed::Truncated);
        assert_eq!(Gue::parse(&[]).unwrap_err(), Malformed::Truncated);
    }
}
