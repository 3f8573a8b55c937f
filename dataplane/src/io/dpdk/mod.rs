//! DPDK ports.
