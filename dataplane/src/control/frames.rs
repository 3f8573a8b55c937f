//! The frames that the control thread has sent: questions about neighbours, and announcements of its own addresses.

use crate::route::NextHop;
use crate::snapshot::Port;
use crate::wire::ethernet::{self, Mac, ethertype};
use crate::wire::{Malformed, arp, ndp};
use crate::worker::Frame;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Shortest Ethernet frame in bytes without its check sequence; not every device pads.
pub(super) const MIN_FRAME: usize = 60;

/// All nodes on the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A question for the hardware address of `hop`, to all of the link or to one station. `None` if the port has no
/// address to ask from.
pub(super) fn solicitation(port: &Port, hop: NextHop, to: Option<Mac>) -> Option<Frame> {
    match hop.address {
        IpAddr::V4(target) => {
            let source = source_v4(port, target)?;
            arp(to.unwrap_or(Mac::BROADCAST), (port.mac, source), (to.unwrap_or_default(), target))
        }
        IpAddr::V6(target) => {
            let source = source_v6(port, target);
            let group = ndp::solicited_node(target);
            // "the neighbor's solicited-node multicast address, or the target address" (RFC 4861 section 4.3)
            let to = to.map_or((Mac::of_ipv6_multicast(group), group), |mac| (mac, target));
            neighbor_discovery(ndp::Kind::Solicitation, target, (port.mac, source), to)
        }
    }
}

/// Tells the whole link that `address` is at `port` (RFC 5227 section 2.3, RFC 4861 section 7.2.6).
pub(super) fn announcement(port: &Port, address: IpAddr) -> Option<Frame> {
    match address {
        IpAddr::V4(address) => arp(Mac::BROADCAST, (port.mac, address), (Mac::default(), address)),
        IpAddr::V6(address) => neighbor_discovery(
            ndp::Kind::Advertisement(ndp::flag::OVERRIDE),
            address,
            (port.mac, address),
            (Mac::of_ipv6_multicast(ALL_NODES), ALL_NODES),
        ),
    }
}

/// The port's address on the subnet of `target`, or any.
fn source_v4(port: &Port, target: Ipv4Addr) -> Option<Ipv4Addr> {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let near = port.addresses.iter().find(|own| own.subnet().contains(target.into()));
    near.and_then(|own| v4(own.address())).or_else(|| port.addresses.iter().find_map(|own| v4(own.address())))
}

/// The port's address on the subnet of `target`, or the link-local one.
fn source_v6(port: &Port, target: Ipv6Addr) -> Ipv6Addr {
    let near = port.addresses.iter().find(|own| own.subnet().contains(target.into()));
    match near.map(|own| own.address()) {
        Some(IpAddr::V6(address)) => address,
        _ => port.link_local(),
    }
}

fn arp(to: Mac, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Option<Frame> {
    let mut frame = zeroed(MIN_FRAME);
    let written = ethernet::emit(&mut frame, to, sender.0, ethertype::ARP)
        .and_then(|()| arp::emit(&mut frame[ethernet::LEN..], arp::REQUEST, sender, target));
    finished(written, frame)
}

fn neighbor_discovery(
    kind: ndp::Kind,
    target: Ipv6Addr,
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
) -> Option<Frame> {
    let mut frame = zeroed(ndp::FRAME_LEN);
    let written = ndp::emit(&mut frame, kind, target, from, to);
    finished(written, frame)
}

fn zeroed(len: usize) -> Frame {
    std::iter::repeat_n(0, len).collect()
}

fn finished(written: Result<(), Malformed>, frame: Frame) -> Option<Frame> {
    written.ok().map(|()| frame)
}
