//! TCP (RFC 9293 section 3.1).

use super::{Malformed, be16, field, head};

/// Length of the header without options.
pub const LEN: usize = 20;

/// Offsets from the start of the header.
pub mod at {
    pub const SEQUENCE: usize = 4;
    pub const ACKNOWLEDGMENT: usize = 8;
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
}

/// Control bits.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// The fixed part of a header whose data offset is possible.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a>(&'a [u8; LEN]);

impl<'a> Tcp<'a> {
    /// `bytes` starts at the header; `segment` is the length of header and data by the IP header.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], segment: usize) -> Result<Self, Malformed> {
        let header: &[u8; LEN] = head(bytes)?;
        let this = Self(header);
        let header_len = this.header_len();
        if header_len < LEN || header_len > segment {
            return Err(Malformed::HeaderLength);
        }
        Ok(this)
    }

    /// Header with options, in bytes (the field counts 32-bit words).
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.0[at::DATA_OFFSET] >> 4) * 4
    }

    #[inline(always)]
    pub fn flags(&self) -> u8 {
        self.0[at::FLAGS]
    }

    pub fn source_port(&self) -> u16 {
        be16(self.0, 0)
    }

    pub fn destination_port(&self) -> u16 {
        be16(self.0, 2)
    }

    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(field(self.0, at::SEQUENCE))
    }

    /// The next byte that the sender expects; means nothing without the flag ACK.
    pub fn acknowledgment(&self) -> u32 {
        u32::from_be_bytes(field(self.0, at::ACKNOWLEDGMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_an_independent_parser(source: u16, destination: u16, sequence: u32, syn: bool, fin: bool, options in 0usize..10) {
            let mut theirs = etherparse::TcpHeader::new(source, destination, sequence, 1000);
            theirs.syn = syn;
            theirs.fin = fin;
            theirs.set_options_raw(&vec![1; options * 4]).unwrap();
            let mut bytes = Vec::new();
            theirs.write(&mut bytes).unwrap();
            let ours = Tcp::parse(&bytes, bytes.len()).unwrap();
            prop_assert_eq!((ours.source_port(), ours.destination_port(), ours.sequence()), (source, destination, sequence));
            prop_assert_eq!(ours.flags() & flag::SYN != 0, syn);
            prop_assert_eq!(ours.flags() & flag::FIN != 0, fin);
            prop_assert_eq!(ours.header_len(), bytes.len());
            prop_assert_eq!(Tcp::parse(&bytes, bytes.len() - 1).unwrap_err(), Malformed::HeaderLength);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), segment in 0usize..80) {
            let _ = Tcp::parse(&bytes, segment);
        }
    }
}
