//! Complaints: ICMP errors of the balancer's own about packets that it cannot forward.
//!
//! The packet is dropped and counted under its reason; its buffer carries the error back to where it came from.

use super::{Context, Shared};
use crate::conn::Tick;
use crate::packet::Packet;
use crate::rewrite::L3;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet, ethertype};
use crate::wire::{icmp, ipv4, ipv6, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hop limit of what the balancer itself sends (RFC 1700's default).
const HOP_LIMIT: u8 = 64;
/// RFC 1812 section 4.3.2.5: precedence "internetwork control".
const TRAFFIC_CLASS: u8 = 0xc0;
/// RFC 1812 section 4.3.2.3: no error is longer than this, IP header included.
const LONGEST_V4: usize = 576;
/// RFC 4443 section 2.4 (c): likewise.
const LONGEST_V6: usize = 1280;
/// RFC 8200 section 5: no IPv6 link carries less, so no answer names less.
const LEAST_V6_MTU: u16 = 1280;

/// What is wrong with a packet, for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Longer than this many bytes, IP header included.
    TooBig(u16),
    /// No hop left.
    HopLimit,
    /// The way there ended before the destination.
    Unreachable,
}

/// Errors a second at most, of each worker (RFC 1812 section 4.3.2.8; RFC 4443 section 2.4 (f)).
const PER_SECOND: u32 = 1000;
/// Errors at once.
const AT_ONCE: u32 = 100;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: u32,
    filled: Tick,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { tokens: AT_ONCE, filled: 0 }
    }

    /// Whether one more may be sent at `now`, in milliseconds.
    pub(super) fn take(&mut self, now: Tick) -> bool {
        let earned = now.wrapping_sub(self.filled).saturating_mul(PER_SECOND) / 1000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(AT_ONCE);
            self.filled = now;
        }
        let some = self.tokens > 0;
        self.tokens -= u32::from(some);
        some
    }
}

/// Drops a packet, which is as it arrived, for `reason`, and tells its sender if that is allowed and not too often.
#[cold]
#[inline(never)]
pub(super) fn about<P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    reason: DropReason,
    complaint: Complaint,
    packet: &mut P,
) -> Verdict {
    if shared.errors.take(arrival.now) && answer(arrival, complaint, packet).is_some() {
        Verdict::Refuse(reason)
    } else {
        Verdict::Drop(reason)
    }
}

/// Turns the packet into the error; `None`, and it may be anything, if there must be none.
fn answer<P: Packet>(arrival: Context<'_>, complaint: Complaint, packet: &mut P) -> Option<()> {
    let own = arrival.snapshot.ports().get(usize::from(arrival.port))?.mac;
    let frame = packet.data();
    let header = Ethernet::parse(frame).ok()?;
    let (sender, kind) = (header.source(), header.ethertype());
    let ip = frame.get(L3..)?;
    let (source, destination, total): (IpAddr, IpAddr, usize) = if kind == ethertype::IPV4 {
        let ip = ipv4::Ipv4::parse(ip, packet.frame_len() - L3).ok()?;
        // RFC 1122 section 3.2.2: never about a later fragment.
        if ip.fragment_offset() != 0 {
            return None;
        }
        (ip.source().into(), ip.destination().into(), ip.total_len())
    } else {
        let ip = ipv6::Ipv6::parse(ip, packet.frame_len() - L3).ok()?;
        (ip.source().into(), ip.destination().into(), ip.total_len())
    };
    // Nor to nobody, to many, or to ourselves.
    if sender.is_multicast() || destination.is_multicast() || arrival.snapshot.is_local(source) {
        return None;
    }
    let speaker = speaker(arrival, complaint, destination)?;
    let kind = compose(packet, total, complaint, speaker, source)?;
    ethernet::emit(packet.data_mut(), sender, own, kind).ok()
}

/// Puts an error in front of the packet of `total` bytes that a frame holds, cut to what an error may quote; returns the
/// EtherType for the frame, whose Ethernet header is left to be written. `None`, and it may be anything, if that cannot be.
pub(super) fn compose<P: Packet>(
    packet: &mut P,
    total: usize,
    complaint: Complaint,
    from: IpAddr,
    to: IpAddr,
) -> Option<u16> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let quote = total.min(LONGEST_V4 - ipv4::LEN - icmp::LEN);
            if !packet.set_len(L3 + quote) {
                return None;
            }
            let frame = packet.prepend(ipv4::LEN + icmp::LEN)?;
            let (kind, code, rest) = match complaint {
                Complaint::TooBig(mtu) => {
                    (icmp::v4::DESTINATION_UNREACHABLE, icmp::v4::code::FRAGMENTATION_NEEDED, u32::from(mtu))
                }
                Complaint::HopLimit => (icmp::v4::TIME_EXCEEDED, 0, 0),
                Complaint::Unreachable => {
                    (icmp::v4::DESTINATION_UNREACHABLE, icmp::v4::code::HOST_UNREACHABLE, 0)
                }
            };
            emit_v4(frame, from, to, (kind, code, rest))?;
            Some(ethertype::IPV4)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let quote = total.min(LONGEST_V6 - ipv6::LEN - icmp::LEN);
            if !packet.set_len(L3 + quote) {
                return None;
            }
            let frame = packet.prepend(ipv6::LEN + icmp::LEN)?;
            let (kind, code, rest) = match complaint {
                Complaint::TooBig(mtu) => (icmp::v6::PACKET_TOO_BIG, 0, u32::from(mtu.max(LEAST_V6_MTU))),
                Complaint::HopLimit => (icmp::v6::TIME_EXCEEDED, 0, 0),
                Complaint::Unreachable => {
                    (icmp::v6::DESTINATION_UNREACHABLE, icmp::v6::code::ADDRESS_UNREACHABLE, 0)
                }
            };
            emit_v6(frame, from, to, (kind, code, rest))?;
            Some(ethertype::IPV6)
        }
        _ => None,
    }
}

/// Who complains. That a packet is too big must arrive, whatever filters are on the way: the address that the sender
/// itself spoke to, if it is ours. That a hop is the last one is about that hop: the address of the port (RFC 1812
/// section 4.3.2.4), which is what traceroute shows.
fn speaker(arrival: Context<'_>, complaint: Complaint, destination: IpAddr) -> Option<IpAddr> {
    let ours = arrival.snapshot.is_local(destination).then_some(destination);
    let addresses = &arrival.snapshot.ports().get(usize::from(arrival.port))?.addresses;
    let port = addresses.iter().map(|own| own.address()).find(|own| own.is_ipv6() == destination.is_ipv6());
    if complaint == Complaint::HopLimit { port.or(ours) } else { ours.or(port) }
}

/// Writes IPv4 and ICMP headers in front of what is quoted in `frame`: type, code, and the second word.
pub(super) fn emit_v4(
    frame: &mut [u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
    (kind, code, rest): (u8, u8, u32),
) -> Option<()> {
    let ip = frame.get_mut(L3..)?;
    let total = ip.len() as u16;
    ipv4::emit(ip, from, to, protocol::ICMP, HOP_LIMIT, total).ok()?;
    ip[ipv4::at::TOS] = TRAFFIC_CLASS;
    ip[ipv4::at::FRAGMENT..ipv4::at::TTL].copy_from_slice(&ipv4::DONT_FRAGMENT.to_be_bytes());
    ipv4::seal(&mut ip[..ipv4::LEN]);
    let message = &mut ip[ipv4::LEN..];
    icmp::emit(message, kind, code, rest).ok()?;
    let checksum = Sum::default().bytes(message).checksum();
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Likewise IPv6 and ICMPv6.
pub(super) fn emit_v6(
    frame: &mut [u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    (kind, code, rest): (u8, u8, u32),
) -> Option<()> {
    let ip = frame.get_mut(L3..)?;
    let payload = ip.len().checked_sub(ipv6::LEN)? as u16;
    ipv6::emit(ip, from, to, protocol::ICMPV6, HOP_LIMIT, payload).ok()?;
    let class = 6 << 12 | u16::from(TRAFFIC_CLASS) << 4;
    ip[..2].copy_from_slice(&class.to_be_bytes());
    let message = &mut ip[ipv6::LEN..];
    icmp::emit(message, kind, code, rest).ok()?;
    let sum = Sum::default().pseudo_v6(from, to, protocol::ICMPV6, u32::from(payload)).bytes(message);
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_bounded_and_refills() {
        let mut budget = Budget::new();
        let spend = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(spend(&mut budget, 5), 100);
        assert_eq!(spend(&mut budget, 5), 0);
        assert_eq!(spend(&mut budget, 15), 10);
        assert_eq!(spend(&mut budget, 1_000_000), 100);
        // The clock wraps after 49 days.
        budget.filled = Tick::MAX - 4;
        assert_eq!(spend(&mut budget, 5), 10);
    }
}
