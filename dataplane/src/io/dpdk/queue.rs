//! A worker's end of a port.

use super::mbuf::Mbuf;
use super::port::Shared;
use crate::io::{Burst, Queue};
use core::fmt;
use std::sync::Arc;

/// Times that a transmit is tried again when the ring is full. A few: the NIC frees descriptors in the time that a try takes,
/// and a peer that stands still must not stop the worker.
const RETRIES: usize = 4;

/// One RX and one TX queue of a DPDK port, for one worker.
///
/// Invariant: no other `QueuePair` has the same port and queue number (`Port::take_queues` hands out each number once), and
/// the port is started as long as `port` is held. So the `&mut self` of the methods is exclusive use of the queue, which is
/// what DPDK asks for.
pub struct QueuePair {
    port: Arc<Shared>,
    port_id: u16,
    queue_id: u16,
}

impl QueuePair {
    /// The pair numbered `queue_id`, which nobody else has.
    pub(super) fn new(port: Arc<Shared>, queue_id: u16) -> Self {
        let port_id = port.port_id();
        Self { port, port_id, queue_id }
    }

    /// Number of the queue, from 0.
    pub fn index(&self) -> u16 {
        self.queue_id
    }

    /// Received packets that wait in the queue, where the driver can tell.
    pub fn backlog(&mut self) -> Option<u32> {
        // SAFETY: the type's invariant.
        let count = unsafe { dpdk_sys::sluice_rx_queue_count(self.port_id, self.queue_id) };
        u32::try_from(count).ok()
    }

    /// Sends back what is received, `rounds` times, in C: what the wrapper is measured against. Returns packets received.
    pub fn reference_loop(&mut self, rounds: u64) -> u64 {
        // SAFETY: the type's invariant; the loop frees what the ring does not take.
        unsafe { dpdk_sys::sluice_reference_loop(self.port_id, self.queue_id, rounds) }
    }
}

impl Queue for QueuePair {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        let (filled, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: the type's invariant. `room` slots follow the filled ones, an Mbuf is laid out as the pointer that the
        // driver stores there, and the length grows by what it stored: initialised mbufs that are ours alone.
        unsafe {
            let free = burst.as_mut_ptr().add(filled).cast();
            let received = dpdk_sys::sluice_rx_burst(self.port_id, self.queue_id, free, room as u16);
            burst.set_len(filled + received as usize);
        }
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let total = burst.len();
        let mut sent = 0;
        // SAFETY: the type's invariant. The burst is emptied first, so each of its packets has one owner from then on:
        // the driver owns the first `sent`, and the rest is freed below. Nothing in between can panic.
        unsafe {
            burst.set_len(0);
            let packets = burst.as_mut_ptr().cast::<*mut dpdk_sys::rte_mbuf>();
            for _ in 0..=RETRIES {
                let rest = (total - sent) as u16;
                sent +=
                    dpdk_sys::sluice_tx_burst(self.port_id, self.queue_id, packets.add(sent), rest) as usize;
                if sent == total {
                    return sent;
                }
            }
            dpdk_sys::rte_pktmbuf_free_bulk(packets.add(sent), (total - sent) as u32);
        }
        sent
    }

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.port.pool().allocate()
    }

    /// All or none: a pool with fewer buffers than a burst is as good as exhausted.
    #[inline]
    fn allocate_burst(&mut self, burst: &mut Burst<Mbuf>) {
        self.port.pool().allocate_burst(burst);
    }
}

impl fmt::Debug for QueuePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePair")
            .field("port_id", &self.port_id)
            .field("queue_id", &self.queue_id)
            .finish_non_exhaustive()
    }
}

/// Frees all packets of a burst with one call, which is cheaper than dropping each.
#[inline]
pub fn free_burst(burst: &mut Burst<Mbuf>) {
    let total = burst.len();
    // SAFETY: the burst owned its packets and is emptied first, so each is freed once.
    unsafe {
        burst.set_len(0);
        dpdk_sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), total as u32);
    }
}
