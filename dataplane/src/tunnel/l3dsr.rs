//! L3DSR: nothing goes around a packet. It is addressed to the backend, and its DSCP (RFC 2474 section 3) says which VIP the
//! backend has to put back. Ports and ECN (RFC 3168 section 5) are kept; checksums change by what changed.

use crate::wire::checksum::Delta;
use crate::wire::{be16, field, field_mut, icmp, ipv4, ipv6, protocol, tcp, udp};
use std::net::IpAddr;

/// How a backend is told which VIP a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// From 1 to 63.
    pub dscp: u8,
    pub vip: IpAddr,
}

/// The way of packets to one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readdressing {
    backend: IpAddr,
    mark: Mark,
}

impl Readdressing {
    /// `None` if the backend is not of the VIP's family, or the DSCP says nothing.
    pub(super) fn new(mark: Mark, backend: IpAddr) -> Option<Self> {
        let fits = mark.vip.is_ipv6() == backend.is_ipv6() && (1..=63).contains(&mark.dscp);
        fits.then_some(Self { backend, mark })
    }

    pub fn backend(&self) -> IpAddr {
        self.backend
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Changes the packet, which begins at the IP header; `None` if a header that has to be changed is not there. A packet
    /// of ICMP is one about a connection.
    pub(super) fn apply(&self, packet: &mut [u8]) -> Option<()> {
        let dscp = self.mark.dscp << 2;
        match (self.backend, packet.first()? >> 4) {
            (IpAddr::V4(backend), 4) => {
                let ip = packet.first_chunk_mut::<{ ipv4::LEN }>()?;
                let (before, now) = (field::<4>(ip, ipv4::at::DESTINATION), backend.octets());
                let address = Delta::replace(&before, &now);
                *field_mut(ip, ipv4::at::DESTINATION) = now;
                let [version, tos] = field(ip, 0);
                ip[ipv4::at::TOS] = dscp | tos & ECN;
                let class = Delta::replace(&[version, tos], &[version, ip[ipv4::at::TOS]]);
                address.and(class).update(field_mut(ip, ipv4::at::CHECKSUM));
                let later = be16(ip, ipv4::at::FRAGMENT) & OFFSET != 0;
                let (number, l4) = (ip[ipv4::at::PROTOCOL], usize::from(ip[0] & 0xf) * 4);
                // ICMP's checksum covers no address.
                if later || number == protocol::ICMP { Some(()) } else { follow(packet, l4, number, address) }
            }
            (IpAddr::V6(backend), 6) => {
                let ip = packet.first_chunk_mut::<{ ipv6::LEN }>()?;
                let (before, now) = (field::<16>(ip, ipv6::at::DESTINATION), backend.octets());
                let address = Delta::replace(&before, &now);
                *field_mut(ip, ipv6::at::DESTINATION) = now;
                let word = be16(ip, 0) & !(0xfc << 4) | u16::from(dscp) << 4;
                *field_mut(ip, 0) = word.to_be_bytes();
                let next_header = ip[ipv6::at::NEXT_HEADER];
                let upper = ipv6::upper_layer(packet, next_header).ok()?;
                let later = upper.fragment && be16(packet, upper.offset - ipv6::FRAGMENT_LEN + 2) >> 3 != 0;
                if later { Some(()) } else { follow(packet, upper.offset, upper.protocol, address) }
            }
            _ => None,
        }
    }
}

/// The ECN field in the traffic class.
const ECN: u8 = 0b11;
/// The fragment offset in its word of an IPv4 header.
const OFFSET: u16 = 0x1fff;

/// Updates the transport checksum, whose pseudo header has the address (RFC 9293 section 3.1; RFC 768; RFC 4443 section 2.3).
fn follow(packet: &mut [u8], l4: usize, number: u8, address: Delta) -> Option<()> {
    let header = packet.get_mut(l4..)?;
    match number {
        protocol::TCP => {
            address.update(field_mut(header.first_chunk_mut::<{ tcp::LEN }>()?, tcp::at::CHECKSUM));
        }
        protocol::UDP => {
            address.update_udp(field_mut(header.first_chunk_mut::<{ udp::LEN }>()?, udp::at::CHECKSUM));
        }
        protocol::ICMPV6 => {
            address.update(field_mut(header.first_chunk_mut::<{ icmp::LEN }>()?, icmp::CHECKSUM));
        }
        _ => {}
    }
    Some(())
}
