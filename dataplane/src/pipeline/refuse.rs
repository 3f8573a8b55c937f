//! Telling a client that its connection is refused, rather than have it wait for an answer.
//!
//! Only where a backend would have taken the connection and the balancer could not make it; to all else the balancer is as
//! silent as a router. The packet itself becomes the answer.

use super::parse::Parsed;
use super::{Context, Shared};
use crate::flow::FlowKey;
use crate::packet::Packet;
use crate::rewrite::L3;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet, Mac, ethertype};
use crate::wire::tcp::{self, flag};
use crate::wire::{be16, icmp, ipv4, ipv6, protocol};
use std::net::IpAddr;

/// Hop limit of what the balancer itself sends (RFC 1700's default).
const HOP_LIMIT: u8 = 64;
/// Codes of "destination unreachable": host unreachable, and ICMPv6's address unreachable.
const V4_CODE: u8 = 1;
const V6_CODE: u8 = 3;
/// Bytes of an error message, its IP header included: RFC 1812 section 4.3.2.3, and the least MTU (RFC 4443 section 2.4 (c)).
const V4_MOST: usize = 576;
const V6_MOST: usize = 1280;

/// Drops a packet for which no connection could be made. Where its sender can do something with the answer it becomes one:
/// a reset for TCP (RFC 9293 section 3.10.7.1), and for a datagram "an ICMP Destination Unreachable message with code 1
/// (Host Unreachable)", as RFC 6888 REQ-8 has it for a translator out of resources. Not too often, so that it serves nobody
/// to have others flooded.
#[cold]
#[inline(never)]
pub(super) fn packet<K: FlowKey, P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
    reason: DropReason,
) -> Verdict {
    let told = match reason {
        DropReason::LocalPortsExhausted => true,
        // A segment of a connection that was never translated, or that the service does not take up.
        DropReason::NoConnection | DropReason::UnknownConnection => parsed.key.protocol() == protocol::TCP,
        _ => false,
    };
    // Resets are never answered with resets.
    if !told || parsed.tcp_flags & flag::RST != 0 {
        return Verdict::Drop(reason);
    }
    let own = arrival.snapshot.ports().get(usize::from(arrival.port)).map(|port| port.mac);
    let sender = Ethernet::parse(packet.data()).ok().map(|header| (header.source(), header.destination()));
    let (Some(own), Some((sender, destination))) = (own, sender) else { return Verdict::Drop(reason) };
    if sender.is_multicast() || destination.is_multicast() || !shared.errors.take(arrival.now) {
        return Verdict::Drop(reason);
    }
    let answered = if parsed.key.protocol() == protocol::TCP {
        reset(parsed, packet, own, sender)
    } else {
        unreachable(parsed, packet, own, sender)
    };
    if answered.is_some() { Verdict::Refuse(reason) } else { Verdict::Drop(reason) }
}

/// Turns a segment into the reset that answers it.
fn reset<K: FlowKey, P: Packet>(parsed: &Parsed<K>, packet: &mut P, own: Mac, sender: Mac) -> Option<()> {
    let (client, service) = (parsed.key.source(), parsed.key.destination());
    let answer = answering_reset(parsed, packet.data())?;
    send(packet, (service.0, client.0), (own, sender), protocol::TCP, &answer, tcp::at::CHECKSUM)
}

/// The TCP header, without checksum, of the reset that answers the segment in `frame`.
pub(super) fn answering_reset<K: FlowKey>(parsed: &Parsed<K>, frame: &[u8]) -> Option<[u8; tcp::LEN]> {
    let (client, service) = (parsed.key.source(), parsed.key.destination());
    let l4 = usize::from(parsed.l4);
    let segment = ip_len(frame, client.0)?.checked_sub(l4 - L3)?;
    let header = tcp::Tcp::parse(frame.get(l4..)?, segment).ok()?;
    // "If the ACK bit is off": acknowledges all that the segment took, where SYN and FIN count as one each.
    let (sequence, acknowledgment, flags) = if parsed.tcp_flags & flag::ACK != 0 {
        (header.acknowledgment(), 0, flag::RST)
    } else {
        let control = (parsed.tcp_flags & (flag::SYN | flag::FIN)).count_ones();
        let taken = (segment - header.header_len()) as u32 + control;
        (0, header.sequence().wrapping_add(taken), flag::RST | flag::ACK)
    };
    let mut answer = [0; tcp::LEN];
    answer[..2].copy_from_slice(&service.1.to_be_bytes());
    answer[2..4].copy_from_slice(&client.1.to_be_bytes());
    answer[tcp::at::SEQUENCE..tcp::at::ACKNOWLEDGMENT].copy_from_slice(&sequence.to_be_bytes());
    answer[tcp::at::ACKNOWLEDGMENT..tcp::at::DATA_OFFSET].copy_from_slice(&acknowledgment.to_be_bytes());
    answer[tcp::at::DATA_OFFSET] = (tcp::LEN as u8 / 4) << 4;
    answer[tcp::at::FLAGS] = flags;
    Some(answer)
}

/// Turns a datagram into the error that quotes it.
fn unreachable<K: FlowKey, P: Packet>(
    parsed: &Parsed<K>,
    packet: &mut P,
    own: Mac,
    sender: Mac,
) -> Option<()> {
    let (client, service) = (parsed.key.source().0, parsed.key.destination().0);
    let (kind, code, number, most) = match client {
        IpAddr::V4(_) => (icmp::v4::DESTINATION_UNREACHABLE, V4_CODE, protocol::ICMP, V4_MOST - ipv4::LEN),
        IpAddr::V6(_) => (icmp::v6::DESTINATION_UNREACHABLE, V6_CODE, protocol::ICMPV6, V6_MOST - ipv6::LEN),
    };
    let mut message = arrayvec::ArrayVec::<u8, V6_MOST>::new();
    message.extend([kind, code, 0, 0, 0, 0, 0, 0]);
    let quote = packet.data().get(L3..)?;
    // What the link padded it with is no part of it.
    let quoted = ip_len(packet.data(), client)?.min(quote.len()).min(most - icmp::LEN);
    message.try_extend_from_slice(&quote[..quoted]).ok()?;
    send(packet, (service, client), (own, sender), number, &message, icmp::CHECKSUM)
}

/// Length of a packet by its IP header, in bytes.
fn ip_len(frame: &[u8], family: IpAddr) -> Option<usize> {
    Some(match family {
        IpAddr::V4(_) => usize::from(be16(frame.get(..L3 + ipv4::LEN)?, L3 + ipv4::at::TOTAL_LENGTH)),
        IpAddr::V6(_) => {
            ipv6::LEN + usize::from(be16(frame.get(..L3 + ipv6::LEN)?, L3 + ipv6::at::PAYLOAD_LENGTH))
        }
    })
}

/// Fills the frame with a message of `number`, its checksum at `checksum`, between these ends.
fn send<P: Packet>(
    packet: &mut P,
    ends: (IpAddr, IpAddr),
    macs: (Mac, Mac),
    number: u8,
    message: &[u8],
    checksum: usize,
) -> Option<()> {
    let l4 = L3 + if ends.0.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
    if !packet.set_len(l4 + message.len()) {
        return None;
    }
    fill(packet.data_mut(), ends, macs, number, message, checksum)
}

/// As [`send`], into a frame of the right length.
pub(super) fn fill(
    frame: &mut [u8],
    (from, to): (IpAddr, IpAddr),
    (from_mac, to_mac): (Mac, Mac),
    number: u8,
    message: &[u8],
    checksum: usize,
) -> Option<()> {
    let l4 = L3 + if from.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
    frame.get_mut(l4..)?.copy_from_slice(message);
    let (kind, pseudo) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (ipv4::LEN + message.len()) as u16;
            ipv4::emit(&mut frame[L3..], from, to, number, HOP_LIMIT, total).ok()?;
            let covered = number != protocol::ICMP;
            let pseudo = Sum::default().pseudo_v4(from, to, number, message.len() as u16);
            (ethertype::IPV4, if covered { pseudo } else { Sum::default() })
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ipv6::emit(&mut frame[L3..], from, to, number, HOP_LIMIT, message.len() as u16).ok()?;
            (ethertype::IPV6, Sum::default().pseudo_v6(from, to, number, message.len() as u32))
        }
        _ => return None,
    };
    let sum = pseudo.bytes(message).checksum();
    frame[l4 + checksum..l4 + checksum + 2].copy_from_slice(&sum.to_be_bytes());
    ethernet::emit(frame, to_mac, from_mac, kind).ok()
}
