//! UDP (RFC 768).

use super::{Malformed, be16, head, head_mut};

/// Length of the header.
pub const LEN: usize = 8;

/// Offsets from the start of the header.
pub mod at {
    pub const LENGTH: usize = 4;
    pub const CHECKSUM: usize = 6;
}

/// A header whose length field fits the datagram.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a>(&'a [u8; LEN]);

impl<'a> Udp<'a> {
    /// `bytes` starts at the header; `segment` is the length of header and data by the IP header.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], segment: usize) -> Result<Self, Malformed> {
        let header: &[u8; LEN] = head(bytes)?;
        let this = Self(header);
        if this.len() < LEN || this.len() > segment {
            return Err(Malformed::TotalLength);
        }
        Ok(this)
    }

    /// Header and data, in bytes.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty, reason = "a header's field, not a container")]
    pub fn len(&self) -> usize {
        usize::from(be16(self.0, at::LENGTH))
    }

    pub fn source_port(&self) -> u16 {
        be16(self.0, 0)
    }

    pub fn destination_port(&self) -> u16 {
        be16(self.0, 2)
    }

    /// Zero: the sender computed none.
    pub fn checksum(&self) -> u16 {
        be16(self.0, at::CHECKSUM)
    }
}

/// Writes a header without a checksum.
pub fn emit(bytes: &mut [u8], source: u16, destination: u16, len: u16) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    header[..2].copy_from_slice(&source.to_be_bytes());
    header[2..4].copy_from_slice(&destination.to_be_bytes());
    header[at::LENGTH..at::CHECKSUM].copy_from_slice(&len.to_be_bytes());
    header[at::CHECKSUM..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(source: u16, destination: u16, data in 0usize..100) {
            let mut bytes = vec![0; LEN + data];
            emit(&mut bytes, source, destination, (LEN + data) as u16).unwrap();
            let udp = Udp::parse(&bytes, bytes.len()).unwrap();
            prop_assert_eq!((udp.source_port(), udp.destination_port(), udp.len()), (source, destination, bytes.len()));
            prop_assert_eq!(Udp::parse(&bytes, bytes.len() - 1).unwrap_err(), Malformed::TotalLength);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20), segment in 0usize..80) {
            let _ = Udp::parse(&bytes, segment);
        }
    }
}
