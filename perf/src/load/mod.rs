//! `sluice-perf load`: clients, their gateway and backends at once, on DPDK ports, around a device under test.
//!
//! | file | what it is |
//! | --- | --- |
//! | [`world`] | addresses, and the configuration of `sluiced` that fits them |
//! | [`frame`], [`fragment`] | frames from templates, and their stamps |
//! | [`check`] | what a packet must look like when it comes back; tunnels are opened here |
//! | [`order`], [`pace`] | which flow is next, and when |
//! | [`seen`], [`tally`] | what came back |
//! | [`talk`] | whole TCP conversations |
//! | [`neighbor`] | ARP and neighbour discovery |
//! | [`engine`] | the loop over a port's queues |
//! | [`session`], [`search`] | measurements made of runs of the loop |
//! | [`device`] | the process of the device under test |

mod check;
mod device;
mod engine;
mod fragment;
mod frame;
mod neighbor;
mod order;
mod pace;
mod search;
mod seen;
mod session;
mod talk;
mod tally;
#[cfg(test)]
mod tests;
mod world;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use dataplane::io::dpdk::{
    Eal, EalConfig, LogLevel, Mempool, MempoolConfig, Port, PortConfig, QueuePair, TscClock, WorkerThread,
};
use dataplane::wire::tcp::flag;
use device::Device;
use engine::{Engine, NEVER, Settings, Streams};
use frame::Transport;
use order::{Pattern, Sequence, Sizes};
use serde::Serialize;
use serde_json::Value;
use session::{Outside, Session};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use world::{Daemon, Scene, World};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plan {
    /// Packets a second that come back, window by window
    Throughput,
    /// The highest rate without loss (RFC 2544)
    Search,
    /// Latency at 10, 50 and 90 % of a rate, or of the highest without loss
    Latency,
    /// Every packet checked; fails if one is lost or wrong
    Verify,
    /// Established flows before, during and after a flood of SYNs
    Flood,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Datagrams of the flows, answered where answers pass the device
    Udp,
    /// Segments of TCP connections that were opened before
    Tcp,
    /// TCP SYNs from random clients: every packet is a new connection
    Syn,
    /// Whole TCP conversations, from SYN to last ACK
    Conversations,
    /// Datagrams in two fragments, in either order
    Fragments,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    pub(crate) plan: Plan,
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// DPDK port of the generator: one, or two with the backends behind the second
    #[arg(long = "device", required = true, num_args = 1)]
    pub(crate) devices: Vec<String>,
    #[arg(long, value_enum, default_value_t = Kind::Udp)]
    pub(crate) traffic: Kind,
    #[arg(long, value_enum, default_value_t = Pattern::Random)]
    pub(crate) order: Pattern,
    /// Frame sizes in bytes, in turn, frame check sequence included: "64", "64,1518" or "imix"; shorter ones than the
    /// headers need are made longer
    #[arg(long, default_value = "64")]
    pub(crate) sizes: Sizes,
    /// Packets a second into the device, answers included; by default as fast as they come back
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Packets on their way at most, when there is no rate
    #[arg(long, default_value_t = 768)]
    pub(crate) window: u64,
    /// Conversations going on at once
    #[arg(long, default_value_t = 256)]
    pub(crate) conversations: u64,
    /// Seconds of measuring
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Windows that these are divided into
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) windows: u32,
    /// Share of packets that may be lost in a search
    #[arg(long, default_value_t = 0.0)]
    pub(crate) loss: f64,
    /// Seconds of one trial of a search
    #[arg(long, default_value_t = 1.0)]
    pub(crate) trial_seconds: f64,
    /// A search ends when it is this precise
    #[arg(long, default_value_t = 0.02)]
    pub(crate) resolution: f64,
    /// Requests a second while flows are made known
    #[arg(long, default_value_t = 1_000_000.0)]
    pub(crate) prime_rate: f64,
    /// Every so many packets one is checked down to its checksums; a power of two
    #[arg(long, default_value_t = 64)]
    pub(crate) check_every: u32,
    /// Every so many packets the latency of one is recorded; a power of two
    #[arg(long, default_value_t = 1)]
    pub(crate) latency_every: u32,
    /// In a flood: the established flows' share of the highest rate
    #[arg(long, default_value_t = 0.3)]
    pub(crate) flood_base: f64,
    /// CPU of the generator
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu: usize,
    /// Without hugepages: slower
    #[arg(long)]
    pub(crate) no_hugepages: bool,
    /// Control socket of the `sluiced` under test, to ask how busy it is
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// More arguments for DPDK's environment
    #[arg(long = "eal-arg", allow_hyphen_values = true)]
    pub(crate) eal_args: Vec<String>,
    /// The device under test, started when the generator's ports are there, and ended with it
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigOptions {
    #[command(flatten)]
    scene: Scene,
    #[command(flatten)]
    daemon: Daemon,
}

/// Packets on their way while every one is checked: no more than the smallest ring holds, however long either side is kept
/// from its CPU, so that what is wrong or lost is the device's doing.
const VERIFY_WINDOW: u64 = 128;
/// How long the device has to take up the link.
const LINK: Duration = Duration::from_secs(30);
/// Buffers: rings of both directions, bursts, and the pool's cache.
const BUFFERS: u32 = 16_383;

impl Options {
    fn world(&self, ports: usize) -> World {
        World::new(&self.scene, ports)
    }

    fn latency_mask(&self) -> u32 {
        self.latency_every - 1
    }

    fn validate(&self) -> anyhow::Result<()> {
        ensure!((1..=2).contains(&self.devices.len()), "one or two --device, not {}", self.devices.len());
        ensure!(
            self.check_every.is_power_of_two() && self.latency_every.is_power_of_two(),
            "--check-every and --latency-every are powers of two"
        );
        ensure!(self.seconds > 0.0 && self.seconds <= 3600.0, "--seconds is between 0 and 3600");
        ensure!(
            self.trial_seconds > 0.0 && self.trial_seconds <= 600.0,
            "--trial-seconds is between 0 and 600"
        );
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "--rate is more than 0");
        ensure!(self.prime_rate > 0.0, "--prime-rate is more than 0");
        ensure!(self.resolution > 0.0 && self.resolution < 1.0, "--resolution is between 0 and 1");
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            replies: self.scene.mode.has_replies() && self.traffic != Kind::Fragments,
            window: if self.plan == Plan::Verify { self.window.min(VERIFY_WINDOW) } else { self.window },
            patient: self.plan == Plan::Verify,
            // Two segments of a conversation may be on their way at once.
            talks: if self.plan == Plan::Verify {
                self.conversations.min(VERIFY_WINDOW / 2)
            } else {
                self.conversations
            },
            check_mask: self.check_every - 1,
            latency_mask: NEVER,
            flags: flag::ACK,
        }
    }

    fn streams(&self) -> Streams {
        Streams {
            transport: if self.traffic == Kind::Tcp { Transport::Tcp } else { Transport::Udp },
            sizes: self.sizes.0.clone(),
            fragments: self.traffic == Kind::Fragments,
        }
    }
}

/// `sluice-perf config`.
pub(crate) fn configuration(options: &ConfigOptions) {
    print!("{}", world::configuration(&options.scene, &options.daemon));
}

/// `sluice-perf load`.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    options.validate()?;
    let eal = Eal::init(&EalConfig {
        hugepages: !options.no_hugepages,
        control_cpus: vec![options.cpu],
        args: options.eal_args.clone(),
        log: Some(log),
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(&eal, &MempoolConfig { mbufs: BUFFERS, ..MempoolConfig::default() })?;
    let open = |device: &String| {
        Port::open(&eal, &PortConfig { device: device.clone(), ..PortConfig::default() }, &pool)
    };
    let mut ports = options.devices.iter().map(open).collect::<Result<Vec<Port>, _>>()?;
    let mut device = Device::start(&options.command, options.socket.clone())?;
    let measured =
        wait_for_link(&ports, &mut device).and_then(|()| measure(options, &eal, &mut ports, &mut device));
    let counters = device.counters();
    device.end();
    let mut report = measured?;
    if let Some(counters) = counters {
        report["device"] = counters;
    }
    println!("{report}");
    tell(&report);
    if report["verified"] == Value::Bool(false) {
        bail!("packets were lost or wrong: see \"totals\"");
    }
    Ok(())
}

fn log(level: LogLevel, line: &str) {
    // Vhost reports each step of its handshake, and a machine has one size of hugepages.
    if matches!(level, LogLevel::Error | LogLevel::Warning) && !line.contains("hugepages reported on node") {
        eprintln!("DPDK: {line}");
    }
}

fn wait_for_link(ports: &[Port], device: &mut Device) -> anyhow::Result<()> {
    let deadline = Instant::now() + LINK;
    while !ports.iter().all(|port| port.link().up) {
        device.still_runs()?;
        ensure!(Instant::now() < deadline, "the link did not come up within {} s", LINK.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs the session on its own thread, and answers what it asks of the device.
fn measure(options: &Options, eal: &Eal, ports: &mut [Port], device: &mut Device) -> anyhow::Result<Value> {
    let queues: Vec<QueuePair> = ports.iter_mut().flat_map(|port| port.take_queues(1)).collect();
    let world = options.world(queues.len());
    let (ask, asked) = mpsc::channel();
    let (answer, busy_ratio) = mpsc::channel();
    let outside = Outside { watch: device.watch(), ask, busy_ratio };
    let (options, clock) = (options.clone(), TscClock::new(eal));
    let cpu = options.cpu;
    let work = move || {
        let sequence = Sequence::new(options.scene.flows, options.order);
        let engine = Engine::new(queues, clock, world, &options.streams(), sequence, options.settings());
        Session::new(engine, options, Some(outside)).run()
    };
    let thread = WorkerThread::spawn(eal, cpu, "generator", work)?;
    // Ends when the session does and drops its end.
    for () in asked {
        std::thread::sleep(Duration::from_millis(1200));
        let _ = answer.send(device.busy_ratio());
    }
    let outcome = thread.join();
    device.still_runs()?;
    outcome.ok().context("the generator's thread panicked")?
}

/// The figures for a person, on standard error.
fn tell(report: &Value) {
    let millions = |key: &str| report[key].as_f64().map(|value| format!("{:.3} M", value / 1e6));
    let mut lines = Vec::new();
    for (key, what) in [
        ("packets_per_second", "packets/s"),
        ("conversations_per_second", "conversations/s"),
        ("loss_free_packets_per_second", "packets/s without loss"),
        ("established_rate_packets_per_second", "established packets/s"),
    ] {
        lines.extend(millions(key).map(|value| format!("{value} {what}")));
    }
    if let Some(cycles) = report["device_cycles_per_packet"].as_f64() {
        lines.push(format!("{cycles:.0} cycles a packet in the device"));
    }
    for point in report["points"].as_array().into_iter().flatten() {
        let micros = |key: &str| point[key].as_f64().unwrap_or(0.0) / 1000.0;
        lines.push(format!(
            "at {:.0} %: p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1} µs",
            point["share"].as_f64().unwrap_or(0.0) * 100.0,
            micros("p50_ns"),
            micros("p90_ns"),
            micros("p99_ns"),
            micros("p999_ns"),
            micros("max_ns")
        ));
    }
    let totals = &report["totals"];
    lines.push(format!(
        "lost {}, wrong {}, duplicated {}, checked {}",
        totals["lost_packets"],
        totals["wrong_packets"],
        totals["duplicated_packets"],
        totals["checked_packets"]
    ));
    let name = |key: &str| report[key].as_str().unwrap_or_default().to_string();
    let flows = &report["flows"];
    eprintln!("{} {} {} {}, {flows} flows", name("plan"), name("mode"), name("family"), name("traffic"));
    for line in lines {
        eprintln!("  {line}");
    }
}
