//! What a port offers and what of it is in use, as plain data for `sluicectl port` and `doctor`.

use crate::io::RssState;
use core::ffi::{CStr, c_char};
use serde::Serialize;

/// A port's driver, limits and offloads, once it is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The driver, as "net_ixgbe".
    pub driver: String,
    /// The address that the port sends from and accepts.
    pub mac: [u8; 6],
    /// NUMA node that it is attached to.
    pub numa_node: Option<u32>,
    /// RX queues in use.
    pub rx_queues: u16,
    /// TX queues in use.
    pub tx_queues: u16,
    /// RX queues that the driver offers.
    pub max_rx_queues: u16,
    /// TX queues that the driver offers.
    pub max_tx_queues: u16,
    /// Descriptors of each RX queue.
    pub rx_descriptors: u16,
    /// Descriptors of each TX queue.
    pub tx_descriptors: u16,
    /// Largest payload of a frame in use (bytes).
    pub mtu: u16,
    /// Smallest that the driver takes.
    pub mtu_min: u16,
    /// Largest that the driver takes.
    pub mtu_max: u16,
    /// RX offloads that the driver offers, by DPDK's names.
    pub rx_offloads_offered: Vec<String>,
    /// Those in use.
    pub rx_offloads: Vec<String>,
    /// TX offloads that the driver offers.
    pub tx_offloads_offered: Vec<String>,
    /// Those in use.
    pub tx_offloads: Vec<String>,
    /// Header fields that the driver can spread packets by.
    pub rss_offered: Vec<String>,
    /// RSS in use; `None` if the driver does not spread packets over queues, or there is one queue.
    pub rss: Option<RssState>,
    /// Whether the port verifies IPv4 header checksums on receive.
    pub rx_ipv4_checksum: bool,
    /// Whether all frames are received, whatever their destination address.
    pub promiscuous: bool,
    /// Whether all multicast frames are received.
    pub all_multicast: bool,
}

/// A port's link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Whether frames can pass.
    pub up: bool,
    /// Megabits per second; 0 if unknown.
    pub speed_mbps: u32,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// Hash functions by name, for those that a balancer meets.
const RSS_NAMES: &[(u64, &str)] = &[
    (dpdk_sys::RTE_ETH_RSS_IPV4, "ipv4"),
    (dpdk_sys::RTE_ETH_RSS_FRAG_IPV4, "ipv4-frag"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP, "ipv4-tcp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV4_UDP, "ipv4-udp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV4_SCTP, "ipv4-sctp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV4_OTHER, "ipv4-other"),
    (dpdk_sys::RTE_ETH_RSS_IPV6, "ipv6"),
    (dpdk_sys::RTE_ETH_RSS_FRAG_IPV6, "ipv6-frag"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP, "ipv6-tcp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP, "ipv6-udp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV6_SCTP, "ipv6-sctp"),
    (dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV6_OTHER, "ipv6-other"),
    (dpdk_sys::RTE_ETH_RSS_IPV6_EX, "ipv6-ex"),
    (dpdk_sys::RTE_ETH_RSS_IPV6_TCP_EX, "ipv6-tcp-ex"),
    (dpdk_sys::RTE_ETH_RSS_IPV6_UDP_EX, "ipv6-udp-ex"),
    (dpdk_sys::RTE_ETH_RSS_L3_SRC_ONLY, "l3-src-only"),
    (dpdk_sys::RTE_ETH_RSS_L3_DST_ONLY, "l3-dst-only"),
    (dpdk_sys::RTE_ETH_RSS_L4_SRC_ONLY, "l4-src-only"),
    (dpdk_sys::RTE_ETH_RSS_L4_DST_ONLY, "l4-dst-only"),
];

/// Names of the hash functions in a mask; those without a name here are left out.
pub(super) fn rss_names(mask: u64) -> Vec<String> {
    RSS_NAMES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| (*name).to_string()).collect()
}

/// DPDK's names of the RX offloads in a mask.
pub(super) fn rx_offload_names(mask: u64) -> Vec<String> {
    names(mask, dpdk_sys::rte_eth_dev_rx_offload_name)
}

/// DPDK's names of the TX offloads in a mask.
pub(super) fn tx_offload_names(mask: u64) -> Vec<String> {
    names(mask, dpdk_sys::rte_eth_dev_tx_offload_name)
}

fn names(mask: u64, name: unsafe extern "C" fn(u64) -> *const c_char) -> Vec<String> {
    let bits = (0..u64::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
    // SAFETY: both functions take any number and return a static terminated string.
    bits.map(|bit| unsafe { CStr::from_ptr(name(bit)) }.to_string_lossy().to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_have_names() {
        assert_eq!(rx_offload_names(dpdk_sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM), ["ipv4_cksum"]);
        assert_eq!(tx_offload_names(dpdk_sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE), ["mbuf_fast_free"]);
        assert_eq!(rss_names(dpdk_sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP), ["ipv6-tcp"]);
    }
}
