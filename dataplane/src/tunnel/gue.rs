//! GUE: UDP, and in variant 0 a header of four bytes.

use super::{GueForm, Inner, Layer, MAX_LAYER};
use crate::wire::checksum::Sum;
use crate::wire::{gue, ipv4, ipv6, protocol, udp};
use arrayvec::ArrayVec;

/// The first port that sources use: the dynamic range, 49152 to 65535 (RFC 6335 section 6), carries the flow's entropy.
const FIRST_SOURCE_PORT: u16 = 0xc000;

pub(super) fn layer(inner_v6: bool, form: GueForm) -> Layer {
    let mut bytes = [0; MAX_LAYER];
    let (header, rest) = bytes.split_at_mut(udp::LEN);
    // Both are long enough for what is written.
    let _ = udp::emit(header, FIRST_SOURCE_PORT, form.port, 0);
    let inner = if inner_v6 { protocol::IPV6 } else { protocol::IPV4 };
    let _ = gue::emit(rest, inner);
    let len = if form.direct { udp::LEN } else { udp::LEN + gue::LEN };
    Layer {
        protocol: protocol::UDP,
        header: bytes[..len].iter().copied().collect::<ArrayVec<u8, MAX_LAYER>>(),
    }
}

/// Fills in source port, length and checksum of the UDP header that `layer` begins with. `outer` is the IP header in
/// front of it, `body` the inner packet as far as it is in the first segment.
#[inline]
pub(super) fn finish(outer: &[u8], layer: &mut [u8], body: &[u8], inner: &Inner, hash: u64) -> Option<()> {
    let len = layer.len() + inner.total_len;
    let port = FIRST_SOURCE_PORT | (hash >> 8) as u16 & !FIRST_SOURCE_PORT;
    layer[..2].copy_from_slice(&port.to_be_bytes());
    layer[udp::at::LENGTH..udp::at::CHECKSUM].copy_from_slice(&(len as u16).to_be_bytes());
    if outer.len() == ipv4::LEN {
        // RFC 768: none. What is inside has checksums of its own, and the outer header another.
        return Some(());
    }
    // RFC 8200 section 8.1: over IPv6 there is one. The zero of RFC 6935 is for ends that both agreed to it.
    let sum = Sum::default()
        .bytes(outer.get(ipv6::at::SOURCE..ipv6::LEN)?)
        .word(u16::from(protocol::UDP))
        .word(len as u16)
        .bytes(layer)
        .and(inner.sum(body)?);
    let checksum = match sum.checksum() {
        0 => 0xffff,
        value => value,
    };
    layer[udp::at::CHECKSUM..udp::LEN].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Where the inner packet begins in `payload`, a UDP datagram.
pub(super) fn inner_offset(payload: &[u8]) -> Option<usize> {
    match gue::Gue::parse(payload.get(udp::LEN..)?).ok()? {
        gue::Gue::Direct => Some(udp::LEN),
        gue::Gue::Header { protocol: protocol::IPV4 | protocol::IPV6, header_len } => {
            Some(udp::LEN + header_len)
        }
        gue::Gue::Header { .. } => None,
    }
}
