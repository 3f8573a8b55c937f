//! The fields of an mbuf, by offset.
//!
//! The offsets come from the installed headers at build time (`shim.h`), so a field access is one load or store on any
//! release, with no call into C.

use crate::bindings as sys;
use core::ffi::c_void;

/// Defines a reader, and a writer if named, for one field.
macro_rules! field {
    ($(#[$doc:meta])* $get:ident $(, $set:ident)?: $type:ty = $offset:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `mbuf` points to an initialised mbuf that no other thread writes.
        #[inline(always)]
        pub unsafe fn $get(mbuf: *const sys::rte_mbuf) -> $type {
            // SAFETY: the caller vouches for the mbuf; the offset is that of this field, whose width shim.c asserts and
            // whose alignment the C compiler chose.
            unsafe { mbuf.byte_add(sys::$offset as usize).cast::<$type>().read() }
        }
        $(
            /// Sets the field.
            ///
            /// # Safety
            /// `mbuf` points to an initialised mbuf that the caller alone owns, and the value fits its buffer.
            #[inline(always)]
            pub unsafe fn $set(mbuf: *mut sys::rte_mbuf, value: $type) {
                // SAFETY: as for reading, and the caller owns the mbuf.
                unsafe { mbuf.byte_add(sys::$offset as usize).cast::<$type>().write(value) }
            }
        )?
    };
}

field! {
    /// Start of the segment's buffer, headroom included.
    buf_addr: *mut c_void = SLUICE_MBUF_BUF_ADDR
}
field! {
    /// Bytes from the start of the buffer to the start of the data.
    data_off, set_data_off: u16 = SLUICE_MBUF_DATA_OFF
}
field! {
    /// Owners of the segment.
    refcnt: u16 = SLUICE_MBUF_REFCNT
}
field! {
    /// Segments of the packet, this one included.
    nb_segs: u16 = SLUICE_MBUF_NB_SEGS
}
field! {
    /// Port that received the packet.
    port: u16 = SLUICE_MBUF_PORT
}
field! {
    /// `RTE_MBUF_F_*`.
    ol_flags: u64 = SLUICE_MBUF_OL_FLAGS
}
field! {
    /// Tag control information of the VLAN tag that the port took off, if `ol_flags` say so.
    vlan_tci: u16 = SLUICE_MBUF_VLAN_TCI
}
field! {
    /// Bytes of the packet, all segments.
    pkt_len, set_pkt_len: u32 = SLUICE_MBUF_PKT_LEN
}
field! {
    /// Bytes of data in this segment.
    data_len, set_data_len: u16 = SLUICE_MBUF_DATA_LEN
}
field! {
    /// Bytes of the segment's buffer, headroom and tailroom included.
    buf_len: u16 = SLUICE_MBUF_BUF_LEN
}
