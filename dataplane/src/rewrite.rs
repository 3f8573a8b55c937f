//! Changing headers in place, with checksums updated rather than recomputed.

use crate::conn::{Direction, Entry};
use crate::flow::{FlowKey, V4Key, V6Key};
use crate::wire::checksum::Delta;
use crate::wire::{be16, ethernet, ipv4, ipv6, protocol, tcp, udp};

/// Where the IP header starts in a frame.
pub const L3: usize = ethernet::LEN;

/// Families whose packets can be rewritten.
pub trait Rewrite: FlowKey {
    /// Takes one hop from the limit. The caller has made sure that there is one.
    fn decrement_hop_limit(frame: &mut [u8]);

    /// Puts the flow `to` into the headers and takes one hop from the limit. `l4` is the offset of the transport header
    /// from the start of the frame; the deltas are those of [`deltas`].
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, header: Delta, transport: Delta);

    /// Change of the IP header's checksum when the flow `from` becomes `to`, the hop included; zero where there is
    /// none.
    fn header_delta(from: &Self, to: &Self) -> Delta;
}

/// The checksum changes of a connection: of the header and of the transport, each towards the backend and back.
pub fn deltas<K: Rewrite>(keys: &[K; 2]) -> ([Delta; 2], [Delta; 2]) {
    let out = [keys[1].reversed(), keys[0].reversed()];
    let header = [K::header_delta(&keys[0], &out[0]), K::header_delta(&keys[1], &out[1])];
    let transport = Delta::replace(&keys[0].checksummed(), &out[0].checksummed());
    (header, [transport, transport.inverse()])
}

/// Rewrites a packet of `entry` going in `direction`.
#[inline(always)]
pub fn apply<K: Rewrite>(entry: &Entry<K>, direction: Direction, frame: &mut [u8], l4: usize) {
    if entry.one_way {
        K::decrement_hop_limit(frame);
        return;
    }
    let way = direction as usize;
    let to = entry.keys[1 - way].reversed();
    K::rewrite(frame, l4, &to, entry.header_delta[way], entry.transport_delta[way]);
}

/// Writes ports and updates the transport checksum.
#[inline(always)]
fn transport(frame: &mut [u8], l4: usize, ports: [u8; 4], protocol: u8, delta: Delta) {
    if protocol == protocol::UDP {
        // The parser has seen this much.
        let Some(header) = frame.get_mut(l4..).and_then(|rest| rest.first_chunk_mut::<{ udp::LEN }>()) else {
            return;
        };
        header[..4].copy_from_slice(&ports);
        let checksum = delta.apply_udp(be16(header, udp::at::CHECKSUM));
        header[udp::at::CHECKSUM..].copy_from_slice(&checksum.to_be_bytes());
    } else {
        let Some(header) = frame.get_mut(l4..).and_then(|rest| rest.first_chunk_mut::<{ tcp::LEN }>()) else {
            return;
        };
        header[..4].copy_from_slice(&ports);
        let checksum = delta.apply(be16(header, tcp::at::CHECKSUM));
        header[tcp::at::CHECKSUM..tcp::at::CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

impl Rewrite for V4Key {
    #[inline(always)]
    fn decrement_hop_limit(frame: &mut [u8]) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv4::LEN }>()) else {
            return;
        };
        ip[ipv4::at::TTL] = ip[ipv4::at::TTL].wrapping_sub(1);
        let checksum = Delta::HOP.apply(be16(ip, ipv4::at::CHECKSUM));
        ip[ipv4::at::CHECKSUM..ipv4::at::SOURCE].copy_from_slice(&checksum.to_be_bytes());
    }

    #[inline(always)]
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, header: Delta, transport_delta: Delta) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv4::LEN }>()) else {
            return;
        };
        ip[ipv4::at::TTL] = ip[ipv4::at::TTL].wrapping_sub(1);
        let checksum = header.apply(be16(ip, ipv4::at::CHECKSUM));
        ip[ipv4::at::CHECKSUM..ipv4::at::SOURCE].copy_from_slice(&checksum.to_be_bytes());
        ip[ipv4::at::SOURCE..].copy_from_slice(&to.address_bytes());
        transport(frame, l4, to.port_bytes(), to.protocol(), transport_delta);
    }

    fn header_delta(from: &Self, to: &Self) -> Delta {
        Delta::replace(&from.address_bytes(), &to.address_bytes()).and(Delta::HOP)
    }
}

impl Rewrite for V6Key {
    #[inline(always)]
    fn decrement_hop_limit(frame: &mut [u8]) {
        if let Some(hops) = frame.get_mut(L3 + ipv6::at::HOP_LIMIT) {
            *hops = hops.wrapping_sub(1);
        }
    }

    #[inline(always)]
    fn rewrite(frame: &mut [u8], l4: usize, to: &Self, _: Delta, transport_delta: Delta) {
        let Some(ip) = frame.get_mut(L3..).and_then(|rest| rest.first_chunk_mut::<{ ipv6::LEN }>()) else {
            return;
        };
        ip[ipv6::at::HOP_LIMIT] = ip[ipv6::at::HOP_LIMIT].wrapping_sub(1);
        ip[ipv6::at::SOURCE..].copy_from_slice(&to.address_bytes());
        transport(frame, l4, to.port_bytes(), to.protocol(), transport_delta);
    }

    fn header_delta(_: &Self, _: &Self) -> Delta {
        // No checksum in the IPv6 header.
        Delta::default()
    }
}
