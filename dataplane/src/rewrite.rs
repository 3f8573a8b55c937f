//! Changing headers in place, with checksums updated rather than recomputed.

use crate::conn::{Direction, Entry};
use crate::flow::{FlowKey, V4Key, V6Key};
use crate::wire::checksum::Delta;
use crate::wire::{ethernet, field_mut, ipv4, ipv6, protocol, tcp, udp};

/// Where the IP header starts in a frame.
pub const L3: usize = ethernet::LEN;

/// Families whose packets can be rewritten.
pub trait Rewrite: FlowKey {
    /// The key of the other table.
    type Peer: Rewrite<Peer = Self>;

    /// Keys hold addresses of both families, not of IPv4 alone.
    const BOTH_FAMILIES: bool;

    /// Takes one hop from the limit. The caller has made sure that there is one.
    fn decrement_hop_limit(frame: &mut [u8]);

    /// Length of the packet in a frame by its header, in bytes; what the link padded it with does not count.
    fn total_len(frame: &[u8]) -> usize;

    /// Puts the flow `to` into the headers and takes one hop from the limit. `l4` is the offset of the transport header
    /// from the start of the frame; the deltas are those of [`deltas`].
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, protocol: u8, header: Delta, transport: Delta);

    /// Source and destination port as in the header.
    fn ports(&self) -> [u8; 4];

    /// Puts the addresses of `to` into the IP header that `packet` begins with. The header's checksum follows.
    fn readdress(packet: &mut [u8], to: &Self);

    /// What the hop contributes to the change of the IP header's checksum.
    const HOP_DELTA: Delta;

    /// Bytes of the shortest headers of a packet of a flow: Ethernet, IP without options, UDP.
    const HEADERS: usize;
}

/// The checksum changes of a connection: of the header and of the transport, each towards the backend and back.
pub fn deltas<K: Rewrite>(keys: &[K; 2]) -> ([Delta; 2], [Delta; 2]) {
    // Towards the backend a packet becomes the reverse of the reply's key, whose sums are the same.
    let addresses = [keys[0].address_sum(), keys[1].address_sum()];
    let ports = [keys[0].port_sum(), keys[1].port_sum()];
    let header = Delta::between(addresses[0], addresses[1]);
    let transport = Delta::between(addresses[0].and(ports[0]), addresses[1].and(ports[1]));
    ([header.and(K::HOP_DELTA), header.inverse().and(K::HOP_DELTA)], [transport, transport.inverse()])
}

/// Rewrites a packet of `entry` and `protocol` going in `direction`.
#[inline(always)]
pub fn apply<K: Rewrite>(entry: &Entry<K>, direction: Direction, protocol: u8, frame: &mut [u8], l4: usize) {
    if entry.one_way {
        K::decrement_hop_limit(frame);
        return;
    }
    let way = direction as usize;
    let to = entry.keys[1 - way].reversed();
    K::rewrite(frame, l4, &to, protocol, entry.header_delta[way], entry.transport_delta[way]);
}

/// Writes ports and updates the transport checksum.
#[inline(always)]
pub(crate) fn transport(frame: &mut [u8], l4: usize, ports: [u8; 4], protocol: u8, delta: Delta) {
    if protocol == protocol::UDP {
        // The parser has seen this much.
        let Some(header) = frame.get_mut(l4..).and_then(|rest| rest.first_chunk_mut::<{ udp::LEN }>()) else {
            return;
        };
        header[..4].copy_from_slice(&ports);
        delta.update_udp(field_mut(header, udp::at::CHECKSUM));
    } else {
        let Some(header) = frame.get_mut(l4..).and_then(|rest| rest.first_chunk_mut::<{ tcp::LEN }>()) else {
            return;
        };
        header[..4].copy_from_slice(&ports);
        delta.update(field_mut(header, tcp::at::CHECKSUM));
    }
}

/// Makes the packet that `packet` begins with, of the flow `from`, one of the flow `to`, its hop limit untouched. It may be
/// cut short behind the ports; checksums follow as far as they are there. `l4` is the offset of the transport header.
pub fn requote<K: Rewrite>(packet: &mut [u8], l4: usize, from: &K, to: &K) {
    K::readdress(packet, to);
    if let Some(header) = packet.get_mut(l4..) {
        requote_transport(header, from, to);
    }
}

/// As [`requote`], of the transport header alone.
pub fn requote_transport<K: Rewrite>(header: &mut [u8], from: &K, to: &K) {
    let delta = Delta::between(from.address_sum().and(from.port_sum()), to.address_sum().and(to.port_sum()));
    if header.len() < 4 {
        return;
    }
    header[..4].copy_from_slice(&to.ports());
    let udp = to.protocol() == protocol::UDP;
    let checksum = if udp { udp::at::CHECKSUM } else { tcp::at::CHECKSUM };
    if header.len() >= checksum + 2 {
        let field = field_mut(header, checksum);
        if udp { delta.update_udp(field) } else { delta.update(field) }
    }
}

/// Where the transport header is behind an IPv4 header without options.
const PLAIN: usize = L3 + ipv4::LEN;

impl Rewrite for V4Key {
    type Peer = V6Key;
    const BOTH_FAMILIES: bool = false;
    const HOP_DELTA: Delta = Delta::HOP;
    const HEADERS: usize = L3 + ipv4::LEN + udp::LEN;

    fn ports(&self) -> [u8; 4] {
        self.port_bytes()
    }

    fn readdress(packet: &mut [u8], to: &Self) {
        let Some(ip) = packet.first_chunk_mut::<{ ipv4::LEN }>() else { return };
        let addresses = to.address_bytes();
        let delta = Delta::replace(&ip[ipv4::at::SOURCE..], &addresses);
        delta.update(field_mut(ip, ipv4::at::CHECKSUM));
        ip[ipv4::at::SOURCE..].copy_from_slice(&addresses);
    }

    #[inline(always)]
    fn total_len(frame: &[u8]) -> usize {
        let field = frame.get(L3 + ipv4::at::TOTAL_LENGTH..).and_then(|rest| rest.first_chunk());
        field.map_or(0, |&field| usize::from(u16::from_be_bytes(field)))
    }

    #[inline(always)]
    fn decrement_hop_limit(frame: &mut [u8]) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv4::LEN }>()) else {
            return;
        };
        ip[ipv4::at::TTL] = ip[ipv4::at::TTL].wrapping_sub(1);
        Delta::HOP.update(field_mut(ip, ipv4::at::CHECKSUM));
    }

    #[inline(always)]
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, protocol: u8, header: Delta, transport_delta: Delta) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv4::LEN }>()) else {
            return;
        };
        ip[ipv4::at::TTL] = ip[ipv4::at::TTL].wrapping_sub(1);
        header.update(field_mut(ip, ipv4::at::CHECKSUM));
        ip[ipv4::at::SOURCE..].copy_from_slice(&to.address_bytes());
        // Usually without options: then the place is a constant.
        if l4 == PLAIN {
            transport(frame, PLAIN, to.port_bytes(), protocol, transport_delta);
        } else {
            transport(frame, l4, to.port_bytes(), protocol, transport_delta);
        }
    }
}

impl Rewrite for V6Key {
    type Peer = V4Key;
    const BOTH_FAMILIES: bool = true;
    // No checksum in the header, so no change to it either.
    const HOP_DELTA: Delta = Delta::NONE;
    const HEADERS: usize = L3 + ipv6::LEN + udp::LEN;

    fn ports(&self) -> [u8; 4] {
        self.port_bytes()
    }

    fn readdress(packet: &mut [u8], to: &Self) {
        if let Some(ip) = packet.first_chunk_mut::<{ ipv6::LEN }>() {
            ip[ipv6::at::SOURCE..].copy_from_slice(&to.address_bytes());
        }
    }

    #[inline(always)]
    fn total_len(frame: &[u8]) -> usize {
        let field = frame.get(L3 + ipv6::at::PAYLOAD_LENGTH..).and_then(|rest| rest.first_chunk());
        field.map_or(0, |&field| ipv6::LEN + usize::from(u16::from_be_bytes(field)))
    }

    #[inline(always)]
    fn decrement_hop_limit(frame: &mut [u8]) {
        if let Some(hops) = frame.get_mut(L3 + ipv6::at::HOP_LIMIT) {
            *hops = hops.wrapping_sub(1);
        }
    }

    #[inline(always)]
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, protocol: u8, _: Delta, transport_delta: Delta) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv6::LEN }>()) else {
            return;
        };
        ip[ipv6::at::HOP_LIMIT] = ip[ipv6::at::HOP_LIMIT].wrapping_sub(1);
        ip[ipv6::at::SOURCE..].copy_from_slice(&to.address_bytes());
        transport(frame, l4, to.port_bytes(), protocol, transport_delta);
    }
}
