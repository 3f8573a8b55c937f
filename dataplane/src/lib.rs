//! Sluice's data plane.

pub mod conn;
pub mod flow;
pub mod io;
pub mod packet;
pub mod wire;
