//! IP in IP: nothing between the headers (RFC 2003; RFC 2473; RFC 4213).

use super::Layer;
use crate::wire::protocol;
use arrayvec::ArrayVec;

pub(super) fn layer(inner_v6: bool) -> Layer {
    let protocol = if inner_v6 { protocol::IPV6 } else { protocol::IPV4 };
    Layer { protocol, header: ArrayVec::new() }
}
