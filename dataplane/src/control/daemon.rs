//! Start and stop, on DPDK ports.
//!
//! Everything is taken in an order that lets each refusal leave nothing behind: CPUs and memory are asked for, the
//! control socket is taken, then DPDK, the ports, and the workers with their tables. The calling thread becomes the
//! control thread.

use super::balancer::{Attached, Balancer, Start};
use super::device::{Device, Facts};
use super::publish::{Link, Links};
use super::socket::ControlSocket;
use super::{Control, access, build, memory, numa, privileges, steering};
use crate::affinity::Clients;
use crate::counters::WorkerCounters;
use crate::flow::Secret;
use crate::io::dpdk::{
    Capabilities, Eal, EalConfig, LogLevel, Mbuf, Port, PortConfig, QueuePair, TscClock, WorkerThread,
    confine, dpdk_version, open_ports, sleep_precisely,
};
use crate::io::{BURST, RssState};
use crate::pipeline::{Pipeline, Settings};
use crate::steering::Steering;
use crate::steering::deal::{self, Dealt};
use crate::vlan::{self, Place};
use crate::wire::ethernet::Mac;
use crate::worker::{self, Bell, Idle, Mesh, Worker};
use ctl::api::{self, Level, Offload, PortQueues, PortSide, PortStats, PortSteering, Rss, RssKey};
use ctl::config::{Config, ConfigError, Machine, Poll};
use ctl::doctor;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Packets of one worker that may wait outside of queues: for next hops, in the rings from other workers, and on their way
/// into these.
const fn held(workers: usize) -> u32 {
    256 + (worker::handoff_ring(workers) + BURST) as u32 * (workers as u32).saturating_sub(1)
}

/// Why the daemon does not start.
#[derive(Debug)]
pub enum Refusal {
    /// The configuration does not fit the machine.
    Config(Vec<ConfigError>),
    /// In words: what happened, why, and what to do.
    Start(String),
}

impl From<Vec<ConfigError>> for Refusal {
    fn from(errors: Vec<ConfigError>) -> Self {
        Self::Config(errors)
    }
}

/// From an error whose text says it all.
fn refusal(error: impl std::fmt::Display) -> Refusal {
    Refusal::Start(error.to_string())
}

/// Runs the balancer until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start; nothing is left running then.
pub fn run(config: Config, config_file: PathBuf) -> Result<(), Refusal> {
    let errors = config.check_machine(Machine::current());
    if !errors.is_empty() {
        return Err(errors.into());
    }
    for warning in super::build::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let found = doctor::examine(&doctor::Host::default(), Some((&config, config_file.as_path())));
    for finding in found.iter().filter(|finding| finding.level >= Level::Warning) {
        tracing::warn!("{}: {finding}", finding.check);
    }
    memory::check(&config.runtime).map_err(refusal)?;
    let group = access::socket_group(&config.runtime).map_err(refusal)?;
    let socket = ControlSocket::take(&config.runtime.socket, group).map_err(refusal)?;
    let eal = start_dpdk(&config)?;
    let mut notices = Vec::new();
    let opened = open(&eal, &config, &mut notices)?;
    for notice in &notices {
        tracing::warn!("{notice}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (links, threads, devices) = start_workers(&eal, &config, opened, &stop)?;
    let drivers: Vec<String> = devices.iter().map(|attached| attached.device.facts().driver).collect();
    let kept = privileges::kept(&config, drivers.iter().map(String::as_str));
    let metrics = config.runtime.metrics;
    let engine = dpdk_version().trim_start_matches("DPDK ").to_owned();
    let served = Balancer::start(Start { config, config_file, devices, links, notices, engine })
        .map_err(Refusal::from)
        .and_then(|balancer| serve(Control::new(balancer), &socket, metrics, kept));
    end(threads, &stop);
    if served.is_ok() {
        tracing::info!("stopped");
    }
    served
}

fn start_dpdk(config: &Config) -> Result<Eal, Refusal> {
    let runtime = &config.runtime;
    let eal = EalConfig {
        hugepages: runtime.hugepages,
        memory_mib: u32::try_from(runtime.memory.as_mebibytes()).unwrap_or(u32::MAX),
        control_cpus: runtime.control_cpus.iter().map(|&cpu| usize::from(cpu)).collect(),
        args: runtime.eal_args.clone(),
        log: Some(log),
        ..EalConfig::default()
    };
    Eal::init(&eal).map_err(refusal)
}

/// DPDK's warnings; what is an error for the daemon comes back as one.
fn log(level: LogLevel, line: &str) {
    match level {
        // A machine has one size of hugepages, usually, and DPDK laments the others.
        _ if line.contains("hugepages reported on node") => tracing::debug!("DPDK: {line}"),
        LogLevel::Error | LogLevel::Warning => tracing::warn!("DPDK: {line}"),
        LogLevel::Notice | LogLevel::Info => tracing::info!("DPDK: {line}"),
    }
}

/// The devices, and who works with them.
struct Opened {
    /// One for each device.
    ports: Vec<Port>,
    /// By device.
    dealt: Vec<Dealt>,
    steering: Arc<Steering>,
    /// By device: what came of it.
    words: Vec<PortSteering>,
    secret: Secret,
    layout: Layout,
}

/// Which ports are on which device.
struct Layout {
    /// By port.
    places: Vec<Place>,
    /// By device: the number of the port that it was named at.
    owners: Vec<usize>,
    /// By port: the position of its device.
    devices: Vec<usize>,
    /// By port: where its packets come from.
    sides: Vec<PortSide>,
}

impl Layout {
    fn new(config: &Config) -> Self {
        let places = vlan::places(config);
        let owner = |place: &Place| usize::from(place.device);
        let owners: Vec<usize> = (0..places.len()).filter(|&id| owner(&places[id]) == id).collect();
        let position = |place: &Place| owners.iter().position(|&id| id == owner(place)).unwrap_or(0);
        let devices = places.iter().map(position).collect();
        Self { places, owners, devices, sides: steering::sides(config) }
    }

    /// The identifiers of the VLANs on the device of the port `owner`.
    fn vlans(&self, owner: usize) -> Vec<u16> {
        let here = self.places.iter().filter(|place| usize::from(place.device) == owner);
        here.filter_map(|place| place.vlan).collect()
    }
}

/// Opens all ports, deals their queues to the workers, and chooses how connections are steered.
fn open(eal: &Eal, config: &Config, notices: &mut Vec<String>) -> Result<Opened, Refusal> {
    let cpus = &config.runtime.workers;
    let (wanted, wish) = (cpus.len(), config.runtime.steering);
    let random = |error| refusal(format!("no random numbers: {error}"));
    let (secret, rss_key) = (Secret::random().map_err(random)?, steering::rss_key(wish).map_err(random)?);
    let layout = Layout::new(config);
    let owners = || layout.owners.iter().map(|&id| &config.ports[id]);
    let sides: Vec<PortSide> = layout
        .owners
        .iter()
        .map(|&owner| steering::side_of_device(config, &layout.places, &layout.sides, owner))
        .collect();
    let configs: Vec<PortConfig> = layout
        .owners
        .iter()
        .zip(&sides)
        .map(|(&owner, &side)| {
            let port = &config.ports[owner];
            let usual = PortConfig::default();
            PortConfig {
                device: port.device.clone(),
                queues: wanted as u16,
                rx_descriptors: port.rx_descriptors.unwrap_or(usual.rx_descriptors),
                tx_descriptors: port.tx_descriptors.unwrap_or(usual.tx_descriptors),
                mtu: port.mtu,
                rss: steering::wanted_fields(wish, side),
                rss_key: rss_key.clone(),
                vlans: layout.vlans(owner),
                ..usual
            }
        })
        .collect();
    let ports = open_ports(eal, &configs, wanted as u32, held(wanted) * wanted as u32).map_err(refusal)?;
    for (port, config) in ports.iter().zip(owners()) {
        let offered = port.capabilities();
        tracing::info!(
            "port {} is {} with {}, MAC {}, MTU {}, {} RX and {} TX queues for {wanted} workers",
            config.name,
            config.device,
            offered.driver,
            Mac(offered.mac),
            offered.mtu,
            offered.rx_queues,
            offered.tx_queues
        );
        for notice in port.notices() {
            tracing::info!("port {}: {notice}", config.name);
        }
    }
    let queues: Vec<_> =
        ports.iter().map(|port| (port.capabilities().rx_queues, port.capabilities().tx_queues)).collect();
    if let Some((rx, _)) = queues.iter().find(|(rx, tx)| usize::from(*rx.min(tx)) < wanted) {
        notices.push(format!(
            "{wanted} workers share ports with fewer queues ({rx}, say): packets are handed over between them; give software \
             ports more queues (for net_af_packet: qpairs={wanted})"
        ));
    }
    let nodes: Vec<_> = cpus.iter().map(|&cpu| (cpu, numa::node_of_cpu(cpu))).collect();
    let places: Vec<_> = owners()
        .zip(&ports)
        .map(|(config, port)| (config.name.as_str(), port.capabilities().numa_node))
        .collect();
    notices.extend(numa::remote(&nodes, &places));
    let dealt = deal::deal(wanted as u8, &queues);
    let opened: Vec<_> = sides
        .iter()
        .zip(&ports)
        .zip(&dealt)
        .map(|((&side, port), dealt)| steering::Opened { side, rss: port.capabilities().rss.as_ref(), dealt })
        .collect();
    let (steering, words) = steering::choose(wish, wanted as u8, secret, &opened);
    if let (true, Some(port)) = (wanted > 1, words.first()) {
        tracing::info!("connections belong to workers by {}", port.owner_by.as_str());
    }
    let steering = Arc::new(steering.with_local_ports(config.runtime.local_ports));
    Ok(Opened { ports, dealt, steering, words, secret, layout })
}

type Threads = Vec<WorkerThread<()>>;

/// Starts the workers, each on its CPU and with its own tables; returns when all of them forward.
fn start_workers(
    eal: &Eal,
    config: &Config,
    opened: Opened,
    stop: &Arc<AtomicBool>,
) -> Result<(Links, Threads, Vec<Attached>), Refusal> {
    let runtime = &config.runtime;
    let Opened { mut ports, dealt, steering, words, secret, layout } = opened;
    let count = runtime.workers.len();
    let large_pages = memory::large_pages_fit(runtime);
    let mut queues: Vec<Vec<QueuePair>> = (0..count).map(|_| Vec::new()).collect();
    for (id, &device) in layout.devices.iter().enumerate() {
        let (port, dealt) = (&mut ports[device], &dealt[device]);
        for (worker, ends) in (0u8..).zip(&mut queues) {
            // A sub-interface has no queues of its own.
            let (rx, tx): (Vec<u16>, _) = if layout.owners[device] == id {
                (dealt.receives_from(worker).collect(), dealt.sends_through(worker))
            } else {
                (Vec::new(), None)
            };
            ends.push(port.take_end(&rx, tx));
        }
    }
    let meshes: Vec<Mesh<Mbuf>> = worker::mesh(count);
    let bell = Bell::new();
    let (mut links, mut threads) = (Vec::new(), Threads::new());
    let (report, outcome) = mpsc::channel();
    let clients = Clients::new(count as u8, runtime.max_connections as usize, secret);
    let each = queues.into_iter().zip(meshes).zip(&runtime.workers).enumerate();
    for (number, ((queues, mesh), &cpu)) in each {
        let counters = Arc::new(WorkerCounters::default());
        let (control_end, worker_end) = worker::channel_to(&bell);
        links.push(Link::new(cpu, Arc::clone(&counters), control_end));
        let settings = Settings {
            worker: number as u8,
            steering: Arc::clone(&steering),
            max_connections: runtime.max_connections as usize,
            large_pages,
            secret,
            maglev: build::maglev(config),
            clients: Arc::clone(&clients),
            counters,
        };
        let sends_for: Vec<u8> =
            layout.devices.iter().map(|&device| dealt[device].sends_for[number]).collect();
        let places = layout.places.clone();
        let idle = match runtime.poll {
            Poll::Adaptive => Idle::Adaptive,
            Poll::Busy => Idle::Busy,
        };
        let (stopped, report, mut clock) = (Arc::clone(stop), report.clone(), TscClock::new(eal));
        let work = move || {
            if idle == Idle::Adaptive {
                sleep_precisely();
            }
            // Here, not on the control thread: memory comes from the node of the CPU that touches it first.
            let pipeline = Pipeline::new(settings);
            let _ = report.send(pipeline.as_ref().map(drop).map_err(ToString::to_string));
            if let Ok(pipeline) = pipeline {
                Worker::new(queues, pipeline, mesh, worker_end)
                    .sending_by(&sends_for)
                    .with_vlans(&places)
                    .run(&mut clock, idle, &stopped);
            }
        };
        match WorkerThread::spawn(eal, usize::from(cpu), &format!("worker-{cpu}"), work) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                end(threads, stop);
                return Err(refusal(error));
            }
        }
    }

    for made in outcome.iter().take(count) {
        if let Err(error) = made {
            end(threads, stop);
            return Err(refusal(format!(
                "a worker's tables do not get their memory: {error}; lower runtime.max_connections"
            )));
        }
    }
    let place = if large_pages { "reserved large pages" } else { "ordinary pages" };
    let bytes = memory::table_bytes(runtime) >> 20;
    tracing::info!("{count} workers on CPUs {:?}, tables of {bytes} MiB in {place}", runtime.workers);
    let devices: Vec<Arc<DpdkDevice>> = ports
        .into_iter()
        .zip(words)
        .map(|(port, steering)| Arc::new(DpdkDevice { port, steering }))
        .collect();
    let attached = layout.devices.iter().zip(&layout.sides).enumerate().map(|(id, (&at, &side))| {
        let (device, offered) = (Arc::clone(&devices[at]), devices[at].port.capabilities());
        let (mac, mtu) = (Mac(offered.mac), offered.mtu);
        let is_owner = layout.owners[at] == id;
        Attached {
            mac,
            mtu,
            device: if is_owner { Box::new(device) } else { Box::new(SubInterface { device, side }) },
        }
    });
    Ok((Links::new(links), threads, attached.collect()))
}

fn end(threads: Threads, stop: &AtomicBool) {
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a worker had panicked");
        }
    }
}

/// The control plane, on this thread, until it is told to stop.
fn serve(
    control: Arc<Control>,
    socket: &ControlSocket,
    metrics: Option<SocketAddr>,
    kept: u64,
) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| refusal(format!("the control thread cannot start: {error}")))?;
    let listener = socket.listener().map_err(refusal)?;
    let ready = {
        let control = Arc::clone(&control);
        move || {
            give_up_privileges(&control, kept);
            tracing::info!("ready: generation {} is in use", control.balancer().generation());
        }
    };
    runtime.block_on(super::run(control, listener, metrics, ready, std::future::pending())).map_err(refusal)
}

/// From here on nothing is opened that needs privileges, but for what `kept` is for.
fn give_up_privileges(control: &Control, kept: u64) {
    match confine(kept) {
        Ok(left) => tracing::info!("every thread keeps {}", privileges::words(left)),
        Err(error) => tracing::warn!("privileges are not given up: {error}"),
    }
    let file = control.balancer().config_file.clone();
    if let Err(error) = std::fs::File::open(&file) {
        tracing::warn!(
            "{} cannot be read again: {error}; make it readable for the user that sluiced runs as, or SIGHUP will fail",
            file.display()
        );
    }
}

#[derive(Debug)]
struct DpdkDevice {
    port: Port,
    steering: PortSteering,
}

impl Device for DpdkDevice {
    fn facts(&self) -> Facts {
        let (offered, link) = (self.port.capabilities(), self.port.link());
        let up = self.link();
        let offloads = |side: &str, all: &[String], used: &[String]| -> Vec<Offload> {
            let offload =
                |name: &String| Offload { name: format!("{side}_{name}"), in_use: used.contains(name) };
            all.iter().map(offload).collect()
        };
        let mut both = offloads("rx", &offered.rx_offloads_offered, &offered.rx_offloads);
        both.extend(offloads("tx", &offered.tx_offloads_offered, &offered.tx_offloads));
        Facts {
            driver: offered.driver.clone(),
            link: up,
            link_mbps: Some(link.speed_mbps).filter(|mbps| ![0, u32::MAX].contains(mbps)),
            numa_node: offered.numa_node.and_then(|node| u16::try_from(node).ok()),
            queues: PortQueues {
                rx_queues: offered.rx_queues,
                tx_queues: offered.tx_queues,
                rx_queues_max: offered.max_rx_queues,
                tx_queues_max: offered.max_tx_queues,
                rx_descriptors: offered.rx_descriptors,
                tx_descriptors: offered.tx_descriptors,
            },
            rss: rss(offered),
            steering: self.steering.clone(),
            offloads: both,
            notices: self.port.notices().to_vec(),
        }
    }

    fn link(&self) -> api::Link {
        let up = carrier(self.port.device()).unwrap_or_else(|| self.port.link().up);
        if up { api::Link::Up } else { api::Link::Down }
    }

    fn counters(&self) -> PortStats {
        let stats = self.port.stats().unwrap_or_default();
        PortStats {
            name: String::new(),
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            rx_errors: stats.rx_errors,
            rx_missed: stats.rx_missed,
            rx_no_buffer: stats.rx_no_buffer,
            tx_errors: stats.tx_errors,
        }
    }
}

/// A VLAN on a device.
#[derive(Debug)]
struct SubInterface {
    device: Arc<DpdkDevice>,
    side: PortSide,
}

impl Device for SubInterface {
    fn facts(&self) -> Facts {
        let facts = self.device.facts();
        // What the device has to say is said of the port with the device.
        Facts { steering: PortSteering { side: self.side, ..facts.steering }, notices: Vec::new(), ..facts }
    }

    fn link(&self) -> api::Link {
        self.device.link()
    }

    /// The device counts all its ports together.
    fn counters(&self) -> PortStats {
        PortStats::default()
    }
}

/// What is told of a port's receive-side scaling.
fn rss(offered: &Capabilities) -> Rss {
    let key = |rss: &RssState| match (rss.key_set, rss.key.is_empty()) {
        (true, _) => RssKey::Random,
        (false, false) => RssKey::Driver,
        (false, true) => RssKey::Unknown,
    };
    Rss {
        offered: !offered.rss_offered.is_empty(),
        in_use: offered.rss.is_some(),
        fields: offered.rss.as_ref().map(|rss| rss.fields.clone()).unwrap_or_default(),
        key: offered.rss.as_ref().map(key),
        computable: offered.rss.as_ref().is_some_and(RssState::is_known),
    }
}

/// Whether the interface behind a port on a kernel's interface has a carrier: the driver calls the link up always.
/// `None` for other ports.
fn carrier(device: &str) -> Option<bool> {
    if !device.starts_with("net_af_packet") && !device.starts_with("net_af_xdp") {
        return None;
    }
    let interface = device.split(',').find_map(|argument| argument.strip_prefix("iface="))?;
    // An interface that is down has no readable carrier.
    let state = std::fs::read_to_string(format!("/sys/class/net/{interface}/carrier"));
    Some(state.is_ok_and(|state| state.trim() == "1"))
}
