//! The pipeline alone: everything from received packet to verdict, without a port's receive and transmit.

use crate::quiet::Window;
use crate::traffic::{self, BACKEND_PORT, BACKENDS, Family, Flows, LAN, Order, SERVICE_PORT, WAN};
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ctl::config::Tunnel;
use dataplane::affinity::Clients;
use dataplane::counters::WorkerCounters;
use dataplane::flow::Secret;
use dataplane::io::BURST;
use dataplane::packet::Packet;
use dataplane::pipeline::{Arrival, NO_VERDICTS, Pipeline, Settings, Stage, Verdicts, Watch};
use dataplane::route::{NextHop, PortId};
use dataplane::scheduler::{self, Candidate, HashFields, MaglevParameters};
use dataplane::service::Service;
use dataplane::snapshot::Snapshot;
use dataplane::steering::Steering;
use dataplane::tunnel::{self, GueForm};
use dataplane::verdict::Verdict;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Bursts between two looks at the clock: few enough that their packets stay in the second-level cache.
const BURSTS: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    setup: Setup,
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,
    /// Packets measured in each run
    #[arg(long, default_value_t = 4_000_000)]
    packets: u64,
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// CPU to run on
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// Cycles a second of the time stamp counter, in millions; by default what the kernel says
    #[arg(long)]
    mhz: Option<f64>,
}

/// What a benchmark's pipeline holds.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Setup {
    /// Connections
    #[arg(long, default_value_t = 1000)]
    pub(crate) flows: u32,
    #[arg(long, value_enum, default_value_t = Family::V4)]
    pub(crate) family: Family,
    #[arg(long, value_enum, default_value_t = Mode::Nat)]
    pub(crate) mode: Mode,
    /// Use reserved large pages for the tables, if there are enough
    #[arg(long)]
    pub(crate) large_pages: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Nat,
    Dsr,
    /// `dsr` through a tunnel of this kind, as the following
    Ipip,
    Gue,
    Gre,
}

impl Mode {
    fn tunnel(self) -> Option<Tunnel> {
        match self {
            Self::Nat | Self::Dsr => None,
            Self::Ipip => Some(Tunnel::Ipip),
            Self::Gue => Some(Tunnel::Gue),
            Self::Gre => Some(Tunnel::Gre),
        }
    }
}

/// A figure over runs, in cycles a packet.
#[derive(Debug, Serialize)]
struct Cycles {
    min: f64,
    median: f64,
    max: f64,
    /// In the order in which they were made.
    samples: Vec<f64>,
    /// Further runs in which the core was taken by something else.
    discarded: usize,
}

/// What each stage costs, in cycles a packet: medians over bursts, both directions, the clock's own cost taken off.
#[derive(Debug, Serialize)]
struct Stages {
    parse: f64,
    forward: f64,
}

/// When the stages of a burst ended.
struct Laps {
    last: Instant,
    /// Of the parse stage and of the forward stage, in nanoseconds.
    nanos: [f64; 2],
}

impl Watch for Laps {
    fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.nanos[stage as usize] = (now - self.last).as_nanos() as f64;
        self.last = now;
    }
}

#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    flows: u32,
    family: String,
    mode: Mode,
    order: String,
    tsc_mhz: f64,
    create: f64,
    forward: Cycles,
    reply: Option<Cycles>,
    both: Cycles,
    stages: Stages,
    /// Whether there was no quiet moment for some of the runs, so that disturbed ones are among them.
    disturbed: bool,
    connections: usize,
    displaced_ratio: f64,
}

/// A frame in a fixed place, like a received mbuf's data room.
#[derive(Debug)]
pub(crate) struct BenchPacket {
    data: Box<Room>,
    start: usize,
    end: usize,
}

/// As in an mbuf.
const HEADROOM: usize = 128;
const ROOM: usize = 256;

#[derive(Debug)]
#[repr(align(64))]
struct Room([u8; ROOM]);

impl BenchPacket {
    /// An empty frame of `len` bytes, 128 at most.
    pub(crate) fn new(len: usize) -> Self {
        Self { data: Box::new(Room([0; ROOM])), start: HEADROOM, end: (HEADROOM + len).min(ROOM) }
    }

    /// A frame of `len` bytes, as it was received.
    fn received(&mut self, len: usize) -> &mut [u8] {
        (self.start, self.end) = (HEADROOM, (HEADROOM + len).min(ROOM));
        self.data_mut()
    }
}

impl Packet for BenchPacket {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        &self.data.0[self.start..self.end]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data.0[self.start..self.end]
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn prepend(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(bytes)?;
        Some(self.data_mut())
    }

    fn trim_front(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.frame_len();
        self.start += if fits { bytes } else { 0 };
        fits
    }

    #[inline(always)]
    fn set_len(&mut self, bytes: usize) -> bool {
        let fits = self.start + bytes <= ROOM;
        self.end = if fits { self.start + bytes } else { self.end };
        fits
    }
}

pub(crate) struct Bench {
    pipeline: Pipeline,
    packets: Vec<BenchPacket>,
    verdicts: Verdicts,
    /// By flow: the backend that it got.
    backends: Vec<u8>,
    family: Family,
    now: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.setup.flows > 0 && options.runs > 0, "there must be something to measure");
    if !core_affinity::set_for_current(core_affinity::CoreId { id: options.cpu }) {
        bail!("cannot run on CPU {}", options.cpu);
    }
    let mhz = clock_mhz(options.mhz)?;
    let setup = options.setup;
    let mut bench = Bench::new(setup)?;
    let create = bench.create(setup.flows, mhz)?;
    let mut disturbed = false;
    let mut way = |bench: &mut Bench, port: Option<PortId>| {
        let (cycles, one_was) = bench.measure(options, port, mhz)?;
        disturbed |= one_was;
        anyhow::Ok(cycles)
    };
    let forward = way(&mut bench, Some(WAN))?;
    let (reply, both) = match setup.mode {
        Mode::Nat => (Some(way(&mut bench, Some(LAN))?), way(&mut bench, None)?),
        _ => (None, way(&mut bench, Some(WAN))?),
    };
    let stages = bench.stages(options, mhz);
    let counters = bench.pipeline.counters();
    bench.pipeline.refresh_levels();
    let report = Report {
        benchmark: "pipeline",
        flows: setup.flows,
        family: format!("{:?}", setup.family).to_lowercase(),
        mode: setup.mode,
        order: format!("{:?}", options.order).to_lowercase(),
        tsc_mhz: mhz,
        create,
        forward,
        reply,
        both,
        stages,
        disturbed,
        connections: bench.pipeline.connections(),
        displaced_ratio: counters.index_displaced.get() as f64 / counters.index_keys.get().max(1) as f64,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// One service of the wanted mode, and every next hop that its packets have.
pub(crate) fn world(setup: Setup) -> anyhow::Result<(Snapshot, Vec<NextHop>)> {
    let family = setup.family;
    let mut parts = traffic::parts(family);
    let candidate = |n: u8| Candidate {
        slot: u32::from(n),
        address: traffic::backend(n, family),
        port: BACKEND_PORT,
        weight: 100,
    };
    let candidates: Vec<Candidate> = (0..BACKENDS).map(candidate).collect();
    let scheduler =
        scheduler::build(ctl::config::Scheduler::Maglev, &candidates, MaglevParameters::default());
    parts.services.push(Service {
        id: 0,
        protocol: ctl::config::Protocol::Udp,
        vip: traffic::vip(family).into(),
        ports: ctl::config::Ports::new(SERVICE_PORT, SERVICE_PORT).context("a port")?,
        mode: match setup.mode {
            Mode::Nat => ctl::config::Mode::Nat,
            _ => ctl::config::Mode::Dsr,
        },
        timeouts: dataplane::conn::Timeouts::default(),
        hash_fields: HashFields::ALL,
        affinity: None,
        mss: None,
        resets_unknown: false,
        scheduler,
    });
    if let Some(tunnel) = setup.mode.tunnel() {
        let gue = GueForm { port: 6080, direct: true };
        let options = Arc::new(tunnel::Options::new(tunnel, gue, family == Family::V6, &[]));
        parts.tunnels = vec![Some(options); usize::from(BACKENDS)];
    }
    let gateway = parts.routes.first().map(|(_, via)| *via);
    let hops = gateway.map(|address| NextHop { port: WAN, address }).into_iter();
    let backends = (0..BACKENDS).map(|n| NextHop { port: LAN, address: traffic::backend(n, family) });
    Ok((Snapshot::new(parts), hops.chain(backends).collect()))
}

/// Length of a frame of one family.
pub(crate) fn frame_len(family: Family) -> usize {
    match family {
        Family::V4 => traffic::FRAME_V4,
        Family::V6 => traffic::FRAME_V6,
    }
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> anyhow::Result<Self> {
        let (snapshot, hops) = world(setup)?;
        let secret = Secret::random()?;
        let mut pipeline = Pipeline::new(Settings {
            worker: 0,
            steering: Arc::new(Steering::keyed(1, secret)),
            max_connections: setup.flows as usize,
            large_pages: setup.large_pages,
            secret,
            maglev: MaglevParameters::default(),
            clients: Clients::new(1, setup.flows as usize, secret),
            counters: Arc::new(WorkerCounters::default()),
        })?;
        pipeline.publish(Arc::new(snapshot));
        for hop in hops {
            pipeline.update_neighbor(hop, Some(traffic::PEER));
        }
        let family = setup.family;
        let len = frame_len(family);
        let packets = (0..BURST * BURSTS).map(|_| BenchPacket::new(len)).collect();
        Ok(Self {
            pipeline,
            packets,
            verdicts: NO_VERDICTS,
            backends: vec![0; setup.flows as usize],
            family,
            now: 0,
        })
    }

    fn fill(&mut self, at: usize, flow: u32, port: PortId) {
        let client = traffic::client(flow, self.family);
        let frame = self.packets[at].received(frame_len(self.family));
        if port == WAN {
            traffic::write_frame(frame, WAN, client, (traffic::vip(self.family), SERVICE_PORT));
        } else {
            let backend = traffic::backend(self.backends[flow as usize], self.family);
            traffic::write_frame(frame, LAN, (backend, BACKEND_PORT), client);
        }
    }

    /// Nanoseconds that the first `count` packets took.
    fn process(&mut self, count: usize, ports: [PortId; 2]) -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut wrong = 0;
        for (burst, packets) in self.packets[..count].chunks_mut(BURST).enumerate() {
            let arrival = Arrival { port: ports[burst % 2], now: self.now, handed: false };
            self.pipeline.process(arrival, packets, &mut self.verdicts);
            wrong +=
                self.verdicts[..packets.len()].iter().filter(|v| !matches!(v, Verdict::Forward(_))).count();
        }
        let elapsed = start.elapsed().as_nanos() as f64;
        self.now += 1;
        ensure!(wrong == 0, "{wrong} packets were not forwarded, the first burst: {:?}", self.verdicts);
        Ok(elapsed)
    }

    /// Creates every connection and confirms it; cycles a packet of the creation.
    pub(crate) fn create(&mut self, flows: u32, mhz: f64) -> anyhow::Result<f64> {
        let mut nanos = 0.0;
        let batch = (BURST * BURSTS) as u32;
        for first in (0..flows).step_by(batch as usize) {
            let count = batch.min(flows - first);
            for at in 0..count {
                self.fill(at as usize, first + at, WAN);
            }
            nanos += self.process(count as usize, [WAN, WAN])?;
            for at in 0..count {
                self.backends[(first + at) as usize] = self.backend_of(at as usize);
            }
            // A reply (where they pass) and another request: confirmed by both sides.
            let ports: &[PortId] = if self.is_dsr() { &[WAN] } else { &[LAN, WAN] };
            for &port in ports {
                for at in 0..count {
                    self.fill(at as usize, first + at, port);
                }
                self.process(count as usize, [port, port])?;
            }
        }
        Ok(nanos * mhz / 1000.0 / f64::from(flows))
    }

    fn is_dsr(&self) -> bool {
        self.pipeline.snapshot().services()[0].mode == ctl::config::Mode::Dsr
    }

    /// Which backend a forwarded packet was sent to.
    fn backend_of(&self, at: usize) -> u8 {
        let packet = &self.packets[at];
        // Behind a tunnel's header, if there is one: the original destination, which is no backend.
        let frame = &packet.data.0[HEADROOM..packet.end];
        let address: IpAddr = match self.family {
            Family::V4 => <[u8; 4]>::try_from(&frame[30..34]).unwrap_or_default().into(),
            Family::V6 => <[u8; 16]>::try_from(&frame[38..54]).unwrap_or_default().into(),
        };
        (0..BACKENDS).find(|&n| traffic::backend(n, self.family) == address).unwrap_or(0)
    }

    /// Cycles a packet of known connections, in one direction, or burst by burst in both; and whether a disturbed run is
    /// among them, because as many again were discarded already.
    fn measure(
        &mut self,
        options: &Options,
        port: Option<PortId>,
        mhz: f64,
    ) -> anyhow::Result<(Cycles, bool)> {
        let ports = port.map_or([WAN, LAN], |port| [port, port]);
        let (mut samples, mut discarded, mut disturbed) = (Vec::new(), 0, false);
        while samples.len() < options.runs {
            let mut flows = Flows::new(options.setup.flows, options.order);
            let window = Window::open(options.cpu);
            let (mut nanos, mut packets) = (0.0, 0);
            while packets < options.packets {
                nanos += self.batch(&mut flows, ports)?;
                packets += self.batch_len();
            }
            if window.disturbed() {
                if discarded < options.runs {
                    discarded += 1;
                    continue;
                }
                disturbed = true;
            }
            samples.push(nanos * mhz / 1000.0 / packets as f64);
        }
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, median, max) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        Ok((Cycles { min, median, max, samples, discarded }, disturbed))
    }

    /// What each stage costs.
    fn stages(&mut self, options: &Options, mhz: f64) -> Stages {
        let ports = if self.is_dsr() { [WAN, WAN] } else { [WAN, LAN] };
        let mut flows = Flows::new(options.setup.flows, options.order);
        let mut samples: [Vec<f64>; 2] = Default::default();
        let mut clock = Vec::new();
        while samples[0].len() < 4096 {
            for at in 0..self.packets.len() {
                self.fill(at, flows.next(), ports[at / BURST % 2]);
            }
            for (burst, packets) in self.packets.chunks_mut(BURST).enumerate() {
                let arrival = Arrival { port: ports[burst % 2], now: self.now, handed: false };
                let begun = Instant::now();
                let mut laps = Laps { last: Instant::now(), nanos: [0.0; 2] };
                clock.push((laps.last - begun).as_nanos() as f64);
                self.pipeline.process_watched(arrival, packets, &mut self.verdicts, &mut laps);
                samples.iter_mut().zip(laps.nanos).for_each(|(samples, nanos)| samples.push(nanos));
            }
            self.now += 1;
        }
        let clock = median(&mut clock);
        let [parse, forward] =
            samples.map(|mut samples| (median(&mut samples) - clock).max(0.0) * mhz / 1000.0 / BURST as f64);
        Stages { parse, forward }
    }

    /// Packets of one [`Bench::batch`].
    pub(crate) fn batch_len(&self) -> u64 {
        self.packets.len() as u64
    }

    /// Nanoseconds that one batch of packets of known connections took.
    pub(crate) fn batch(&mut self, flows: &mut Flows, ports: [PortId; 2]) -> anyhow::Result<f64> {
        for at in 0..self.packets.len() {
            self.fill(at, flows.next(), ports[at / BURST % 2]);
        }
        self.process(self.packets.len(), ports)
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(0.0)
}

/// Cycles a second of the time stamp counter, in millions: as given, or as the kernel says.
pub(crate) fn clock_mhz(given: Option<f64>) -> anyhow::Result<f64> {
    given.or_else(tsc_mhz).context("the speed of the time stamp counter is not in /proc/cpuinfo; give --mhz")
}

/// What the kernel says of the time stamp counter: on a virtual machine the "cpu MHz" of its CPU model.
fn tsc_mhz() -> Option<f64> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split(':').nth(1)?.trim().parse().ok()
}
