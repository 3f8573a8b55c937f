//! ARP and neighbour discovery: the generator answers for the hosts that it plays, and asks for the balancer.

use super::world::World;
use dataplane::wire::ethernet::{self, Ethernet, Mac, ethertype};
use dataplane::wire::{arp, icmp, ipv6, ndp, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an ARP frame.
const ARP_FRAME: usize = ethernet::LEN + arp::LEN;

/// What a frame of neighbour resolution amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The balancer's hardware address, if the frame is from it.
    pub(crate) balancer: Option<Mac>,
    /// The answer to send.
    pub(crate) answer: Option<Vec<u8>>,
}

/// Understands a frame that arrived on `side`; `None` if it is about something else.
pub(crate) fn hear(world: &World, side: usize, frame: &[u8]) -> Option<Heard> {
    match Ethernet::parse(frame).ok()?.ethertype() {
        ethertype::ARP => hear_arp(world, side, frame),
        ethertype::IPV6 => hear_ndp(world, side, frame),
        _ => None,
    }
}

fn hear_arp(world: &World, side: usize, frame: &[u8]) -> Option<Heard> {
    let message = arp::Arp::parse(frame.get(ethernet::LEN..)?).ok()?;
    let sender = (message.sender_mac(), message.sender_ip());
    let target = message.target_ip();
    let balancer = (sender.1 == Ipv4Addr::from(world.sides[side].balancer_v4)).then_some(sender.0);
    let asked = message.operation() == arp::REQUEST;
    let answer = asked.then(|| world.mac_of(side, target.into())).flatten().and_then(|mac| {
        let mut answer = vec![0; ARP_FRAME];
        arp::emit(&mut answer[ethernet::LEN..], arp::REPLY, (mac, target), sender).ok()?;
        ethernet::emit(&mut answer, sender.0, mac, ethertype::ARP).ok()?;
        Some(answer)
    });
    Some(Heard { balancer, answer })
}

fn hear_ndp(world: &World, side: usize, frame: &[u8]) -> Option<Heard> {
    let ip = ipv6::Ipv6::parse(frame.get(ethernet::LEN..)?, frame.len() - ethernet::LEN).ok()?;
    let at = ethernet::LEN + ipv6::LEN;
    if frame[ethernet::LEN + ipv6::at::NEXT_HEADER] != protocol::ICMPV6
        || *frame.get(at)? < icmp::v6::NEIGHBOR_SOLICITATION
    {
        return None;
    }
    let end = ethernet::LEN + ip.total_len();
    let (source, destination) = (ip.source(), ip.destination());
    let hops = frame[ethernet::LEN + ipv6::at::HOP_LIMIT];
    let message = ndp::parse(frame.get(at..end)?, source, destination, hops).ok()?;
    let own = Ipv6Addr::from(world.sides[side].balancer_v6);
    let (from_balancer, asked) = match message.kind {
        ndp::Kind::Solicitation => (source == own, true),
        ndp::Kind::Advertisement(_) => (message.target == own, false),
    };
    let answer = asked.then(|| world.mac_of(side, message.target.into())).flatten().and_then(|mac| {
        let mut answer = vec![0; ndp::FRAME_LEN];
        let to = message.link_layer.or_else(|| Ethernet::parse(frame).ok().map(|header| header.source()))?;
        let flags = ndp::flag::SOLICITED | ndp::flag::OVERRIDE;
        let kind = ndp::Kind::Advertisement(flags);
        ndp::emit(&mut answer, kind, message.target, (mac, message.target), (to, source)).ok()?;
        Some(answer)
    });
    Some(Heard { balancer: message.link_layer.filter(|_| from_balancer), answer })
}

/// A question for the balancer's hardware address on `side`, in one family or the other.
pub(crate) fn ask(world: &World, side: usize, v6: bool) -> Vec<u8> {
    let here = &world.sides[side];
    let mac = World::gateway_mac();
    let mut frame;
    let written = if v6 {
        frame = vec![0; ndp::FRAME_LEN];
        let target = Ipv6Addr::from(here.balancer_v6);
        // RFC 4291 section 2.7.1: the solicited-node address ends in the target's last three bytes.
        let group = Ipv6Addr::from(0xff02_0000_0000_0000_0000_0001_ff00_0000 | here.balancer_v6 & 0xff_ffff);
        let from = (mac, Ipv6Addr::from(here.gateway_v6));
        ndp::emit(&mut frame, ndp::Kind::Solicitation, target, from, (Mac::of_ipv6_multicast(group), group))
    } else {
        frame = vec![0; ARP_FRAME];
        let target = (Mac::default(), Ipv4Addr::from(here.balancer_v4));
        let from = (mac, Ipv4Addr::from(here.gateway_v4));
        arp::emit(&mut frame[ethernet::LEN..], arp::REQUEST, from, target)
            .and_then(|()| ethernet::emit(&mut frame, Mac::BROADCAST, mac, ethertype::ARP))
    };
    debug_assert!(written.is_ok(), "{:?}", IpAddr::from(here.balancer_v4));
    frame
}
