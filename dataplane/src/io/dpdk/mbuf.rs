//! A packet in DPDK's memory.

use crate::packet::{Packet, RxChecksum};
use core::fmt;
use core::ptr::NonNull;
use core::slice;
use dpdk_sys::mbuf as field;
use dpdk_sys::{
    RTE_MBUF_F_RX_IP_CKSUM_BAD, RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_IP_CKSUM_MASK,
    RTE_MBUF_F_RX_VLAN_STRIPPED,
};

/// One frame in a DPDK packet buffer, owned: dropping it returns every segment to its pool.
///
/// As wide as a pointer and laid out as one, so that a burst of them is what the driver fills and takes.
///
/// Invariant, which every SAFETY comment of this module leans on: the pointer is to an initialised mbuf that nothing else
/// refers to (reference count 1), and its first segment's `data_off + data_len <= buf_len`. DPDK establishes it on receive
/// and allocation; each method keeps it. The pool behind it is not freed while the mbuf is out (`mempool.rs`).
#[repr(transparent)]
pub struct Mbuf(NonNull<dpdk_sys::rte_mbuf>);

// SAFETY: an mbuf is plain memory with one owner; pools take buffers back on any thread (multi-producer rings, per-lcore
// caches found through the current thread).
unsafe impl Send for Mbuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf from DPDK.
    ///
    /// # Safety
    /// The type's invariant holds, and no one else owns the mbuf.
    #[inline(always)]
    pub(super) unsafe fn from_raw(raw: NonNull<dpdk_sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    #[inline(always)]
    fn raw(&self) -> *mut dpdk_sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// Number of segments; 1 unless the frame did not fit one buffer.
    #[inline]
    pub fn segments(&self) -> u16 {
        // SAFETY: the type's invariant.
        unsafe { field::nb_segs(self.raw()) }
    }

    /// Start of the first segment.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // SAFETY: the type's invariant: data_off lies within the buffer.
        unsafe { field::buf_addr(self.raw()).cast::<u8>().add(field::data_off(self.raw()) as usize) }
    }

    #[inline(always)]
    fn first_len(&self) -> u16 {
        // SAFETY: the type's invariant.
        unsafe { field::data_len(self.raw()) }
    }
}

impl Packet for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        // SAFETY: the type's invariant: data_len bytes from there are inside the buffer, which DPDK mapped and zeroed, and
        // nobody writes them while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.start(), self.first_len() as usize) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; the borrow is unique and the mbuf has one owner.
        unsafe { slice::from_raw_parts_mut(self.start(), self.first_len() as usize) }
    }

    #[inline]
    fn frame_len(&self) -> usize {
        // SAFETY: the type's invariant.
        unsafe { field::pkt_len(self.raw()) as usize }
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let grown = u16::try_from(bytes).ok()?;
        // SAFETY: the type's invariant; it still holds after moving the start back within the headroom.
        unsafe {
            let offset = field::data_off(self.raw()).checked_sub(grown)?;
            let len = field::data_len(self.raw()).checked_add(grown)?;
            field::set_data_off(self.raw(), offset);
            field::set_data_len(self.raw(), len);
            field::set_pkt_len(self.raw(), field::pkt_len(self.raw()) + u32::from(grown));
        }
        Some(self.data_mut())
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) -> bool {
        let len = self.first_len();
        if bytes > len as usize {
            return false;
        }
        let cut = bytes as u16;
        // SAFETY: the type's invariant; `cut` is at most the segment's length, so the end stays where it was.
        unsafe {
            field::set_data_off(self.raw(), field::data_off(self.raw()) + cut);
            field::set_data_len(self.raw(), len - cut);
            field::set_pkt_len(self.raw(), field::pkt_len(self.raw()) - u32::from(cut));
        }
        true
    }

    #[inline]
    fn set_len(&mut self, bytes: usize) -> bool {
        // SAFETY: the type's invariant.
        let room = unsafe { field::buf_len(self.raw()) - field::data_off(self.raw()) };
        if bytes > room as usize || self.segments() != 1 {
            return false;
        }
        // SAFETY: the type's invariant; the new end is inside the buffer.
        unsafe {
            field::set_data_len(self.raw(), bytes as u16);
            field::set_pkt_len(self.raw(), bytes as u32);
        }
        true
    }

    #[inline]
    fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(self.start().cast());
        }
    }

    #[inline]
    fn rx_vlan(&self) -> Option<u16> {
        // SAFETY: the type's invariant.
        let (flags, control) = unsafe { (field::ol_flags(self.raw()), field::vlan_tci(self.raw())) };
        (flags & RTE_MBUF_F_RX_VLAN_STRIPPED != 0).then_some(control)
    }

    /// A port that does not check leaves the flags 0, which is "unknown". The fourth value, "none" (verified, though the
    /// bytes do not match), is unknown too: an incremental update needs bytes that match.
    #[inline]
    fn rx_checksum(&self) -> RxChecksum {
        // SAFETY: the type's invariant.
        match unsafe { field::ol_flags(self.raw()) } & RTE_MBUF_F_RX_IP_CKSUM_MASK {
            RTE_MBUF_F_RX_IP_CKSUM_GOOD => RxChecksum::Ipv4Good,
            RTE_MBUF_F_RX_IP_CKSUM_BAD => RxChecksum::Ipv4Bad,
            _ => RxChecksum::Unknown,
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the type's invariant: `self` is the only owner, and is gone after this.
        unsafe { dpdk_sys::sluice_mbuf_free(self.raw()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("frame_len", &self.frame_len())
            .field("segments", &self.segments())
            .finish()
    }
}
