//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet::Mac;
use super::{Malformed, be16, field, head, head_mut};
use std::net::Ipv4Addr;

/// Length of the body.
pub const LEN: usize = 28;

pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;

/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
const FORMAT: [u8; 6] = [0, 1, 8, 0, 6, 4];
const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

/// A message, after its Ethernet header.
#[derive(Debug, Clone, Copy)]
pub struct Arp<'a>(&'a [u8; LEN]);

impl<'a> Arp<'a> {
    /// Fails unless the message is about IPv4 over Ethernet.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; LEN] = head(body)?;
        if bytes[..OPERATION] != FORMAT {
            return Err(Malformed::Field);
        }
        Ok(Self(bytes))
    }

    pub fn operation(&self) -> u16 {
        be16(self.0, OPERATION)
    }

    pub fn sender_mac(&self) -> Mac {
        Mac(field(self.0, SENDER_MAC))
    }

    pub fn sender_ip(&self) -> Ipv4Addr {
        field::<4>(self.0, SENDER_IP).into()
    }

    pub fn target_ip(&self) -> Ipv4Addr {
        field::<4>(self.0, TARGET_IP).into()
    }
}

/// Writes a message into the first [`LEN`] bytes of `body`.
pub fn emit(
    body: &mut [u8],
    operation: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Result<(), Malformed> {
    let bytes: &mut [u8; LEN] = head_mut(body)?;
    bytes[..OPERATION].copy_from_slice(&FORMAT);
    bytes[OPERATION..SENDER_MAC].copy_from_slice(&operation.to_be_bytes());
    bytes[SENDER_MAC..SENDER_IP].copy_from_slice(&sender.0.0);
    bytes[SENDER_IP..TARGET_MAC].copy_from_slice(&sender.1.octets());
    bytes[TARGET_MAC..TARGET_IP].copy_from_slice(&target.0.0);
    bytes[TARGET_IP..].copy_from_slice(&target.1.octets());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(operation: u16, smac: [u8; 6], sip: [u8; 4], tmac: [u8; 6], tip: [u8; 4]) {
            let mut body = [0; LEN];
            emit(&mut body, operation, (Mac(smac), sip.into()), (Mac(tmac), tip.into())).unwrap();
            let arp = Arp::parse(&body).unwrap();
            prop_assert_eq!(arp.operation(), operation);
            prop_assert_eq!(arp.sender_mac(), Mac(smac));
            prop_assert_eq!(arp.sender_ip(), Ipv4Addr::from(sip));
            prop_assert_eq!(arp.target_ip(), Ipv4Addr::from(tip));
        }

        #[test]
        fn other_formats_fail(mut body: [u8; LEN], at in 0usize..6) {
            body[..OPERATION].copy_from_slice(&FORMAT);
            body[at] ^= 0x40;
            prop_assert_eq!(Arp::parse(&body).unwrap_err(), Malformed::Field);
            prop_assert_eq!(Arp::parse(&body[..LEN - 1]).unwrap_err(), Malformed::Truncated);
        }
    }
}
