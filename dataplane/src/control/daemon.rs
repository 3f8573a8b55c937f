//! Start and stop, on DPDK ports.
//!
//! Everything is taken in an order that lets each refusal leave nothing behind: CPUs and memory are asked for, the
//! control socket is taken, then DPDK, the ports, and the workers with their tables. The calling thread becomes the
//! control thread.

use super::balancer::{Attached, Balancer, Start};
use super::device::{Device, Facts};
use super::publish::{Link, Links};
use super::socket::ControlSocket;
use super::{Control, build, memory};
use crate::counters::WorkerCounters;
use crate::flow::Secret;
use crate::io::dpdk::{
    Eal, EalConfig, LogLevel, Mbuf, Port, PortConfig, QueuePair, TscClock, WorkerThread, dpdk_version,
    open_ports, sleep_precisely,
};
use crate::pipeline::{Pipeline, Settings};
use crate::wire::ethernet::Mac;
use crate::worker::{self, Idle, Mesh, Worker};
use ctl::api::{self, Offload, PortQueues, PortStats, Rss};
use ctl::config::{Config, ConfigError, Machine, Poll};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Packets of one worker that may wait outside of queues: for next hops, and in the rings from other workers.
const fn held(workers: usize) -> u32 {
    256 + 2048 * (workers as u32).saturating_sub(1)
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
    memory::check(&config.runtime).map_err(refusal)?;
    let socket = ControlSocket::take(&config.runtime.socket).map_err(refusal)?;
    let eal = start_dpdk(&config)?;
    let mut notices = Vec::new();
    let (ports, workers) = open(&eal, &config, &mut notices)?;
    for notice in &notices {
        tracing::warn!("{notice}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (links, threads, ports) = start_workers(&eal, &config, ports, workers, &stop)?;
    let metrics = config.runtime.metrics;
    let devices = ports.into_iter().map(attached).collect();
    let engine = dpdk_version().trim_start_matches("DPDK ").to_owned();
    let served = Balancer::start(Start { config, config_file, devices, links, notices, engine })
        .map_err(Refusal::from)
        .and_then(|balancer| serve(Control::new(balancer), &socket, metrics));
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

/// Opens all ports, and says how many workers can have a queue of each.
fn open(eal: &Eal, config: &Config, notices: &mut Vec<String>) -> Result<(Vec<Port>, usize), Refusal> {
    let wanted = config.runtime.workers.len();
    let configs: Vec<PortConfig> = config
        .ports
        .iter()
        .map(|port| {
            let usual = PortConfig::default();
            PortConfig {
                device: port.device.clone(),
                queues: wanted as u16,
                rx_descriptors: port.rx_descriptors.unwrap_or(usual.rx_descriptors),
                tx_descriptors: port.tx_descriptors.unwrap_or(usual.tx_descriptors),
                mtu: port.mtu,
                ..usual
            }
        })
        .collect();
    let ports = open_ports(eal, &configs, wanted as u32, held(wanted) * wanted as u32).map_err(refusal)?;
    let mut workers = wanted;
    for (port, config) in ports.iter().zip(&config.ports) {
        let offered = port.capabilities();
        tracing::info!(
            "port {} is {} with {}, MAC {}, MTU {}, {} of {wanted} queues",
            config.name,
            config.device,
            offered.driver,
            Mac(offered.mac),
            offered.mtu,
            offered.queues
        );
        for notice in port.notices() {
            tracing::info!("port {}: {notice}", config.name);
        }
        workers = workers.min(usize::from(offered.queues));
    }
    if workers < wanted {
        notices.push(format!(
            "{workers} of {wanted} workers run: each needs a queue of every port; give software ports more queues \
             (for net_af_packet: qpairs={wanted})"
        ));
    }
    Ok((ports, workers))
}

type Threads = Vec<WorkerThread<()>>;

/// Starts the workers, each on its CPU and with its own tables; returns when all of them forward.
fn start_workers(
    eal: &Eal,
    config: &Config,
    mut ports: Vec<Port>,
    count: usize,
    stop: &Arc<AtomicBool>,
) -> Result<(Links, Threads, Vec<Port>), Refusal> {
    let runtime = &config.runtime;
    let secret = Secret::random().map_err(|error| refusal(format!("no random numbers: {error}")))?;
    let large_pages = memory::large_pages_fit(runtime);
    let mut queues: Vec<Vec<QueuePair>> = (0..count).map(|_| Vec::new()).collect();
    for port in &mut ports {
        for (worker, queue) in queues.iter_mut().zip(port.take_queues(count as u16)) {
            worker.push(queue);
        }
    }
    let meshes: Vec<Mesh<Mbuf>> = worker::mesh(count);
    let (mut links, mut threads) = (Vec::new(), Threads::new());
    let (report, outcome) = mpsc::channel();
    let each = queues.into_iter().zip(meshes).zip(&runtime.workers).enumerate();
    for (number, ((queues, mesh), &cpu)) in each {
        let counters = Arc::new(WorkerCounters::default());
        let (control_end, worker_end) = worker::channel();
        links.push(Link::new(cpu, Arc::clone(&counters), control_end));
        let settings = Settings {
            worker: number as u8,
            workers: count as u8,
            max_connections: runtime.max_connections as usize,
            large_pages,
            secret,
            maglev: build::maglev(config),
            counters,
        };
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
                Worker::new(queues, pipeline, mesh, worker_end).run(&mut clock, idle, &stopped);
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
    let bytes = (memory::table_bytes(runtime) >> 20) * count as u64 / runtime.workers.len().max(1) as u64;
    tracing::info!(
        "{count} workers on CPUs {:?}, tables of {bytes} MiB in {place}",
        &runtime.workers[..count]
    );
    Ok((Links::new(links), threads, ports))
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
fn serve(control: Arc<Control>, socket: &ControlSocket, metrics: Option<SocketAddr>) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| refusal(format!("the control thread cannot start: {error}")))?;
    let listener = socket.listener().map_err(refusal)?;
    let ready = {
        let control = Arc::clone(&control);
        move || {
            tracing::info!("ready: generation {} is in use", control.balancer().generation());
        }
    };
    runtime.block_on(super::run(control, listener, metrics, ready, std::future::pending())).map_err(refusal)
}

/// A port's device, for the control thread.
fn attached(port: Port) -> Attached {
    let offered = port.capabilities();
    Attached { mac: Mac(offered.mac), mtu: offered.mtu, device: Box::new(DpdkDevice(port)) }
}

#[derive(Debug)]
struct DpdkDevice(Port);

impl Device for DpdkDevice {
    fn facts(&self) -> Facts {
        let (offered, link) = (self.0.capabilities(), self.0.link());
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
                rx_queues: offered.queues,
                tx_queues: offered.queues,
                rx_queues_max: offered.max_queues,
                tx_queues_max: offered.max_queues,
                rx_descriptors: offered.rx_descriptors,
                tx_descriptors: offered.tx_descriptors,
            },
            rss: Rss {
                offered: !offered.rss_offered.is_empty(),
                in_use: offered.rss.is_some(),
                fields: offered.rss.as_ref().map(|rss| rss.fields.clone()).unwrap_or_default(),
            },
            offloads: both,
            notices: self.0.notices().to_vec(),
        }
    }

    fn link(&self) -> api::Link {
        let up = carrier(self.0.device()).unwrap_or_else(|| self.0.link().up);
        if up { api::Link::Up } else { api::Link::Down }
    }

    fn counters(&self) -> PortStats {
        let stats = self.0.stats().unwrap_or_default();
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
