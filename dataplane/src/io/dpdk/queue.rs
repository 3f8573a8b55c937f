//! A worker's end of a port.

use super::mbuf::Mbuf;
use super::port::Shared;
use crate::io::{Burst, Queue};
use core::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Times that a transmit is tried again when the ring is full. A few: the NIC frees descriptors in the time that a try takes,
/// and a peer that stands still must not stop the worker.
const RETRIES: usize = 4;

/// One worker's end of a DPDK port: usually one RX and one TX queue; none or several RX queues, and no TX queue, where the
/// port has not as many as there are workers.
///
/// Invariant: no other `QueuePair` of the port has one of these RX queues or this TX queue (`Port::take_end` hands out each
/// number once), and the port is started as long as `port` is held. So the `&mut self` of the methods is exclusive use of
/// the queues, which is what DPDK asks for.
pub struct QueuePair {
    port: Arc<Shared>,
    port_id: u16,
    rx: Box<[u16]>,
    /// Position in `rx` of the queue that is asked first, modulo their number.
    first: usize,
    tx: Option<u16>,
}

impl QueuePair {
    /// The end with these queues, which nobody else has.
    pub(super) fn new(port: Arc<Shared>, rx: &[u16], tx: Option<u16>) -> Self {
        let port_id = port.port_id();
        Self { port, port_id, rx: rx.into(), first: 0, tx }
    }

    #[inline(always)]
    fn receive_from(&mut self, queue: u16, burst: &mut Burst<Mbuf>) {
        let (filled, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: the type's invariant, `queue` being one of `rx`. `room` slots follow the filled ones, an Mbuf is laid out
        // as the pointer that the driver stores there, and the length grows by what it stored: initialised mbufs that are
        // ours alone.
        unsafe {
            let free = burst.as_mut_ptr().add(filled).cast();
            let received = dpdk_sys::sluice_rx_burst(self.port_id, queue, free, room as u16);
            burst.set_len(filled + received as usize);
        }
    }

    /// Another queue first each time, so that a busy one does not keep the others waiting.
    #[inline(never)]
    fn receive_from_all(&mut self, burst: &mut Burst<Mbuf>) {
        for n in 0..self.rx.len() {
            let queue = self.rx[(self.first + n) % self.rx.len()];
            if !burst.is_full() {
                self.receive_from(queue, burst);
            }
        }
        self.first = self.first.wrapping_add(1);
    }

    /// Number of the first RX queue, from 0.
    pub fn index(&self) -> Option<u16> {
        self.rx.first().copied()
    }

    /// Received packets that wait in the queues, where the driver can tell.
    pub fn backlog(&mut self) -> Option<u32> {
        self.rx.iter().try_fold(0, |sum: u32, &queue| {
            // SAFETY: the type's invariant.
            let count = unsafe { dpdk_sys::sluice_rx_queue_count(self.port_id, queue) };
            u32::try_from(count).ok().map(|count| sum + count)
        })
    }

    /// Sends back what is received, `rounds` times, in C: what the wrapper is measured against. Returns packets received.
    ///
    /// # Panics
    /// If the RX and the TX queue have not the same number.
    pub fn reference_loop(&mut self, rounds: u64) -> u64 {
        let (&[queue], true) = (&*self.rx, self.tx == self.index()) else {
            panic!("the reference loop is for a pair of queues")
        };
        // SAFETY: the type's invariant; the loop frees what the ring does not take.
        unsafe { dpdk_sys::sluice_reference_loop(self.port_id, queue, rounds) }
    }
}

impl Queue for QueuePair {
    type Packet = Mbuf;

    fn receives(&self) -> bool {
        !self.rx.is_empty()
    }

    fn transmits(&self) -> bool {
        self.tx.is_some()
    }

    fn descriptors(&self) -> Option<&[OwnedFd]> {
        self.port.descriptors()
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        if let &[queue] = &*self.rx {
            self.receive_from(queue, burst);
        } else {
            self.receive_from_all(burst);
        }
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let total = burst.len();
        let mut sent = 0;
        let Some(queue) = self.tx else {
            free_burst(burst);
            return 0;
        };
        // SAFETY: the type's invariant. The burst is emptied first, so each of its packets has one owner from then on:
        // the driver owns the first `sent`, and the rest is freed below. Nothing in between can panic.
        unsafe {
            burst.set_len(0);
            let packets = burst.as_mut_ptr().cast::<*mut dpdk_sys::rte_mbuf>();
            for _ in 0..=RETRIES {
                let rest = (total - sent) as u16;
                sent += dpdk_sys::sluice_tx_burst(self.port_id, queue, packets.add(sent), rest) as usize;
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
            .field("rx", &self.rx)
            .field("tx", &self.tx)
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
