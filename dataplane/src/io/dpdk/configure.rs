//! Settling with a driver: what is asked for, what it offers, and a notice for each difference.

use super::capability::{Capabilities, rss_names, rx_offload_names, tx_offload_names};
use super::device::Device;
use super::error::Error;
use super::log;
use super::mempool::Mempool;
use crate::io::{RssFields, RssState};
use core::ffi::{CStr, c_int};
use dpdk_sys as sys;

/// What is asked of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// PCI address or software port, with arguments.
    pub device: String,
    /// RX queues and TX queues: one of each for each worker.
    pub queues: u16,
    /// Descriptors of each RX queue.
    pub rx_descriptors: u16,
    /// Descriptors of each TX queue.
    pub tx_descriptors: u16,
    /// Largest payload of a frame (bytes).
    pub mtu: u16,
    /// Address to use instead of the device's own.
    pub mac: Option<[u8; 6]>,
    /// Header fields to spread packets by.
    pub rss: RssFields,
    /// Toeplitz key; repeated or cut to the driver's length. `None`: the driver's own.
    pub rss_key: Option<Vec<u8>>,
    /// Identifiers of the VLANs that frames may be tagged with; none: tags are left in place.
    pub vlans: Vec<u16>,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            device: String::new(),
            queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: ETHERNET_MTU,
            mac: None,
            rss: RssFields::FiveTuple,
            rss_key: None,
            vlans: Vec::new(),
        }
    }
}

/// Largest payload that every Ethernet device carries (bytes).
const ETHERNET_MTU: u16 = 1500;
/// Header and frame check sequence of an Ethernet frame (bytes).
const ETHERNET_OVERHEAD: u32 = 18;
/// A VLAN tag (bytes).
const TAG: u16 = 4;

/// All that a balancer's packets can be hashed by.
const IP_FLOWS: u64 = sys::RTE_ETH_RSS_IPV4
    | sys::RTE_ETH_RSS_FRAG_IPV4
    | sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP
    | sys::RTE_ETH_RSS_NONFRAG_IPV4_UDP
    | sys::RTE_ETH_RSS_NONFRAG_IPV4_OTHER
    | sys::RTE_ETH_RSS_IPV6
    | sys::RTE_ETH_RSS_FRAG_IPV6
    | sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP
    | sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP
    | sys::RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/// What was settled: how to configure the device, and what the user should know.
pub(super) struct Settled {
    pub(super) rx_queues: u16,
    pub(super) tx_queues: u16,
    pub(super) rx_descriptors: u16,
    pub(super) tx_descriptors: u16,
    /// As the device is told: with `tag_room`.
    pub(super) mtu: u16,
    /// Bytes of the MTU that are for tags.
    pub(super) tag_room: u16,
    pub(super) rss: Rss,
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
    pub(super) notices: Vec<String>,
}

/// RSS as it will be configured; a mask of 0 for none.
#[derive(Default)]
pub(super) struct Rss {
    mask: u64,
    ends: RssFields,
    key: Vec<u8>,
}

/// Bits that restrict the hash to one end of a packet.
const ONE_END: u64 = sys::RTE_ETH_RSS_L3_SRC_ONLY
    | sys::RTE_ETH_RSS_L4_SRC_ONLY
    | sys::RTE_ETH_RSS_L3_DST_ONLY
    | sys::RTE_ETH_RSS_L4_DST_ONLY;

/// Compares the request with the offer. Pure: nothing is set yet.
pub(super) fn settle(
    config: &PortConfig,
    info: &sys::rte_eth_dev_info,
    data_room: u16,
    one_pool: bool,
) -> Settled {
    let mut notices = Vec::new();
    let wanted = config.queues.max(1);
    let mut rx_queues = wanted.min(info.max_rx_queues).max(1);
    let tx_queues = wanted.min(info.max_tx_queues).max(1);
    if rx_queues < wanted {
        notices.push(format!(
            "{rx_queues} RX queues for {wanted} workers: the driver offers no more, some receive by hand-off alone"
        ));
    }
    if tx_queues < wanted {
        notices.push(format!(
            "{tx_queues} TX queues for {wanted} workers: the driver offers no more, some send by way of others"
        ));
    }
    if fills_all_queues(&driver_name(info)) && info.max_rx_queues > rx_queues {
        rx_queues = info.max_rx_queues;
    }

    let (mtu_min, mtu_max) = mtu_limits(info);
    let mut mtu = config.mtu.clamp(mtu_min, mtu_max);
    if mtu != config.mtu {
        notices.push(format!("MTU {mtu} instead of {}: the driver takes {mtu_min} to {mtu_max}", config.mtu));
    }
    let tag_room = if config.vlans.is_empty() { 0 } else { tag_room(info, mtu, &mut notices) };
    mtu += tag_room;

    let rss = if rx_queues > 1 { settle_rss(config, info, &mut notices) } else { Rss::default() };

    let mut rx_offloads = info.rx_offload_capa & sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    let mut tx_offloads = 0;
    if !config.vlans.is_empty() {
        rx_offloads |= info.rx_offload_capa & VLAN_OFFLOADS;
    }
    if u32::from(mtu) + ETHERNET_OVERHEAD > u32::from(data_room) {
        // Frames may span buffers. Otherwise these stay off: they keep drivers from their fast paths.
        rx_offloads |= info.rx_offload_capa & sys::RTE_ETH_RX_OFFLOAD_SCATTER;
        tx_offloads |= info.tx_offload_capa & sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    }
    if one_pool {
        tx_offloads |= info.tx_offload_capa & sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
    }
    Settled {
        rx_queues,
        tx_queues,
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        mtu,
        tag_room,
        rss,
        rx_offloads,
        tx_offloads,
        notices,
    }
}

/// What a device can do about tags on receive. On transmit they are written in software: four bytes into a cache line that is
/// at hand cost less than to keep drivers from their simple path.
const VLAN_OFFLOADS: u64 = sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP | sys::RTE_ETH_RX_OFFLOAD_VLAN_FILTER;

/// Bytes that the MTU has to be larger so that a frame of `mtu` still fits with its tag: 0 where the driver allows for tags
/// beside the MTU, and where it cannot be more.
fn tag_room(info: &sys::rte_eth_dev_info, mtu: u16, notices: &mut Vec<String>) -> u16 {
    // The kernel takes a tag more than the MTU of its interface.
    if frame_overhead(info) >= ETHERNET_OVERHEAD + u32::from(TAG) || is_packet_socket(info) {
        return 0;
    }
    let (_, mtu_max) = mtu_limits(info);
    if mtu.saturating_add(TAG) <= mtu_max {
        return TAG;
    }
    notices.push(format!(
        "the driver does not say that tagged frames of {mtu} bytes fit: if large packets are lost, lower the MTU of this port \
         and its sub-interfaces by {TAG}"
    ));
    0
}

/// Whether the driver's far side spreads packets over all queues that the device was made with, those that nobody set up
/// included: what they hold would be lost.
fn fills_all_queues(driver: &str) -> bool {
    driver == "net_af_packet"
}

/// Whether the port is a packet socket of the kernel's underneath.
pub(super) fn is_packet_socket(info: &sys::rte_eth_dev_info) -> bool {
    driver_name(info) == "net_af_packet"
}

fn driver_name(info: &sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: a driver's name is a static terminated string.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

fn settle_rss(config: &PortConfig, info: &sys::rte_eth_dev_info, notices: &mut Vec<String>) -> Rss {
    let offered = info.flow_type_rss_offloads;
    let mut mask = offered & IP_FLOWS;
    if mask == 0 {
        notices.push("RSS is not offered: which queue a packet arrives on is the device's choice".into());
        return Rss::default();
    }
    let only = match config.rss {
        RssFields::FiveTuple => 0,
        RssFields::Source => sys::RTE_ETH_RSS_L3_SRC_ONLY | sys::RTE_ETH_RSS_L4_SRC_ONLY,
        RssFields::Destination => sys::RTE_ETH_RSS_L3_DST_ONLY | sys::RTE_ETH_RSS_L4_DST_ONLY,
    };
    let ends = if offered & only == only {
        mask |= only;
        config.rss
    } else {
        notices.push(BOTH_ENDS.into());
        RssFields::FiveTuple
    };
    let length = usize::from(info.hash_key_size);
    let key = match &config.rss_key {
        Some(key) if !key.is_empty() && length > 0 => key.iter().copied().cycle().take(length).collect(),
        Some(_) => {
            notices.push(NO_KEY.into());
            Vec::new()
        }
        None => Vec::new(),
    };
    Rss { mask, ends, key }
}

const NO_KEY: &str = "the RSS key cannot be set: it is the driver's own";
const BOTH_ENDS: &str = "RSS over one end of a packet is not offered: both ends are hashed";

/// Smallest and largest MTU that DPDK will accept for the device: it checks both the payload and the frame.
fn mtu_limits(info: &sys::rte_eth_dev_info) -> (u16, u16) {
    let by_frame = u16::try_from(info.max_rx_pktlen.saturating_sub(frame_overhead(info))).unwrap_or(u16::MAX);
    let max = info.max_mtu.min(by_frame).max(1);
    (info.min_mtu.min(max), max)
}

/// Bytes of a frame that the driver does not count as payload.
fn frame_overhead(info: &sys::rte_eth_dev_info) -> u32 {
    if info.max_mtu != u16::MAX && info.max_rx_pktlen > u32::from(info.max_mtu) {
        info.max_rx_pktlen - u32::from(info.max_mtu)
    } else {
        ETHERNET_OVERHEAD
    }
}

/// Configures device and queues as settled; the device is stopped before and after.
pub(super) fn apply(
    device: &Device,
    info: &sys::rte_eth_dev_info,
    settled: &mut Settled,
    pool: &Mempool,
) -> Result<(), Error> {
    let port_id = device.port_id();
    let mut conf = sys::rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(settled.mtu);
    conf.rxmode.offloads = settled.rx_offloads;
    conf.txmode.offloads = settled.tx_offloads;
    if settled.rss.mask != 0 {
        conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = settled.rss.mask;
        if !settled.rss.key.is_empty() {
            conf.rx_adv_conf.rss_conf.rss_key = settled.rss.key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = settled.rss.key.len() as u8;
        }
    }
    let (rx_queues, tx_queues) = (settled.rx_queues, settled.tx_queues);
    let configure = |conf: &sys::rte_eth_conf| {
        // SAFETY: the port exists and is stopped, and nobody else configures it (`Device`); the key behind `conf`, if any,
        // has the length that the driver reads and outlives the call.
        unsafe { sys::rte_eth_dev_configure(port_id, rx_queues, tx_queues, conf) }
    };
    let mark = log::mark();
    let mut status = configure(&conf);
    if status < 0 && !settled.rss.key.is_empty() {
        conf.rx_adv_conf.rss_conf.rss_key = core::ptr::null_mut();
        conf.rx_adv_conf.rss_conf.rss_key_len = 0;
        status = configure(&conf);
        if status >= 0 {
            settled.rss.key.clear();
            settled.notices.push(NO_KEY.into());
        }
    }
    if status < 0 && settled.rss.mask & ONE_END != 0 {
        // Offered, but perhaps not for all kinds of packets, or not together.
        settled.rss.mask &= !ONE_END;
        conf.rx_adv_conf.rss_conf.rss_hf = settled.rss.mask;
        status = configure(&conf);
        if status >= 0 {
            settled.rss.ends = RssFields::FiveTuple;
            settled.notices.push(BOTH_ENDS.into());
        }
    }
    if status < 0 && settled.rss.mask != 0 {
        conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_NONE;
        conf.rx_adv_conf.rss_conf = sys::rte_eth_rss_conf::default();
        status = configure(&conf);
        if status >= 0 {
            settled.rss = Rss::default();
            settled.notices.push("RSS is offered and refused by the driver: it is off".into());
        }
    }
    device.check("configuring", status, mark)?;

    let asked = (settled.rx_descriptors, settled.tx_descriptors);
    // SAFETY: the port is configured, and two numbers are read and written.
    let status = unsafe {
        sys::rte_eth_dev_adjust_nb_rx_tx_desc(
            port_id,
            &raw mut settled.rx_descriptors,
            &raw mut settled.tx_descriptors,
        )
    };
    device.check("sizing its rings", status, mark)?;
    if asked != (settled.rx_descriptors, settled.tx_descriptors) {
        let (rx, tx) = (settled.rx_descriptors, settled.tx_descriptors);
        settled
            .notices
            .push(format!("{rx} RX and {tx} TX descriptors instead of {} and {}", asked.0, asked.1));
    }
    set_mtu(device, settled);

    // SAFETY: the port exists.
    let node = unsafe { sys::rte_eth_dev_socket_id(port_id) } as u32;
    let mut rx = info.default_rxconf;
    rx.offloads = settled.rx_offloads;
    let mut tx = info.default_txconf;
    tx.offloads = settled.tx_offloads;
    for queue in 0..rx_queues {
        let mark = log::mark();
        // SAFETY: the port is configured with this many queues and not started; the pool outlives the port, which holds
        // it (`port::Shared`); the settings are copied.
        let status = unsafe {
            sys::rte_eth_rx_queue_setup(
                port_id,
                queue,
                settled.rx_descriptors,
                node,
                &raw const rx,
                pool.raw(),
            )
        };
        device.check("setting up an RX queue", status, mark)?;
    }
    for queue in 0..tx_queues {
        let mark = log::mark();
        // SAFETY: as above.
        let status = unsafe {
            sys::rte_eth_tx_queue_setup(port_id, queue, settled.tx_descriptors, node, &raw const tx)
        };
        device.check("setting up a TX queue", status, mark)?;
    }
    Ok(())
}

/// Tells the device the MTU where it is not the usual one: some drivers learn it from `configure`, some only here, and some
/// never. Those that know no MTU have no room to make for tags.
fn set_mtu(device: &Device, settled: &mut Settled) {
    if settled.mtu == ETHERNET_MTU {
        return;
    }
    let mark = log::mark();
    // SAFETY: the port is configured and not started.
    let status = unsafe { sys::rte_eth_dev_set_mtu(device.port_id(), settled.mtu) };
    let plain = settled.mtu - settled.tag_room == ETHERNET_MTU;
    if status < 0 && !(plain && status == -rustix::io::Errno::NOTSUP.raw_os_error()) {
        let reason = super::error::explain(status, mark);
        settled
            .notices
            .push(format!("the MTU stays the device's own, {} was refused: {reason}", settled.mtu));
    }
}

/// Which frames to receive: those for our address and all multicast, or everything where the device cannot filter so.
pub(super) fn set_filters(device: &Device, config: &PortConfig, notices: &mut Vec<String>) {
    let port_id = device.port_id();
    let mut foreign_mac = false;
    if let Some(mac) = config.mac {
        let mut address = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the port is started; the address is copied.
        let status = unsafe { sys::rte_eth_dev_default_mac_addr_set(port_id, &raw mut address) };
        if status < 0 {
            foreign_mac = true;
            notices.push(
                "the MAC address cannot be set on the device: all frames are received to find ours".into(),
            );
        }
    }
    // IPv6 neighbour discovery arrives on multicast addresses that change with ours.
    // SAFETY: the port is started; this and the next two only set modes.
    let multicast = unsafe { sys::rte_eth_allmulticast_enable(port_id) } == 0;
    if multicast && !foreign_mac {
        // A driver that cannot turn it off is not in it, or lets all frames through anyway.
        // SAFETY: as above.
        let _: c_int = unsafe { sys::rte_eth_promiscuous_disable(port_id) };
        return;
    }
    // SAFETY: as above.
    if unsafe { sys::rte_eth_promiscuous_enable(port_id) } < 0 {
        notices.push(
            "neither promiscuous mode nor all multicast is offered: the device decides what arrives".into(),
        );
    }
}

/// Tells a device that filters by VLAN which ones are ours. Without a filter, they all arrive.
pub(super) fn set_vlans(device: &Device, config: &PortConfig, settled: &mut Settled) {
    if settled.rx_offloads & sys::RTE_ETH_RX_OFFLOAD_VLAN_FILTER == 0 {
        return;
    }
    // Frames with a priority and no VLAN are welcome too; a device that cannot be told so lets them pass or not.
    // SAFETY: the port is started; only a table of the device's changes.
    let _: c_int = unsafe { sys::rte_eth_dev_vlan_filter(device.port_id(), 0, 1) };
    for &vlan in &config.vlans {
        let mark = log::mark();
        // SAFETY: as above.
        let status = unsafe { sys::rte_eth_dev_vlan_filter(device.port_id(), vlan, 1) };
        if status < 0 {
            let reason = super::error::explain(status, mark);
            settled.notices.push(format!("the device may drop VLAN {vlan}, its filter refused it: {reason}"));
        }
    }
}

/// What the started port offers and uses.
pub(super) fn report(device: &Device, config: &PortConfig, settled: &Settled) -> Result<Capabilities, Error> {
    let port_id = device.port_id();
    let info = device.info()?;
    let (mtu_min, mtu_max) = mtu_limits(&info);
    let mut mac = sys::rte_ether_addr::default();
    // SAFETY: the port is started; six bytes are written.
    unsafe { sys::rte_eth_macaddr_get(port_id, &raw mut mac) };
    let mut mtu = settled.mtu;
    // SAFETY: the port is started; one number is written.
    unsafe { sys::rte_eth_dev_get_mtu(port_id, &raw mut mtu) };
    // SAFETY: the port is started; both only read a mode.
    let (promiscuous, all_multicast) =
        unsafe { (sys::rte_eth_promiscuous_get(port_id) == 1, sys::rte_eth_allmulticast_get(port_id) == 1) };
    Ok(Capabilities {
        driver: driver_name(&info),
        mac: config.mac.unwrap_or(mac.addr_bytes),
        numa_node: device.numa_node(),
        rx_queues: settled.rx_queues,
        tx_queues: settled.tx_queues,
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        rx_descriptors: settled.rx_descriptors,
        tx_descriptors: settled.tx_descriptors,
        mtu: mtu.saturating_sub(settled.tag_room),
        mtu_min,
        mtu_max,
        rx_offloads_offered: rx_offload_names(info.rx_offload_capa),
        rx_offloads: rx_offload_names(settled.rx_offloads),
        tx_offloads_offered: tx_offload_names(info.tx_offload_capa),
        tx_offloads: tx_offload_names(settled.tx_offloads),
        rss_offered: rss_names(info.flow_type_rss_offloads),
        rss: (settled.rss.mask != 0).then(|| rss_state(port_id, &info, &settled.rss)),
        rx_ipv4_checksum: settled.rx_offloads & sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM != 0,
        promiscuous,
        all_multicast,
    })
}

fn rss_state(port_id: u16, info: &sys::rte_eth_dev_info, configured: &Rss) -> RssState {
    // Some drivers write their full key whatever length they are given.
    let mut key = vec![0; usize::from(info.hash_key_size).max(64)];
    let mut conf = sys::rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: info.hash_key_size,
        ..sys::rte_eth_rss_conf::default()
    };
    // SAFETY: the port is started; the key's buffer is at least as long as said and as any driver's key.
    let told = unsafe { sys::rte_eth_dev_rss_hash_conf_get(port_id, &raw mut conf) } == 0;
    key.truncate(if told { usize::from(info.hash_key_size) } else { 0 });

    let group = usize::try_from(sys::RTE_ETH_RETA_GROUP_SIZE).unwrap_or(64);
    let size = usize::from(info.reta_size);
    let mut groups =
        vec![sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() }; size.div_ceil(group)];
    // SAFETY: the port is started; the groups cover `size` entries.
    let told = size > 0
        && unsafe { sys::rte_eth_dev_rss_reta_query(port_id, groups.as_mut_ptr(), info.reta_size) } == 0;
    let redirection = if told {
        (0..size).map(|entry| groups[entry / group].reta[entry % group]).collect()
    } else {
        Vec::new()
    };
    RssState {
        ends: configured.ends,
        fields: rss_names(configured.mask),
        key_set: !key.is_empty() && key == configured.key,
        key,
        redirection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> sys::rte_eth_dev_info {
        sys::rte_eth_dev_info {
            max_rx_queues: 4,
            max_tx_queues: 2,
            min_mtu: 68,
            max_mtu: u16::MAX,
            max_rx_pktlen: 1518,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_not_offered_becomes_a_notice() {
        let config = PortConfig { queues: 3, mtu: 9000, ..PortConfig::default() };
        let settled = settle(&config, &offer(), 9216, true);
        assert_eq!((settled.rx_queues, settled.tx_queues), (3, 2));
        assert_eq!((settled.mtu, settled.rss.mask), (1500, 0));
        assert_eq!(settled.notices.len(), 3, "{:?}", settled.notices);
    }

    #[test]
    fn queues_that_fill_whether_asked_for_or_not_are_all_emptied() {
        let af_packet = sys::rte_eth_dev_info { driver_name: c"net_af_packet".as_ptr(), ..offer() };
        let config = PortConfig { queues: 1, ..PortConfig::default() };
        let settled = settle(&config, &af_packet, 2048, true);
        assert_eq!((settled.rx_queues, settled.tx_queues), (4, 1));
        assert_eq!(settle(&config, &offer(), 2048, true).rx_queues, 1);
    }

    #[test]
    fn one_end_is_hashed_where_that_is_offered() {
        let both = sys::rte_eth_dev_info { flow_type_rss_offloads: IP_FLOWS, ..offer() };
        let one = sys::rte_eth_dev_info { flow_type_rss_offloads: IP_FLOWS | ONE_END, ..offer() };
        let config = PortConfig { queues: 2, rss: RssFields::Destination, ..PortConfig::default() };
        let rss = settle(&config, &both, 2048, true).rss;
        assert_eq!((rss.ends, rss.mask), (RssFields::FiveTuple, IP_FLOWS));
        let rss = settle(&config, &one, 2048, true).rss;
        let only = sys::RTE_ETH_RSS_L3_DST_ONLY | sys::RTE_ETH_RSS_L4_DST_ONLY;
        assert_eq!((rss.ends, rss.mask), (RssFields::Destination, IP_FLOWS | only));
    }

    #[test]
    fn vlans_take_what_is_offered_and_room_for_a_tag() {
        let capable = sys::rte_eth_dev_info {
            rx_offload_capa: VLAN_OFFLOADS | sys::RTE_ETH_RX_OFFLOAD_SCATTER,
            tx_offload_capa: sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT,
            max_mtu: 9000,
            max_rx_pktlen: 9018,
            ..offer()
        };
        let without = settle(&PortConfig::default(), &capable, 2048, true);
        assert_eq!((without.mtu, without.tag_room, without.rx_offloads), (1500, 0, 0));
        let config = PortConfig { vlans: vec![100], ..PortConfig::default() };
        let settled = settle(&config, &capable, 2048, true);
        assert_eq!((settled.mtu, settled.tag_room, settled.rx_offloads), (1504, 4, VLAN_OFFLOADS));
        assert_eq!((settled.tx_offloads, settled.notices.len()), (0, 0));
        // The driver counts tags apart from the MTU.
        let roomy = sys::rte_eth_dev_info { max_rx_pktlen: 9022, ..capable };
        assert_eq!(settle(&config, &roomy, 2048, true).mtu, 1500);
        // As does the kernel; other devices may not.
        let af_packet = sys::rte_eth_dev_info { driver_name: c"net_af_packet".as_ptr(), ..offer() };
        let settled = settle(&config, &af_packet, 2048, true);
        let about_tags = settled.notices.iter().filter(|notice| notice.contains("tagged"));
        assert_eq!((settled.mtu, about_tags.count()), (1500, 0));
        let settled = settle(&config, &offer(), 2048, true);
        assert_eq!((settled.mtu, settled.tag_room, settled.notices.len()), (1500, 0, 1));
    }

    #[test]
    fn fast_free_needs_a_single_pool() {
        let offer =
            sys::rte_eth_dev_info { tx_offload_capa: sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, ..offer() };
        let offloads = |one_pool| settle(&PortConfig::default(), &offer, 2048, one_pool).tx_offloads;
        assert_eq!((offloads(true), offloads(false)), (sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, 0));
    }

    #[test]
    fn the_rss_key_takes_the_drivers_length() {
        let offer = sys::rte_eth_dev_info { flow_type_rss_offloads: IP_FLOWS, hash_key_size: 5, ..offer() };
        let config = PortConfig { queues: 2, rss_key: Some(vec![0x6d, 0x5a]), ..PortConfig::default() };
        assert_eq!(settle(&config, &offer, 2048, true).rss.key, [0x6d, 0x5a, 0x6d, 0x5a, 0x6d]);
    }
}
