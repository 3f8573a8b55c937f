//! Raw bindings to DPDK: what `dataplane::io::dpdk` calls, and nothing more.
//!
//! [`bindings`](self) come from bindgen over an exact allow-list (`build/bindings.rs`) at build time, so that any installed
//! release from 22.11 on fits. Static-inline functions come from one C shim (`shim.h`), a call per burst. No packet header
//! is bound: the data plane has its own.

#![no_std]

mod bindings {
    // Generated: C's names, C's documentation, C's layouts.
    #![allow(
        clippy::all,
        clippy::pedantic,
        clippy::undocumented_unsafe_blocks,
        missing_debug_implementations,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        unreachable_pub,
        unsafe_op_in_unsafe_fn,
        unnecessary_transmutes
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}
pub mod mbuf;

pub use bindings::*;
