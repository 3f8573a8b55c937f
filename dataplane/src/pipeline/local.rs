//! What is meant for the balancer itself: ARP, neighbour discovery, echo.

use super::complain::{self, Complaint};
use super::parse::Other;
use super::{Context, Notice, Shared, punt};
use crate::flow::FIRST_PROBE_PORT;
use crate::packet::Packet;
use crate::rewrite::L3;
use crate::route::NextHop;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ethernet::{self, Ethernet, Mac, ethertype};
use crate::wire::{arp, be16, icmp, ipv4, ipv6, ndp, protocol};
use std::net::{IpAddr, Ipv6Addr};

/// Handles a packet that is no part of a flow.
#[inline(never)]
pub(super) fn receive<P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    other: Other,
    packet: &mut P,
) -> Verdict {
    match other {
        Other::Arp => arp(shared, arrival, packet),
        Other::Icmp { l4, len } => icmp_v4(arrival, usize::from(l4), usize::from(len), packet),
        Other::Icmpv6 { l4, len } => icmp_v6(shared, arrival, usize::from(l4), usize::from(len), packet),
        Other::Bad(reason) if punt::takes(arrival, reason, packet) => Verdict::Punt,
        Other::Bad(DropReason::HopLimit) => {
            complain::about(shared, arrival, DropReason::HopLimit, Complaint::HopLimit, packet)
        }
        Other::Bad(reason) => Verdict::Drop(reason),
        Other::PriorityTag => Verdict::Untag,
        // These need the tables.
        Other::IcmpError { .. } => Verdict::Drop(DropReason::IcmpUnrelated),
        Other::Fragment => Verdict::Drop(DropReason::Fragment),
    }
}

/// The hardware address of the port that the packet came by.
fn own_mac(arrival: Context<'_>) -> Option<Mac> {
    arrival.snapshot.ports().get(usize::from(arrival.port)).map(|port| port.mac)
}

/// Passes on what a neighbour says about itself, or that it claims an address of ours.
fn learn(shared: &mut Shared, arrival: Context<'_>, address: IpAddr, mac: Mac, solicited: bool) {
    let Context { port, snapshot, .. } = arrival;
    let nobody =
        mac.is_multicast() || mac == Mac::default() || address.is_unspecified() || address.is_multicast();
    if nobody || snapshot.ports().iter().any(|port| port.mac == mac) {
        return;
    }
    if snapshot.answers_for(address, port) {
        shared.notify(Notice::Conflict { port, address, mac });
    } else if snapshot.on_link(address) == Some(port) {
        shared.notify(Notice::Seen { hop: NextHop { port, address }, mac, solicited });
    }
}

/// RFC 826, and RFC 5227 section 2.1.1 for probes (sender 0.0.0.0).
fn arp<P: Packet>(shared: &mut Shared, arrival: Context<'_>, packet: &mut P) -> Verdict {
    let frame = packet.data_mut();
    let Ok(message) = arp::Arp::parse(frame.get(L3..).unwrap_or_default()) else {
        return Verdict::Drop(DropReason::ArpMalformed);
    };
    let sender = (message.sender_mac(), message.sender_ip());
    let target = message.target_ip();
    let for_us = arrival.snapshot.answers_for(target.into(), arrival.port);
    match message.operation() {
        arp::REQUEST if for_us => {
            let Some(mac) = own_mac(arrival) else { return Verdict::Drop(DropReason::NotForUs) };
            learn(shared, arrival, sender.1.into(), sender.0, false);
            let written = arp::emit(&mut frame[L3..], arp::REPLY, (mac, target), sender)
                .and_then(|()| ethernet::emit(frame, sender.0, mac, ethertype::ARP));
            if written.is_err() || sender.0.is_multicast() {
                Verdict::Drop(DropReason::ArpMalformed)
            } else {
                Verdict::Answer
            }
        }
        arp::REPLY => {
            learn(shared, arrival, sender.1.into(), sender.0, true);
            punt::shared(arrival)
        }
        // Somebody announces itself (RFC 5227 section 3): what we know about it may be out of date.
        arp::REQUEST if sender.1 == target => {
            learn(shared, arrival, sender.1.into(), sender.0, false);
            punt::shared(arrival)
        }
        arp::REQUEST => Verdict::Drop(DropReason::NotForUs),
        _ => Verdict::Drop(DropReason::ArpMalformed),
    }
}

/// Hop limit of what the balancer itself sends (RFC 1700's default).
const HOP_LIMIT: u8 = 64;

/// Whether the identifier at `offset` is one that health checks are made from.
fn is_probes(bytes: &[u8], offset: usize) -> bool {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .is_some_and(|&number| u16::from_be_bytes(number) >= FIRST_PROBE_PORT)
}

/// Turns the addresses of a frame round: Ethernet to its sender, from us.
fn turn_ethernet(frame: &mut [u8], mac: Mac) -> Option<()> {
    let header = Ethernet::parse(frame).ok()?;
    let (to, ethertype) = (header.source(), header.ethertype());
    if to.is_multicast() {
        return None;
    }
    ethernet::emit(frame, to, mac, ethertype).ok()
}

/// RFC 792 echo to one of our addresses.
fn icmp_v4<P: Packet>(arrival: Context<'_>, l4: usize, len: usize, packet: &mut P) -> Verdict {
    let whole = packet.data().len() == packet.frame_len();
    let own = own_mac(arrival);
    let frame = packet.data_mut();
    let (Ok(ip), Some(Ok(message))) =
        (ipv4::Ipv4::parse(&frame[L3..], frame.len() - L3), frame.get(l4..).map(icmp::Icmp::parse))
    else {
        return Verdict::Drop(if whole { DropReason::IcmpMalformed } else { DropReason::Truncated });
    };
    if len < icmp::LEN {
        return Verdict::Drop(DropReason::IcmpMalformed);
    }
    let destination = ip.destination();
    let (kind, code, checksum) = (message.kind(), message.code(), message.checksum());
    if kind == icmp::v4::ECHO_REPLY
        && arrival.snapshot.owns(destination.into())
        && is_probes(frame.get(l4..l4 + len).unwrap_or_default(), icmp::IDENTIFIER)
    {
        return Verdict::Deliver;
    }
    if kind != icmp::v4::ECHO_REQUEST || !arrival.snapshot.is_local(destination.into()) {
        let reason = DropReason::IcmpUnrelated;
        let intact = || {
            let body = frame.get(l4..l4 + len);
            body.is_some_and(|body| Sum::default().bytes(body).checksum() == 0)
        };
        return if punt::takes_icmp(kind, false) && intact() {
            punt::or_drop(arrival, (ip.source().into(), destination.into()), reason)
        } else {
            Verdict::Drop(reason)
        };
    }
    let Some(body) = frame.get(l4..l4 + len) else { return Verdict::Drop(DropReason::Truncated) };
    if code != 0 || Sum::default().bytes(body).checksum() != 0 {
        return Verdict::Drop(DropReason::IcmpMalformed);
    }
    let source = ip.source();
    let ttl = ip.ttl();
    let Some(()) = own.and_then(|mac| turn_ethernet(frame, mac)) else {
        return Verdict::Drop(DropReason::IcmpMalformed);
    };
    // Swapping addresses leaves the header's sum as it is; only the hop limit changes it.
    let header = &mut frame[L3..];
    let delta = Delta::replace(&[ttl, 0], &[HOP_LIMIT, 0]);
    let header_checksum = delta.apply(be16(header, ipv4::at::CHECKSUM));
    header[ipv4::at::TTL] = HOP_LIMIT;
    header[ipv4::at::CHECKSUM..ipv4::at::SOURCE].copy_from_slice(&header_checksum.to_be_bytes());
    header[ipv4::at::SOURCE..ipv4::at::DESTINATION].copy_from_slice(&destination.octets());
    header[ipv4::at::DESTINATION..ipv4::at::DESTINATION + 4].copy_from_slice(&source.octets());
    answer_echo(&mut frame[l4..], icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY, checksum);
    Verdict::Answer
}

/// Changes the type of an echo message, and its checksum with it.
fn answer_echo(message: &mut [u8], from: u8, to: u8, checksum: u16) {
    message[0] = to;
    let checksum = Delta::replace(&[from, 0], &[to, 0]).apply(checksum);
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 4443 echo to one of our addresses, and neighbour discovery.
fn icmp_v6<P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    l4: usize,
    len: usize,
    packet: &mut P,
) -> Verdict {
    let frame = packet.data();
    let (Ok(ip), Some(body)) = (ipv6::Ipv6::parse(&frame[L3..], frame.len() - L3), frame.get(l4..l4 + len))
    else {
        return Verdict::Drop(DropReason::Truncated);
    };
    let Ok(message) = icmp::Icmp::parse(body) else { return Verdict::Drop(DropReason::IcmpMalformed) };
    let (source, destination, hops) = (ip.source(), ip.destination(), ip.hop_limit());
    match message.kind() {
        icmp::v6::NEIGHBOR_SOLICITATION | icmp::v6::NEIGHBOR_ADVERTISEMENT => {
            match ndp::parse(body, source, destination, hops) {
                Ok(message) => neighbor_discovery(shared, arrival, message, source, packet),
                Err(_) => Verdict::Drop(DropReason::NdpMalformed),
            }
        }
        icmp::v6::ECHO_REQUEST if arrival.snapshot.is_local(destination.into()) => {
            let sum = Sum::default().pseudo_v6(source, destination, protocol::ICMPV6, len as u32).bytes(body);
            if message.code() != 0 || sum.checksum() != 0 || source.is_multicast() || source.is_unspecified()
            {
                return Verdict::Drop(DropReason::IcmpMalformed);
            }
            let (checksum, own) = (message.checksum(), own_mac(arrival));
            let frame = packet.data_mut();
            let Some(()) = own.and_then(|mac| turn_ethernet(frame, mac)) else {
                return Verdict::Drop(DropReason::IcmpMalformed);
            };
            let header = &mut frame[L3..];
            header[ipv6::at::HOP_LIMIT] = HOP_LIMIT;
            header[ipv6::at::SOURCE..ipv6::at::DESTINATION].copy_from_slice(&destination.octets());
            header[ipv6::at::DESTINATION..ipv6::LEN].copy_from_slice(&source.octets());
            answer_echo(&mut frame[l4..], icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY, checksum);
            Verdict::Answer
        }
        icmp::v6::ECHO_REPLY
            if arrival.snapshot.owns(destination.into()) && is_probes(body, icmp::IDENTIFIER) =>
        {
            Verdict::Deliver
        }
        kind => {
            let group = destination.is_multicast();
            let reason = if group { DropReason::Multicast } else { DropReason::IcmpUnrelated };
            let sum = Sum::default().pseudo_v6(source, destination, protocol::ICMPV6, len as u32).bytes(body);
            if !punt::takes_icmp(kind, true) || sum.checksum() != 0 {
                Verdict::Drop(reason)
            } else if group {
                let taken = punt::takes(arrival, reason, packet);
                if taken { Verdict::Punt } else { Verdict::Drop(reason) }
            } else {
                punt::or_drop(arrival, (source.into(), destination.into()), reason)
            }
        }
    }
}

/// RFC 4861 sections 7.2.3 to 7.2.5.
fn neighbor_discovery<P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    message: ndp::Message,
    source: Ipv6Addr,
    packet: &mut P,
) -> Verdict {
    match message.kind {
        ndp::Kind::Advertisement(flags) => {
            // Without the option only reachability could be confirmed, which costs us nothing to ask for again.
            if let Some(mac) = message.link_layer {
                learn(shared, arrival, message.target.into(), mac, flags & ndp::flag::SOLICITED != 0);
            }
            punt::shared(arrival)
        }
        ndp::Kind::Solicitation => {
            if !arrival.snapshot.answers_for(message.target.into(), arrival.port) {
                return Verdict::Drop(DropReason::NotForUs);
            }
            let Some(mac) = own_mac(arrival) else { return Verdict::Drop(DropReason::NotForUs) };
            let Ok(sender) = Ethernet::parse(packet.data()).map(|header| header.source()) else {
                return Verdict::Drop(DropReason::Truncated);
            };
            let (to, flags) = if source.is_unspecified() {
                // Somebody wants to take our address (duplicate address detection): tell all.
                let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                ((Mac::of_ipv6_multicast(all_nodes), all_nodes), ndp::flag::OVERRIDE)
            } else {
                if let Some(mac) = message.link_layer {
                    learn(shared, arrival, source.into(), mac, false);
                }
                ((message.link_layer.unwrap_or(sender), source), ndp::flag::SOLICITED | ndp::flag::OVERRIDE)
            };
            if (to.0.is_multicast() && !source.is_unspecified()) || !packet.set_len(ndp::FRAME_LEN) {
                return Verdict::Drop(DropReason::NdpMalformed);
            }
            let kind = ndp::Kind::Advertisement(flags);
            match ndp::emit(packet.data_mut(), kind, message.target, (mac, message.target), to) {
                Ok(()) => Verdict::Answer,
                Err(_) => Verdict::Drop(DropReason::NdpMalformed),
            }
        }
    }
}
