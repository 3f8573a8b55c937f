//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the part that both share.

use super::{Malformed, be16, field, head, head_mut};

/// Length of the header.
pub const LEN: usize = 8;

/// Offset of the identifier of an echo message.
pub const IDENTIFIER: usize = 4;

/// Message types of ICMP.
pub mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    pub const REDIRECT: u8 = 5;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Codes of [`DESTINATION_UNREACHABLE`].
    pub mod code {
        pub const HOST_UNREACHABLE: u8 = 1;
        /// The second word holds the MTU of the next hop (RFC 1191 section 4).
        pub const FRAGMENTATION_NEEDED: u8 = 4;
        pub const SOURCE_ROUTE_FAILED: u8 = 5;
    }

    /// Whether a message reports an error and quotes the packet that caused it (RFC 1122 section 3.2.2).
    pub fn is_error(kind: u8) -> bool {
        matches!(kind, DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

/// Message types of ICMPv6.
pub mod v6 {
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// The second word holds the MTU of the next hop (RFC 4443 section 3.2).
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour discovery (RFC 4861 section 4) is all types from this one to [`REDIRECT`].
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;

    /// Codes of [`DESTINATION_UNREACHABLE`].
    pub mod code {
        pub const ADDRESS_UNREACHABLE: u8 = 3;
    }

    /// Whether a message reports an error and quotes the packet that caused it (RFC 4443 section 2.1).
    pub fn is_error(kind: u8) -> bool {
        kind < 128
    }
}

/// Offset of the checksum field.
pub const CHECKSUM: usize = 2;

/// The header of a message.
#[derive(Debug, Clone, Copy)]
pub struct Icmp<'a>(&'a [u8; LEN]);

impl<'a> Icmp<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        head(bytes).map(Self)
    }

    pub fn kind(&self) -> u8 {
        self.0[0]
    }

    pub fn code(&self) -> u8 {
        self.0[1]
    }

    pub fn checksum(&self) -> u16 {
        be16(self.0, CHECKSUM)
    }

    /// The second word: what it means depends on the type.
    pub fn rest(&self) -> u32 {
        u32::from_be_bytes(field(self.0, 4))
    }
}

/// Writes a header without a checksum.
pub fn emit(bytes: &mut [u8], kind: u8, code: u8, rest: u32) -> Result<(), Malformed> {
    let header: &mut [u8; LEN] = head_mut(bytes)?;
    header[..4].copy_from_slice(&[kind, code, 0, 0]);
    header[4..].copy_from_slice(&rest.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(kind: u8, code: u8, rest: u32) {
            let mut bytes = [0xff; LEN];
            emit(&mut bytes, kind, code, rest).unwrap();
            let icmp = Icmp::parse(&bytes).unwrap();
            prop_assert_eq!((icmp.kind(), icmp.code(), icmp.checksum(), icmp.rest()), (kind, code, 0, rest));
            prop_assert_eq!(Icmp::parse(&bytes[..7]).unwrap_err(), Malformed::Truncated);
        }
    }
}
