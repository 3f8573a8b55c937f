//! What is for the host itself: its kernel gets a copy, by the interface that stands for the port.
//!
//! Everything that the balancer knows (a service, a connection, a check, ARP, neighbour discovery, echo) goes before. Of the
//! rest the kernel gets what is for an address of the host's, whatever the protocol, and what is for the routers of the link:
//! 224.0.0.0/24 (RFC 5771 section 4) and ff02::/16 (RFC 4291 section 2.7). Frames that are wrong stay where they were:
//! dropped, under their reason. So does advice about routes from the link (redirects, router advertisements): the balancer
//! follows none, and the host would part from it.

use super::Context;
use crate::flow::FIRST_PROBE_PORT;
use crate::packet::{Packet, RxChecksum};
use crate::rewrite::L3;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::{Ethernet, ethertype};
use crate::wire::{be16, icmp, ipv4, ipv6, protocol};
use std::net::IpAddr;

/// A packet from `source` to `destination` that the balancer has no use for, which is `reason`: the kernel's, if it is for
/// the host.
pub(super) fn or_drop(
    arrival: Context<'_>,
    (source, destination): (IpAddr, IpAddr),
    reason: DropReason,
) -> Verdict {
    let snapshot = arrival.snapshot;
    if !snapshot.has_host(arrival.port) || snapshot.host_of(destination).is_none() {
        Verdict::Drop(reason)
    } else if snapshot.is_local(source) {
        // From one of our own addresses: forged.
        Verdict::Drop(DropReason::IpSource)
    } else {
        Verdict::Punt
    }
}

/// What a neighbour said, and the balancer has heard: the kernel resolves its neighbours by the same answers.
pub(super) fn shared(arrival: Context<'_>) -> Verdict {
    if arrival.snapshot.has_host(arrival.port) { Verdict::Share } else { Verdict::Consume }
}

/// Whether the kernel gets an ICMP message of this type, that is no error.
pub(super) fn takes_icmp(kind: u8, v6: bool) -> bool {
    if v6 {
        !matches!(kind, icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT)
    } else {
        kind != icmp::v4::REDIRECT
    }
}

/// Whether a frame is for the kernel that was found unfit to be forwarded, for `reason`.
#[cold]
#[inline(never)]
pub(super) fn takes<P: Packet>(arrival: Context<'_>, reason: DropReason, packet: &P) -> bool {
    if !arrival.snapshot.has_host(arrival.port) {
        return false;
    }
    match reason {
        // Its header was looked at, and nothing is wrong with it but that it would have to stay here.
        DropReason::HopLimit
        | DropReason::UnknownProtocol
        | DropReason::Fragment
        | DropReason::IcmpFragment
        | DropReason::Multicast => whom(packet).is_some_and(|packet| packet.is_hosts(arrival)),
        _ => false,
    }
}

/// What the headers of a frame say.
struct Whom {
    source: IpAddr,
    destination: IpAddr,
    /// The Ethernet address is a group's.
    group: bool,
    protocol: u8,
    /// With TCP and UDP, if it is there.
    port: Option<u16>,
}

impl Whom {
    fn is_hosts(&self, arrival: Context<'_>) -> bool {
        let snapshot = arrival.snapshot;
        if snapshot.is_local(self.source) {
            return false;
        }
        if self.group {
            return is_link_group(self.destination);
        }
        // Without a hop left it cannot go to a backend, but that does not make it the kernel's.
        let elsewhere = self.port.is_some_and(|port| {
            port >= FIRST_PROBE_PORT || snapshot.find_service(self.protocol, self.destination, port).is_some()
        });
        !elsewhere && snapshot.host_of(self.destination).is_some()
    }
}

fn is_link_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
        IpAddr::V6(address) => matches!(address.octets(), [0xff, 0x02, ..]),
    }
}

/// Whom a frame is from and for; `None` if its headers are wrong.
fn whom<P: Packet>(packet: &P) -> Option<Whom> {
    let frame = packet.data();
    let header = Ethernet::parse(frame).ok()?;
    let (bytes, present) = (frame.get(L3..)?, packet.frame_len() - L3);
    let group = header.destination().is_multicast();
    let (source, destination, number, port_at): (IpAddr, IpAddr, u8, Option<usize>) = match header.ethertype()
    {
        ethertype::IPV4 => {
            let ip = ipv4::Ipv4::parse(bytes, present).ok()?;
            let header = bytes.get(..ip.header_len())?;
            // RFC 1812 section 5.3.7, as for what is forwarded; not all of these were looked at.
            let good = packet.rx_checksum() == RxChecksum::Ipv4Good || ipv4::checksum_ok(header);
            if !good || matches!(header[ipv4::at::SOURCE], 0 | 127 | 224..) {
                return None;
            }
            let first = ip.fragment_offset() == 0;
            (ip.source().into(), ip.destination().into(), ip.protocol(), first.then(|| ip.header_len() + 2))
        }
        ethertype::IPV6 => {
            let ip = ipv6::Ipv6::parse(bytes, present).ok()?;
            let source = ip.source();
            if source.is_multicast() || source.is_loopback() || source.is_unspecified() {
                return None;
            }
            let upper =
                ipv6::upper_layer(bytes.get(..ip.total_len().min(bytes.len()))?, ip.next_header()).ok()?;
            let at = (!upper.fragment).then_some(upper.offset + 2);
            (source.into(), ip.destination().into(), upper.protocol, at)
        }
        _ => return None,
    };
    if destination.is_multicast() != group {
        return None;
    }
    let port = port_at
        .filter(|_| matches!(number, protocol::TCP | protocol::UDP))
        .filter(|at| bytes.len() >= at + 2)
        .map(|at| be16(bytes, at));
    Some(Whom { source, destination, group, protocol: number, port })
}
