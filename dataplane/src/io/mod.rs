//! Ports: where packets come from and go to.
//!
//! A worker owns one [`Queue`] of every port, its end of that port, and knows nothing else about it. [`memory`] implements it for
//! tests; `dpdk` (feature `dpdk`) is the only module of the crate that touches `dpdk-sys`.

use crate::packet::Packet;
use arrayvec::ArrayVec;
use std::os::fd::OwnedFd;

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod memory;
mod spread;

pub use spread::{RssFields, RssState};

/// Most packets that one receive returns.
pub const BURST: usize = 32;

/// Up to [`BURST`] packets, owned.
pub type Burst<P> = ArrayVec<P, BURST>;

/// One worker's end of a port, usually an RX and a TX queue. Neither shared nor cloned.
pub trait Queue {
    /// The buffer that this port's packets live in.
    type Packet: Packet;

    /// Whether packets can arrive here: not if the port has fewer RX queues than there are workers, and this one has none.
    fn receives(&self) -> bool {
        true
    }

    /// Whether packets can be sent from here.
    fn transmits(&self) -> bool {
        true
    }

    /// Receives what is there, at most `burst`'s remaining capacity, and appends it. Never waits.
    fn receive(&mut self, burst: &mut Burst<Self::Packet>);

    /// Sends the whole burst, which is empty afterwards; returns how many packets the port took, always the
    /// first ones. What the ring does not take is retried a bounded number of times, then freed.
    fn transmit(&mut self, burst: &mut Burst<Self::Packet>) -> usize;

    /// What becomes readable when packets arrive, so that a worker can sleep until then; `None` if nothing does.
    fn descriptors(&self) -> Option<&[OwnedFd]> {
        None
    }

    /// An empty packet to be filled and sent on any port of the worker; `None` if the pool is exhausted.
    fn allocate(&mut self) -> Option<Self::Packet>;

    /// Fills what is free in `burst` with empty packets, as far as the pool has them.
    fn allocate_burst(&mut self, burst: &mut Burst<Self::Packet>) {
        while !burst.is_full() {
            let Some(packet) = self.allocate() else { return };
            burst.push(packet);
        }
    }
}
