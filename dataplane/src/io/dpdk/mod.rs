//! Ports driven by DPDK: the only module that touches `dpdk-sys`.
//!
//! [`Eal`] starts DPDK, once per process. [`Mempool`] holds the packets' memory, one pool per NUMA node. [`Port`] opens a
//! device by its PCI address or as a software port, takes what the driver offers and says what it does not
//! ([`Capabilities`], [`Port::notices`]). [`QueuePair`] is a worker's end of it, and [`Mbuf`] a packet. [`WorkerThread`]
//! is a thread pinned to one CPU and known to DPDK.
//!
//! Each value holds what it needs alive: a queue its port, a port its pool, a pool the EAL. So nothing is closed under a
//! worker's feet, and the order in which things are dropped does not matter.

mod capability;
mod clock;
mod configure;
mod confine;
mod descriptor;
mod device;
mod eal;
mod error;
mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod thread;

pub use capability::{Capabilities, Link};
pub use clock::{TscClock, sleep_precisely};
pub use configure::PortConfig;
pub use confine::confine;
pub use device::Device;
pub use eal::{Eal, EalConfig, dpdk_version};
pub use error::Error;
pub use log::{LogLevel, LogSink};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolConfig};
pub use port::{Port, PortStats, open_ports};
pub use queue::{QueuePair, free_burst};
pub use thread::{RegisteredThread, WorkerThread};
