//! What a packet costs that arrived at the wrong worker.
//!
//! Real workers, one a core, on ports that cost nothing: packets wait in memory and leave into a list of free ones. Each
//! worker is given packets of its own connections and of the others' in a given share, all of them from clients. What it
//! costs is the time of the workers' turns; preparing the packets is not counted.

use super::{Plan, Step, median};
use crate::pipeline::{BenchPacket, Setup, frame_len, world};
use crate::quiet::Window;
use crate::traffic::{self, Family, Flows, Order, SERVICE_PORT, WAN};
use anyhow::{Context, bail, ensure};
use dataplane::affinity::Clients;
use dataplane::counters::WorkerCounters;
use dataplane::flow::Secret;
use dataplane::io::{Burst, Queue};
use dataplane::packet::Packet as _;
use dataplane::pipeline::{Pipeline, Settings};
use dataplane::scheduler::MaglevParameters;
use dataplane::steering::Steering;
use dataplane::worker::{self, Command, ControlEnd, Mesh, Worker};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Shares of packets that arrive at the wrong worker.
const SHARES: [f64; 3] = [0.0, 0.5, 1.0];
/// Packets that one worker is given between two looks at the clock.
const BATCH: usize = 512;

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    measured: Vec<Share>,
    /// Cycles of the whole worker for a packet of its own, without a port.
    own_cycles: f64,
    /// Cycles more, of both workers together, for one that was handed over.
    handoff_cycles: f64,
    /// Rounds of a share left out because a core was taken by something else.
    discarded: usize,
}

#[derive(Debug, Serialize)]
struct Share {
    /// Of the packets that each worker receives: those that another owns.
    wrong_ratio: f64,
    cycles_per_packet: f64,
    samples: Vec<f64>,
}

/// Cycles a packet, for the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    pub(super) own: f64,
    pub(super) handoff: f64,
}

impl Outcome {
    pub(super) fn costs(&self) -> Costs {
        Costs { own: self.own_cycles, handoff: self.handoff_cycles }
    }
}

pub(super) fn measure(plan: Plan<'_>, mhz: f64) -> anyhow::Result<Outcome> {
    let workers = plan.cpus.len();
    let step = Step::new(workers);
    let secret = Secret::random()?;
    let by_thread: Vec<anyhow::Result<Vec<[Sample; SHARES.len()]>>> = std::thread::scope(|scope| {
        let spawn = |(number, mesh): (usize, Mesh<BenchPacket>)| {
            let step = &step;
            scope.spawn(move || one_thread(plan, number, secret, mesh, step))
        };
        let threads: Vec<_> = worker::mesh(workers).into_iter().enumerate().map(spawn).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    let by_thread = by_thread.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(summary(&by_thread, mhz))
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    nanos: f64,
    forwarded: u64,
    disturbed: bool,
}

fn one_thread(
    plan: Plan<'_>,
    number: usize,
    secret: Secret,
    mesh: Mesh<BenchPacket>,
    step: &Step,
) -> anyhow::Result<Vec<[Sample; SHARES.len()]>> {
    let cpu = plan.cpus[number];
    let made = if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Fed::new(plan.setup, number, plan.cpus.len(), secret, mesh)
    } else {
        Err(anyhow::anyhow!("cannot run on CPU {cpu}"))
    };
    if !step.all(&made) {
        made?;
        bail!("another CPU's worker could not be made");
    }
    let mut fed = made?;
    let (mine, others) = fed.sort_out(plan.setup.flows);
    fed.settle(step);
    let enough = if mine.is_empty() || others.is_empty() { Err(()) } else { Ok(()) };
    ensure!(step.all(&enough), "more flows are needed: one worker owns all of them");
    let mut rounds = Vec::new();
    for round in 0..=plan.rounds {
        let mut samples = [Sample { nanos: f64::NAN, forwarded: 0, disturbed: true }; SHARES.len()];
        for (share, sample) in SHARES.iter().zip(&mut samples) {
            *sample = fed.window(plan, cpu, *share, &mine, &others);
            fed.settle(step);
        }
        // The first round warms up.
        if round > 0 {
            rounds.push(samples);
        }
    }
    Ok(rounds)
}

fn summary(by_thread: &[Vec<[Sample; SHARES.len()]>], mhz: f64) -> Outcome {
    let rounds = by_thread.iter().map(Vec::len).min().unwrap_or(0);
    let mut discarded = 0;
    let mut measured = Vec::new();
    for (at, &wrong_ratio) in SHARES.iter().enumerate() {
        let quiet: Vec<usize> =
            (0..rounds).filter(|&round| by_thread.iter().all(|t| !t[round][at].disturbed)).collect();
        let used = if quiet.is_empty() { (0..rounds).collect() } else { quiet };
        discarded += rounds - used.len();
        let cycles = |&round: &usize| {
            let nanos: f64 = by_thread.iter().map(|t| t[round][at].nanos).sum();
            let packets: u64 = by_thread.iter().map(|t| t[round][at].forwarded).sum();
            nanos * mhz / 1000.0 / packets as f64
        };
        let samples: Vec<f64> = used.iter().map(cycles).collect();
        measured.push(Share { wrong_ratio, cycles_per_packet: median(&samples), samples });
    }
    let own_cycles = measured[0].cycles_per_packet;
    // The slope of the line from the origin of the shares through all of them, least squares.
    let (products, squares) = measured.iter().fold((0.0, 0.0), |(products, squares), share| {
        let more = share.cycles_per_packet - own_cycles;
        (products + share.wrong_ratio * more, squares + share.wrong_ratio * share.wrong_ratio)
    });
    Outcome { measured, own_cycles, handoff_cycles: products / squares, discarded }
}

// --- workers that are fed from memory ------------------------------------------------------------------------------

/// Packets of one worker that are nowhere else.
type Packets = Rc<RefCell<Vec<BenchPacket>>>;

/// A port that costs nothing.
#[derive(Debug)]
pub(super) struct MemoryPort {
    waiting: Packets,
    free: Packets,
}

impl Queue for MemoryPort {
    type Packet = BenchPacket;

    fn receive(&mut self, burst: &mut Burst<BenchPacket>) {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(burst.remaining_capacity());
        let first = waiting.len() - count;
        burst.extend(waiting.drain(first..));
    }

    fn transmit(&mut self, burst: &mut Burst<BenchPacket>) -> usize {
        let count = burst.len();
        self.free.borrow_mut().extend(burst.drain(..));
        count
    }

    fn allocate(&mut self) -> Option<BenchPacket> {
        self.free.borrow_mut().pop()
    }
}

/// A worker and its supply of packets.
pub(super) struct Fed {
    worker: Worker<MemoryPort>,
    _control: ControlEnd,
    waiting: Packets,
    free: Packets,
    pub(super) counters: Arc<WorkerCounters>,
    family: Family,
    now: u32,
}

impl Fed {
    /// Worker `number` of `workers`, which knows all next hops.
    pub(super) fn new(
        setup: Setup,
        number: usize,
        workers: usize,
        secret: Secret,
        mesh: Mesh<BenchPacket>,
    ) -> anyhow::Result<Self> {
        let counters = Arc::new(WorkerCounters::with_backends(usize::from(traffic::BACKENDS)));
        let pipeline = Pipeline::new(Settings {
            worker: u8::try_from(number)?,
            steering: Arc::new(Steering::keyed(u8::try_from(workers)?, secret)),
            max_connections: setup.flows as usize,
            large_pages: setup.large_pages,
            secret,
            maglev: MaglevParameters::default(),
            clients: Clients::new(u8::try_from(workers)?, setup.flows as usize, secret),
            counters: Arc::clone(&counters),
        })?;
        let (waiting, free) = (Packets::default(), Packets::default());
        // Packets come in by the first port and leave by the second.
        let second = Packets::default();
        let ports = [&waiting, &second]
            .map(|waiting| MemoryPort { waiting: Rc::clone(waiting), free: Rc::clone(&free) });
        let (mut control, worker_end) = worker::channel();
        let (snapshot, hops) = world(setup)?;
        let send =
            |control: &mut ControlEnd, command| control.send(command).ok().context("the ring has room");
        send(&mut control, Command::Publish(Arc::new(snapshot)))?;
        for hop in hops {
            send(&mut control, Command::Neighbor { hop, mac: Some(traffic::PEER) })?;
        }
        let mut worker = Worker::new(ports.into(), pipeline, mesh, worker_end);
        while counters.generation.get() == 0 {
            worker.turn(0);
        }
        Ok(Self { worker, _control: control, waiting, free, counters, family: setup.family, now: 0 })
    }

    /// Puts a packet of a flow where the worker will receive it.
    pub(super) fn feed(&mut self, flow: u32) {
        let spare = self.free.borrow_mut().pop();
        let mut packet = spare.unwrap_or_else(|| BenchPacket::new(frame_len(self.family)));
        let to = (traffic::vip(self.family), SERVICE_PORT);
        traffic::write_frame(packet.data_mut(), WAN, traffic::client(flow, self.family), to);
        self.waiting.borrow_mut().push(packet);
    }

    /// One turn; whether there was anything.
    pub(super) fn turn(&mut self) -> bool {
        self.worker.turn(self.now) > 0
    }

    /// Sends the first packet of every flow; the flows that this worker owns, and the others.
    fn sort_out(&mut self, flows: u32) -> (Vec<u32>, Vec<u32>) {
        (0..flows).partition(|&flow| {
            let before = self.counters.handoffs.get() + self.counters.dropped_total();
            self.feed(flow);
            while !self.waiting.borrow().is_empty() {
                self.turn();
            }
            self.counters.handoffs.get() + self.counters.dropped_total() == before
        })
    }

    /// Takes what the others still had for this worker.
    fn settle(&mut self, step: &Step) {
        step.wait();
        while self.turn() {}
        step.wait();
        // An imbalance left more than a worker needs, which would only spoil its cache.
        self.free.borrow_mut().truncate(8 * BATCH);
    }

    fn window(&mut self, plan: Plan<'_>, cpu: usize, share: f64, mine: &[u32], others: &[u32]) -> Sample {
        let mut draws = Flows::new(u32::MAX, Order::Random);
        let threshold = (share * f64::from(u32::MAX)) as u32;
        let before = self.counters.forwarded.get();
        let (watch, start) = (Window::open(cpu), Instant::now());
        let mut nanos = 0.0;
        while start.elapsed() < plan.window {
            for _ in 0..BATCH {
                let from = if draws.next() < threshold { others } else { mine };
                let at = (u64::from(draws.next()) * from.len() as u64) >> 32;
                self.feed(from[at as usize]);
            }
            self.now += 1;
            let start = Instant::now();
            while !self.waiting.borrow().is_empty() {
                self.turn();
            }
            nanos += start.elapsed().as_nanos() as f64;
        }
        let forwarded = self.counters.forwarded.get() - before;
        Sample { nanos, forwarded, disturbed: watch.disturbed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_handoff_is_the_slope() {
        let sample = |nanos| Sample { nanos, forwarded: 10, disturbed: false };
        // 100, 150 and 200 ns a packet, at 1000 MHz as many cycles.
        let rounds = vec![[sample(1000.0), sample(1500.0), sample(2000.0)]];
        let outcome = summary(&[rounds.clone(), rounds], 1000.0);
        assert_eq!((outcome.own_cycles, outcome.handoff_cycles), (100.0, 100.0));
    }

    #[test]
    fn workers_know_their_flows() {
        let setup =
            Setup { flows: 64, family: Family::V4, mode: crate::pipeline::Mode::Nat, large_pages: false };
        let secret = Secret::new([7; 48]);
        let mut fed: Vec<Fed> = worker::mesh(2)
            .into_iter()
            .enumerate()
            .map(|(number, mesh)| Fed::new(setup, number, 2, secret, mesh).unwrap())
            .collect();
        let (mine, others) = fed[0].sort_out(64);
        let (theirs, not_theirs) = fed[1].sort_out(64);
        assert_eq!((&mine, &others), (&not_theirs, &theirs));
        assert!(!mine.is_empty() && !others.is_empty());
        while fed.iter_mut().any(Fed::turn) {}
        let forwarded: u64 = fed.iter().map(|fed| fed.counters.forwarded.get()).sum();
        assert_eq!(forwarded, 128, "each flow twice, wherever it arrived");
    }
}
