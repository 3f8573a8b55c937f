//! Neighbour Discovery for IPv6 (RFC 4861): solicitations and advertisements.

use super::checksum::Sum;
use super::ethernet::{self, Mac, ethertype};
use super::{Malformed, field, head, icmp, ipv6, protocol};
use std::net::Ipv6Addr;

/// Length of a solicitation or advertisement without options (sections 4.3 and 4.4).
const LEN: usize = 24;
/// Length of a frame that [`emit`] writes: Ethernet, IPv6, message, one link-layer address option.
pub const FRAME_LEN: usize = ethernet::LEN + ipv6::LEN + LEN + OPTION_LEN;
/// Length of a link-layer address option for Ethernet (section 4.6.1).
const OPTION_LEN: usize = 8;

const FLAGS: usize = 4;
const TARGET: usize = 8;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// Flags of an advertisement.
pub mod flag {
    pub const ROUTER: u8 = 0x80;
    pub const SOLICITED: u8 = 0x40;
    pub const OVERRIDE: u8 = 0x20;
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Solicitation,
    /// With its flags.
    Advertisement(u8),
}

/// A message that passed the checks of RFC 4861 sections 7.1.1 and 7.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub target: Ipv6Addr,
    /// The sender's address in a solicitation, the target's in an advertisement, if given.
    pub link_layer: Option<Mac>,
}

/// Parses the ICMPv6 message `bytes` (to the end of the IPv6 payload) of a packet with the given header fields.
pub fn parse(
    bytes: &[u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
) -> Result<Message, Malformed> {
    let header: &[u8; LEN] = head(bytes)?;
    let target = Ipv6Addr::from(field::<16>(header, TARGET));
    if hop_limit != 255 || header[1] != 0 || target.is_multicast() {
        return Err(Malformed::Field);
    }
    if Sum::default()
        .pseudo_v6(source, destination, protocol::ICMPV6, bytes.len() as u32)
        .bytes(bytes)
        .checksum()
        != 0
    {
        return Err(Malformed::Checksum);
    }
    let (kind, wanted) = match header[0] {
        icmp::v6::NEIGHBOR_SOLICITATION => (Kind::Solicitation, SOURCE_LINK_LAYER_ADDRESS),
        icmp::v6::NEIGHBOR_ADVERTISEMENT => (Kind::Advertisement(header[FLAGS]), TARGET_LINK_LAYER_ADDRESS),
        _ => return Err(Malformed::Field),
    };
    let mut link_layer = None;
    let mut options = &bytes[LEN..];
    while !options.is_empty() {
        // Section 4.6: length in units of 8 bytes; zero must be discarded.
        let len = 8 * usize::from(*options.get(1).ok_or(Malformed::Truncated)?);
        if len == 0 || len > options.len() {
            return Err(Malformed::HeaderLength);
        }
        if options[0] == wanted && len == OPTION_LEN {
            link_layer = Some(Mac(field(options, 2)));
        }
        options = &options[len..];
    }
    // Section 7.1.1: a solicitation from the unspecified address must not carry the option.
    if kind == Kind::Solicitation && source.is_unspecified() && link_layer.is_some() {
        return Err(Malformed::Field);
    }
    Ok(Message { kind, target, link_layer })
}

/// Writes a whole frame of [`FRAME_LEN`] bytes: a message about `target` with `from`'s hardware address as its option.
pub fn emit(
    frame: &mut [u8],
    kind: Kind,
    target: Ipv6Addr,
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
) -> Result<(), Malformed> {
    let frame: &mut [u8; FRAME_LEN] = super::head_mut(frame)?;
    ethernet::emit(frame, to.0, from.0, ethertype::IPV6)?;
    let packet = &mut frame[ethernet::LEN..];
    // Section 7.1: the hop limit of 255 proves that no router forwarded it.
    ipv6::emit(packet, from.1, to.1, protocol::ICMPV6, 255, (LEN + OPTION_LEN) as u16)?;
    let message = &mut packet[ipv6::LEN..];
    message[..TARGET].fill(0);
    let option = match kind {
        Kind::Solicitation => {
            message[0] = icmp::v6::NEIGHBOR_SOLICITATION;
            SOURCE_LINK_LAYER_ADDRESS
        }
        Kind::Advertisement(flags) => {
            message[0] = icmp::v6::NEIGHBOR_ADVERTISEMENT;
            message[FLAGS] = flags;
            TARGET_LINK_LAYER_ADDRESS
        }
    };
    message[TARGET..LEN].copy_from_slice(&target.octets());
    message[LEN..LEN + 2].copy_from_slice(&[option, 1]);
    message[LEN + 2..].copy_from_slice(&from.0.0);
    let sum = Sum::default().pseudo_v6(from.1, to.1, protocol::ICMPV6, message.len() as u32).bytes(message);
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    Ok(())
}

/// The solicited-node multicast address of `target` (RFC 4291 section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_undoes_emit(mac: [u8; 6], from: [u8; 16], to: [u8; 16], mut target: [u8; 16], flags: u8, solicitation: bool) {
            target[0] = 0x20;
            let kind = if solicitation { Kind::Solicitation } else { Kind::Advertisement(flags) };
            let (from, to) = (Ipv6Addr::from(from), Ipv6Addr::from(to));
            prop_assume!(!from.is_unspecified());
            let mut frame = [0; FRAME_LEN];
            emit(&mut frame, kind, target.into(), (Mac(mac), from), (Mac::BROADCAST, to)).unwrap();
            let ip = ipv6::Ipv6::parse(&frame[ethernet::LEN..], FRAME_LEN - ethernet::LEN).unwrap();
            let body = &frame[ethernet::LEN + ipv6::LEN..];
            let message = parse(body, ip.source(), ip.destination(), ip.hop_limit()).unwrap();
            prop_assert_eq!(message, Message { kind, target: target.into(), link_layer: Some(Mac(mac)) });
            // Off-link senders cannot reach 255.
            prop_assert_eq!(parse(body, from, to, 254), Err(Malformed::Field));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes, Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, 255);
        }
    }

    #[test]
    fn zero_length_options_are_refused() {
        let mut frame = [0; FRAME_LEN];
        let us = (Mac([2; 6]), Ipv6Addr::LOCALHOST);
        emit(&mut frame, Kind::Solicitation, Ipv6Addr::LOCALHOST, us, us).unwrap();
        let body = &mut frame[ethernet::LEN + ipv6::LEN..];
        // The checksum stays right: what the length loses, an unused byte gains.
        body[LEN + 1] = 0;
        body[FLAGS + 1] = 1;
        assert_eq!(parse(body, us.1, us.1, 255), Err(Malformed::HeaderLength));
    }

    #[test]
    fn solicited_node_of_rfc_4291() {
        let target: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(target), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    }
}
