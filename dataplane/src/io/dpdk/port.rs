//! A port's life: opened, started, handed out queue by queue, closed when nobody uses it.

use super::capability::{Capabilities, Link};
use super::configure::{self, PortConfig, Settled};
use super::descriptor;
use super::device::Device;
use super::eal::Eal;
use super::error::Error;
use super::log;
use super::mempool::{Mempool, MempoolConfig};
use super::queue::QueuePair;
use core::ffi::CStr;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A started port, as the control thread sees it. Workers hold its queues.
#[derive(Debug)]
pub struct Port {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    notices: Vec<String>,
    /// Which RX and which TX queues were handed out.
    rx_taken: Vec<bool>,
    tx_taken: Vec<bool>,
}

/// What keeps a port open: its handle and its queues each hold one. The port is stopped and closed after the last of them.
#[derive(Debug)]
pub(super) struct Shared {
    started: bool,
    fast_free: bool,
    /// What becomes readable when packets arrive on one of the queues, if anything does.
    descriptors: Vec<OwnedFd>,
    /// Serialises calls that DPDK does not allow side by side on one port.
    control: Mutex<()>,
    // Dropped in this order: the device gives its buffers back to the pool.
    device: Device,
    pool: Mempool,
}

/// Counters of a port since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device dropped because its RX ring was full.
    pub rx_missed: u64,
    /// Frames that arrived broken.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames dropped because the packet pool was empty.
    pub rx_no_buffer: u64,
}

/// Buffers that the AF_XDP driver lends the kernel for each queue, whatever the size of its RX ring.
const AF_XDP_FILL: u32 = 2048;

impl Port {
    /// Attaches, configures and starts a device. Where it offers less than is asked, the port takes that and says so in
    /// [`Port::notices`].
    ///
    /// # Errors
    /// As [`Device::attach`], and [`Error::Device`] for a step that the driver refuses.
    pub fn open(eal: &Eal, config: &PortConfig, pool: &Mempool) -> Result<Self, Error> {
        Self::start(Device::attach(eal, &config.device)?, config, pool)
    }

    /// Configures and starts an attached device.
    ///
    /// # Errors
    /// [`Error::Device`] for a step that the driver refuses; the device is closed then.
    pub fn start(device: Device, config: &PortConfig, pool: &Mempool) -> Result<Self, Error> {
        let info = device.info()?;
        let mut settled = {
            let mut state = device.eal().state();
            let settled = configure::settle(config, &info, pool.data_room(), state.pools == 1);
            // Counted under the same lock: from here on, no second pool can be made.
            state.fast_free_ports += u32::from(is_fast_free(&settled));
            settled
        };
        let mut shared = Shared {
            started: false,
            fast_free: is_fast_free(&settled),
            descriptors: Vec::new(),
            control: Mutex::new(()),
            device,
            pool: pool.clone(),
        };
        configure::apply(&shared.device, &info, &mut settled, pool)?;

        let mark = log::mark();
        // SAFETY: the port is configured, its queues are set up, and nobody else controls it.
        let status = unsafe { dpdk_sys::rte_eth_dev_start(shared.port_id()) };
        shared.device.check("starting", status, mark)?;
        shared.started = true;
        if configure::is_packet_socket(&info) {
            shared.descriptors = descriptor::packet_sockets(info.if_index);
        }

        configure::set_vlans(&shared.device, config, &mut settled);
        let mut notices = std::mem::take(&mut settled.notices);
        configure::set_filters(&shared.device, config, &mut notices);
        let capabilities = configure::report(&shared.device, config, &settled)?;
        if capabilities.mac == [0; 6] {
            notices.push("the device has no MAC address: set one".into());
        }
        let rx_taken = vec![false; capabilities.rx_queues.into()];
        let tx_taken = vec![false; capabilities.tx_queues.into()];
        Ok(Self { shared: Arc::new(shared), capabilities, notices, rx_taken, tx_taken })
    }

    /// Up to `count` pairs of queues that were not taken yet, fewer if the port has no more. Each is for one worker.
    pub fn take_queues(&mut self, count: u16) -> Vec<QueuePair> {
        let free = |taken: &[bool]| taken.iter().position(|taken| !taken);
        let mut pairs = Vec::new();
        while pairs.len() < usize::from(count) {
            let (Some(rx), Some(tx)) = (free(&self.rx_taken), free(&self.tx_taken)) else { break };
            pairs.push(self.take_end(&[rx as u16], Some(tx as u16)));
        }
        pairs
    }

    /// An end of the port for one worker, over the RX queues and the TX queue of these numbers, or over none.
    ///
    /// # Panics
    /// If the port has not got one of them, or gave it away before.
    pub fn take_end(&mut self, rx: &[u16], tx: Option<u16>) -> QueuePair {
        let take = |taken: &mut [bool], queue: u16| {
            let taken = taken.get_mut(usize::from(queue)).expect("a queue that the port has");
            assert!(!std::mem::replace(taken, true), "each queue is handed out once");
        };
        for &queue in rx {
            take(&mut self.rx_taken, queue);
        }
        if let Some(queue) = tx {
            take(&mut self.tx_taken, queue);
        }
        QueuePair::new(Arc::clone(&self.shared), rx, tx)
    }

    /// The device, as configured.
    pub fn device(&self) -> &str {
        self.shared.device.name()
    }

    /// What the port offers and uses.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Where the port differs from what was asked, for the operator.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The port's packet pool.
    pub fn pool(&self) -> &Mempool {
        &self.shared.pool
    }

    /// Counters, as the driver keeps them. `None` if it keeps none.
    pub fn stats(&self) -> Option<PortStats> {
        let mut raw = dpdk_sys::rte_eth_stats::default();
        let _control = self.shared.control();
        // SAFETY: the port is open as long as `shared` is held; the counters are written whole.
        let status = unsafe { dpdk_sys::rte_eth_stats_get(self.shared.port_id(), &raw mut raw) };
        (status == 0).then_some(PortStats {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffer: raw.rx_nombuf,
        })
    }

    /// The driver's own counters by name; empty if it keeps none.
    pub fn extended_stats(&self) -> Vec<(String, u64)> {
        let port_id = self.shared.port_id();
        let _control = self.shared.control();
        // SAFETY: the port is open; no room is given, so only the count is returned.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(port_id, ptr::null_mut(), 0) };
        let Ok(room) = u32::try_from(count) else { return Vec::new() };
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); room as usize];
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); room as usize];
        // SAFETY: the port is open, and both arrays have the room that is given.
        let (named, counted) = unsafe {
            (
                dpdk_sys::rte_eth_xstats_get_names(port_id, names.as_mut_ptr(), room),
                dpdk_sys::rte_eth_xstats_get(port_id, values.as_mut_ptr(), room),
            )
        };
        // More than there is room for means that nothing was written: the driver gained counters in between.
        if named != count || counted != count {
            return Vec::new();
        }
        let name = |index: u64| {
            let name = names.get(usize::try_from(index).ok()?)?;
            // SAFETY: DPDK terminates the names that it writes.
            Some(unsafe { CStr::from_ptr(name.name.as_ptr()) }.to_string_lossy().into_owned())
        };
        values.iter().filter_map(|counter| Some((name(counter.id)?, counter.value))).collect()
    }

    /// The link, now, without waiting for it.
    pub fn link(&self) -> Link {
        let mut raw = dpdk_sys::sluice_link::default();
        let _control = self.shared.control();
        // SAFETY: the port is open as long as `shared` is held; the link is written whole, or stays down.
        unsafe { dpdk_sys::sluice_link_get(self.shared.port_id(), &raw mut raw) };
        Link { up: raw.up != 0, speed_mbps: raw.speed_mbps, full_duplex: raw.full_duplex != 0 }
    }
}

fn is_fast_free(settled: &Settled) -> bool {
    settled.tx_offloads & dpdk_sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE != 0
}

impl Shared {
    pub(super) fn port_id(&self) -> u16 {
        self.device.port_id()
    }

    pub(super) fn pool(&self) -> &Mempool {
        &self.pool
    }

    pub(super) fn descriptors(&self) -> Option<&[OwnedFd]> {
        (!self.descriptors.is_empty()).then_some(&*self.descriptors)
    }

    fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.started {
            // SAFETY: no queue of the port is left (each holds this), so nobody receives or transmits.
            unsafe { dpdk_sys::rte_eth_dev_stop(self.port_id()) };
        }
        if self.fast_free {
            // Before the device is closed, which frees into the pool that it knows; a new pool cannot reach it any more.
            self.device.eal().state().fast_free_ports -= 1;
        }
    }
}

/// Opens all ports of a balancer: devices first, then one pool on each NUMA node that has one, sized for all of them, then
/// each port with the pool of its node. `held` is how many packets may wait outside queues.
///
/// # Errors
/// That of the first device or pool that fails; what was opened is closed again.
pub fn open_ports(eal: &Eal, configs: &[PortConfig], workers: u32, held: u32) -> Result<Vec<Port>, Error> {
    let devices: Vec<Device> =
        configs.iter().map(|config| Device::attach(eal, &config.device)).collect::<Result<_, _>>()?;
    let memory = eal.memory_nodes();
    // On one node, and for a device that knows none, memory is memory: a single pool lets drivers free faster.
    let node_of =
        |device: &Device| device.numa_node().filter(|node| memory.len() > 1 && memory.contains(node));

    // The largest MTU of each node's ports.
    let mut mtus: BTreeMap<Option<u32>, u16> = BTreeMap::new();
    for (device, config) in devices.iter().zip(configs) {
        let mtu = mtus.entry(node_of(device)).or_default();
        *mtu = config.mtu.max(*mtu);
    }
    // A packet received on one node may wait in a TX ring of another: each pool covers all rings.
    let all_queues = |device: &str| -> u32 {
        let matching = configs.iter().filter(|config| config.device.trim_start().starts_with(device));
        matching.map(|config| u32::from(config.queues.max(1))).sum()
    };
    let queues = all_queues("");
    let held = held + all_queues("net_af_xdp") * AF_XDP_FILL;
    let rx = configs.iter().map(|config| u32::from(config.rx_descriptors)).max().unwrap_or(0);
    let tx = configs.iter().map(|config| u32::from(config.tx_descriptors)).max().unwrap_or(0);
    let mut pools = BTreeMap::new();
    for (node, mtu) in mtus {
        let config = MempoolConfig {
            mbufs: MempoolConfig::sized(queues, rx, tx, workers, held),
            data_room: MempoolConfig::data_room_for(mtu),
            node,
        };
        pools.insert(node, Mempool::new(eal, &config)?);
    }
    devices
        .into_iter()
        .zip(configs)
        .map(|(device, config)| {
            let pool = &pools[&node_of(&device)];
            Port::start(device, config, pool)
        })
        .collect()
}
