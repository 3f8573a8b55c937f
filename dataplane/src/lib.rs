//! Sluice's data plane.

pub mod io;
pub mod packet;
pub mod wire;
