//! Packets of `dsr` services whose backends are behind a tunnel.

use super::parse::Parsed;
use super::{Context, Shared, forward};
use crate::conn::Entry;
use crate::neighbor::Slot;
use crate::packet::Packet;
use crate::rewrite::{L3, Rewrite};
use crate::tunnel::{Failure, Way};
use crate::verdict::{DropReason, Verdict};

/// Sends a packet of a connection, which is up to date, through the tunnel to its backend.
#[inline(never)]
pub(super) fn through<K: Rewrite, P: Packet>(
    entry: &Entry<K>,
    shared: &mut Shared,
    arrival: Context<'_>,
    parsed: &Parsed<K>,
    packet: &mut P,
) -> Verdict {
    // Whoever set the mark had found a tunnel in this very snapshot.
    let Some(tunnel) = arrival.snapshot.tunnel(entry.backend) else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    let verdict = enter::<K, P>(shared, arrival, tunnel, entry.next_hops[0], parsed.hash, packet);
    if let (Verdict::Forward(_) | Verdict::Hold(_), Some(backend)) =
        (verdict, shared.counters.backends.get(entry.backend as usize))
    {
        backend.packets_in.add(1);
        backend.bytes_in.add(u64::from(parsed.bytes));
    }
    verdict
}

/// Puts a packet of the flow with this hash into a tunnel whose next hop is in `slot`.
#[inline(always)]
pub(super) fn enter<K: Rewrite, P: Packet>(
    shared: &mut Shared,
    arrival: Context<'_>,
    tunnel: &Way,
    slot: Slot,
    hash: u64,
    packet: &mut P,
) -> Verdict {
    let inner = K::total_len(packet.data());
    if L3 + tunnel.overhead() + inner > usize::from(shared.neighbors.get(slot).max_frame) {
        return forward::too_big(shared, arrival, slot, tunnel.overhead(), packet);
    }
    // RFC 2003 section 3.1: it is forwarded, so the inner hop limit goes down by one, before.
    K::decrement_hop_limit(packet.data_mut());
    match tunnel.apply(packet, hash) {
        Ok(()) => forward::address(shared, slot, packet.data_mut()),
        Err(Failure::Headroom) => Verdict::Drop(DropReason::NoHeadroom),
        Err(Failure::Truncated) => Verdict::Drop(DropReason::Truncated),
    }
}
