//! What has to be known of a packet to put it into a tunnel.

use crate::wire::checksum::Sum;
use crate::wire::{be16, field, ipv4, ipv6, protocol, udp};

/// An IP packet about to be encapsulated. It has been through the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Header and payload, in bytes.
    pub total_len: usize,
    /// DSCP and ECN. The outer header gets both as they are: RFC 6040 section 4.1, normal mode; RFC 2983 section 3.1.
    pub traffic_class: u8,
}

impl Inner {
    /// `packet` begins at the IP header.
    #[inline(always)]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header = packet.first_chunk::<{ ipv4::LEN }>()?;
                let total_len = usize::from(be16(header, ipv4::at::TOTAL_LENGTH));
                Some(Self { total_len, traffic_class: header[ipv4::at::TOS] })
            }
            6 => {
                let header = packet.first_chunk::<{ ipv6::LEN }>()?;
                let total_len = ipv6::LEN + usize::from(be16(header, ipv6::at::PAYLOAD_LENGTH));
                Some(Self { total_len, traffic_class: (be16(header, 0) >> 4) as u8 })
            }
            _ => None,
        }
    }

    /// The sum of all words of the packet. Where the packet's own checksums cover it, it follows from the headers alone:
    /// words that a good checksum covers add up to all ones, which is nothing. (If a checksum is wrong, so is the outer
    /// one, and the packet is thrown away one step earlier than it would be.)
    pub(super) fn sum(&self, packet: &[u8]) -> Option<Sum> {
        match self.by_headers(packet) {
            Some(sum) => Some(sum),
            None => Some(Sum::default().bytes(packet.get(..self.total_len)?)),
        }
    }

    /// The sum by headers; `None` if all bytes have to be read: fragments, other protocols than TCP and UDP, datagrams
    /// without a checksum or shorter than the packet.
    fn by_headers(&self, packet: &[u8]) -> Option<Sum> {
        let (number, offset, header, pseudo) = if packet.first()? >> 4 == 4 {
            let ip = packet.first_chunk::<{ ipv4::LEN }>()?;
            let fragment = be16(ip, ipv4::at::FRAGMENT) & ipv4::MF_OR_OFFSET != 0;
            let offset = usize::from(ip[0] & 0x0f) * 4;
            let number = ip[ipv4::at::PROTOCOL];
            if fragment || offset > self.total_len {
                return None;
            }
            let segment = (self.total_len - offset) as u16;
            let source = field::<4>(ip, ipv4::at::SOURCE).into();
            let destination = field::<4>(ip, ipv4::at::DESTINATION).into();
            // The header adds up to nothing: the parser has verified its checksum, or the port has.
            (number, offset, Sum::default(), Sum::default().pseudo_v4(source, destination, number, segment))
        } else {
            let ip = packet.first_chunk::<{ ipv6::LEN }>()?;
            let number = ip[ipv6::at::NEXT_HEADER];
            let segment = (self.total_len - ipv6::LEN) as u32;
            let source = field::<16>(ip, ipv6::at::SOURCE).into();
            let destination = field::<16>(ip, ipv6::at::DESTINATION).into();
            let pseudo = Sum::default().pseudo_v6(source, destination, number, segment);
            (number, ipv6::LEN, Sum::default().bytes(ip), pseudo)
        };
        let covered = match number {
            protocol::TCP => true,
            protocol::UDP => {
                let udp = packet.get(offset..)?.first_chunk::<{ udp::LEN }>()?;
                let whole = usize::from(be16(udp, udp::at::LENGTH)) == self.total_len - offset;
                whole && be16(udp, udp::at::CHECKSUM) != 0
            }
            _ => false,
        };
        // Pseudo header and segment add up to nothing, so the segment is the complement of the pseudo header.
        covered.then(|| header.word(pseudo.checksum()))
    }
}
