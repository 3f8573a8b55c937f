//! Pools of packet buffers.

use super::eal::Eal;
use super::error::{Error, explain};
use super::log;
use super::mbuf::Mbuf;
use crate::io::{BURST, Burst};
use core::ptr::{self, NonNull};
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Buffers that each thread keeps at hand without touching the shared ring.
const CACHE: u32 = 256;
/// `SOCKET_ID_ANY`.
const ANY_NODE: i32 = -1;
/// Bytes of an mbuf's own header, two cache lines.
const HEADER: u32 = 128;
/// Bytes of frame in the default buffer.
const DATA_ROOM: u16 = 2048;
/// What an Ethernet frame adds to its payload: header and two VLAN tags (bytes).
const FRAME_OVERHEAD: u16 = 22;

/// What a pool has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Number of buffers.
    pub mbufs: u32,
    /// Bytes of frame that one buffer takes, headroom not counted.
    pub data_room: u16,
    /// NUMA node; `None`: any.
    pub node: Option<u32>,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self { mbufs: 16_383, data_room: DATA_ROOM, node: None }
    }
}

impl MempoolConfig {
    /// Enough for every descriptor of `queues` queue pairs to be full, while each of `workers` has full bursts in hand and a
    /// full cache, and `held` packets wait for a next hop.
    pub fn sized(queues: u32, rx_descriptors: u32, tx_descriptors: u32, workers: u32, held: u32) -> u32 {
        let per_worker = CACHE * 3 / 2 + 8 * BURST as u32;
        let wanted = queues * (rx_descriptors + tx_descriptors) + workers.max(1) * per_worker + held;
        // A power of two less one wastes nothing in the ring behind the pool.
        (wanted + 1).next_power_of_two() - 1
    }

    /// The buffer that takes a frame of this MTU (bytes) in one segment.
    pub fn data_room_for(mtu: u16) -> u16 {
        // Drivers give the NIC sizes in KiB: a buffer slightly larger than the frame would count as the next KiB down.
        DATA_ROOM
            .max(mtu.saturating_add(FRAME_OVERHEAD).checked_next_multiple_of(1024).unwrap_or(u16::MAX - 1023))
    }
}

/// A pool of packet buffers. A handle: clones are the same pool.
///
/// The memory is returned when no handle, port or packet refers to it. If packets are still out when the last handle goes
/// (lost in a driver, say), the pool stays for the life of the process rather than pull memory from under them.
#[derive(Debug, Clone)]
pub struct Mempool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    raw: NonNull<dpdk_sys::rte_mempool>,
    config: MempoolConfig,
    eal: Eal,
}

// SAFETY: DPDK's pools are made for concurrent use by any thread.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Takes the memory.
    ///
    /// # Errors
    /// [`Error::Pool`] if it is not there; [`Error::SecondPool`] if a port was promised that there is one pool only.
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let mut state = eal.state();
        if state.fast_free_ports > 0 {
            return Err(Error::SecondPool);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("packets-{number}")).expect("no zero byte in a number");
        let bytes = config.data_room.saturating_add(dpdk_sys::RTE_PKTMBUF_HEADROOM as u16);
        // Less for a small pool: DPDK refuses a cache of more than two thirds of the pool.
        let cache = CACHE.min(config.mbufs / 4);
        let node = config.node.map_or(ANY_NODE, u32::cast_signed);
        let mark = log::mark();
        // SAFETY: EAL is initialised as long as `eal` exists; the name is terminated and copied by DPDK.
        let raw =
            unsafe { dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr(), config.mbufs, cache, 0, bytes, node) };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: reads a thread-local number.
            let errno = unsafe { dpdk_sys::sluice_errno() };
            let bytes = u32::from(bytes) + HEADER;
            return Err(Error::Pool { mbufs: config.mbufs, bytes, reason: explain(errno, mark) });
        };
        state.pools += 1;
        drop(state);
        Ok(Self(Arc::new(Inner { raw, config: config.clone(), eal: eal.clone() })))
    }

    /// An empty packet; `None` if all buffers are out.
    #[inline]
    pub fn allocate(&self) -> Option<Mbuf> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pool lives as long as `self`; there is room for one pointer.
        let status = unsafe { dpdk_sys::sluice_mbuf_alloc_bulk(self.raw(), &raw mut raw, 1) };
        if status != 0 {
            return None;
        }
        // SAFETY: a fresh mbuf is initialised, has one reference and no other owner.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Fills what is free in `burst` with empty packets: all of it, or nothing if there are too few buffers.
    #[inline]
    pub fn allocate_burst(&self, burst: &mut Burst<Mbuf>) -> bool {
        let (filled, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: the pool lives as long as `self`; `room` slots follow the filled ones, and an Mbuf is laid out as the
        // pointer that DPDK stores there. The length grows only over slots that were filled.
        unsafe {
            let free = burst.as_mut_ptr().add(filled).cast();
            if dpdk_sys::sluice_mbuf_alloc_bulk(self.raw(), free, room as u32) != 0 {
                return false;
            }
            burst.set_len(filled + room);
        }
        true
    }

    /// Buffers that are not in the pool: in descriptors, in hands, in flight. Counts without stopping anyone, so it is
    /// exact only while nobody allocates or frees.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as `self`.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw()) }
    }

    /// Buffers in all.
    pub fn capacity(&self) -> u32 {
        self.0.config.mbufs
    }

    /// Bytes of frame that one buffer takes.
    pub fn data_room(&self) -> u16 {
        self.0.config.data_room
    }

    #[inline]
    pub(super) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the pool exists until the line that frees it.
        let out = unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw.as_ptr()) };
        if out == 0 {
            // SAFETY: no handle and no port is left to allocate, and no packet is out.
            unsafe { dpdk_sys::rte_mempool_free(self.raw.as_ptr()) };
            self.eal.state().pools -= 1;
        } else {
            // Packets are out, and each of them will touch the pool: it must outlive them, and so must EAL.
            core::mem::forget(self.eal.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_hold_a_whole_frame() {
        assert_eq!(MempoolConfig::data_room_for(1500), 2048);
        assert_eq!(MempoolConfig::data_room_for(9000), 9216);
        assert!(MempoolConfig::data_room_for(u16::MAX) >= 64_000);
    }

    #[test]
    fn a_pool_covers_all_descriptors() {
        assert!(MempoolConfig::sized(4, 1024, 1024, 2, 4096) >= 4 * 2048 + 4096);
        assert_eq!((MempoolConfig::sized(1, 512, 512, 1, 0) + 1).count_ones(), 1);
    }
}
