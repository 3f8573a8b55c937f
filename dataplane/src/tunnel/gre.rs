//! GRE: four bytes with the EtherType of what is inside (RFC 2784; over IPv6 RFC 7676).

use super::Layer;
use crate::wire::ethernet::ethertype;
use crate::wire::{gre, protocol};
use arrayvec::ArrayVec;

pub(super) fn layer(inner_v6: bool) -> Layer {
    let [high, low] = if inner_v6 { ethertype::IPV6 } else { ethertype::IPV4 }.to_be_bytes();
    let header = ArrayVec::from_iter([0, 0, high, low]);
    debug_assert_eq!(header.len(), gre::LEN);
    Layer { protocol: protocol::GRE, header }
}

/// Where the inner packet begins in `payload`.
pub(super) fn inner_offset(payload: &[u8]) -> Option<usize> {
    let header = gre::Gre::parse(payload).ok()?;
    matches!(header.ethertype(), ethertype::IPV4 | ethertype::IPV6).then(|| header.header_len())
}
