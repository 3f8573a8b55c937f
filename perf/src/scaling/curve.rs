//! Up to 64 workers: by formula, and by real workers that are asked whose each packet is.
//!
//! Two ways in which a NIC can spread packets. `spread`: by the whole 5-tuple, as NICs do unasked; a packet is right by
//! chance only, so `1 − 1/W` of them are handed over. `steered`: by the client alone, as workers own connections, so none
//! is. The formula takes all workers to be equally busy. The simulation counts what each of `W` real workers received, gave
//! and took, for clients and a NIC that are as uneven as hashes are, and the busiest one is the limit.

use super::handoff::{Costs, Fed};
use crate::pipeline::{Mode, Setup};
use crate::traffic::{self, Family, Flows, Order, SERVICE_PORT};
use dataplane::flow::Secret;
use dataplane::worker;
use serde::Serialize;
use std::net::IpAddr;
use std::time::Instant;

const WORKERS: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 48, 64];
/// Connections in a simulation: enough that none of them is a large share of a worker's.
const FLOWS: u32 = 20_000;
/// Packets in it.
const PACKETS: u32 = 200_000;
/// Entries of a NIC's redirection table.
const REDIRECTIONS: usize = 128;
/// Turns over which the cost of an empty one is taken.
const EMPTY_TURNS: u32 = 2_000;
/// Packets that a worker with much to do takes in a turn.
const BURST: f64 = 32.0;

#[derive(Debug, Serialize)]
pub(crate) struct Point {
    workers: usize,
    /// Share of packets that are handed over, where the NIC spreads by 5-tuple.
    spread_handoff_ratio: f64,
    spread_handoff_ratio_simulated: f64,
    /// Throughput over that of one worker.
    spread_speedup: f64,
    spread_speedup_simulated: f64,
    steered_speedup: f64,
    steered_speedup_simulated: f64,
    /// Packets of the busiest worker over the mean, where the NIC steers.
    steered_busiest_ratio: f64,
    /// Cycles of a turn that finds nothing in any ring.
    empty_turn_cycles: f64,
}

/// What one simulated worker did.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    received: u64,
    given: u64,
    taken: u64,
}

pub(super) fn draw(family: Family, costs: Costs, mhz: f64) -> anyhow::Result<Vec<Point>> {
    let (mut points, mut alone) = (Vec::new(), None);
    for workers in WORKERS {
        let mut fleet = Fleet::new(family, workers)?;
        let empty_turn_cycles = fleet.empty_turn() * mhz / 1000.0;
        // Looking at the others' rings takes its time from every burst.
        let looking = (empty_turn_cycles - *alone.get_or_insert(empty_turn_cycles)).max(0.0) / BURST;
        let model = Model { alone: costs.own, own: costs.own + looking, handoff: costs.handoff };
        let owners = fleet.owners();
        let spread = fleet.simulate(|flow| spread_to(flow, family, workers));
        let steered = fleet.simulate(|flow| owners[flow as usize]);
        let handoff = 1.0 - 1.0 / workers as f64;
        let given: u64 = spread.iter().map(|work| work.given).sum();
        let busiest = steered.iter().map(|work| work.received).max().unwrap_or(0);
        points.push(Point {
            workers,
            spread_handoff_ratio: handoff,
            spread_handoff_ratio_simulated: given as f64 / f64::from(PACKETS),
            spread_speedup: model.even(workers, handoff),
            spread_speedup_simulated: model.counted(&spread),
            steered_speedup: model.even(workers, 0.0),
            steered_speedup_simulated: model.counted(&steered),
            steered_busiest_ratio: busiest as f64 * workers as f64 / f64::from(PACKETS),
            empty_turn_cycles,
        });
    }
    Ok(points)
}

/// Cycles a packet.
#[derive(Debug, Clone, Copy)]
struct Model {
    /// Of the only worker.
    alone: f64,
    /// Of one among several, for a packet that is its own.
    own: f64,
    /// More, for one that is handed over: half of it on either side.
    handoff: f64,
}

impl Model {
    /// Throughput over that of one worker, if all are equally busy.
    fn even(&self, workers: usize, handoff_ratio: f64) -> f64 {
        workers as f64 * self.alone / (self.own + handoff_ratio * self.handoff)
    }

    /// The same from what each worker did: the busiest is the limit.
    fn counted(&self, work: &[Work]) -> f64 {
        let cycles = |work: &Work| {
            let decided = (work.received - work.given + work.taken) as f64;
            decided * self.own + (work.given + work.taken) as f64 * self.handoff / 2.0
        };
        let busiest = work.iter().map(cycles).fold(0.0, f64::max);
        let received: u64 = work.iter().map(|work| work.received).sum();
        received as f64 * self.alone / busiest
    }
}

/// Real workers with real tables, turned one after the other.
struct Fleet(Vec<Fed>);

impl Fleet {
    fn new(family: Family, workers: usize) -> anyhow::Result<Self> {
        let secret = Secret::random()?;
        let setup = Setup { flows: FLOWS, family, mode: Mode::Nat, large_pages: false };
        let fed = |(number, mesh)| Fed::new(setup, number, workers, secret, mesh);
        Ok(Self(worker::mesh(workers).into_iter().enumerate().map(fed).collect::<anyhow::Result<_>>()?))
    }

    /// Nanoseconds of a turn that finds nothing: the least of a few, on one worker.
    fn empty_turn(&mut self) -> f64 {
        let fed = &mut self.0[0];
        let mut round = || {
            let start = Instant::now();
            for _ in 0..EMPTY_TURNS {
                fed.turn();
            }
            start.elapsed().as_nanos() as f64 / f64::from(EMPTY_TURNS)
        };
        (0..10).map(|_| round()).fold(f64::INFINITY, f64::min)
    }

    /// By flow: which worker owns it, and so creates its connection.
    fn owners(&mut self) -> Vec<usize> {
        let created = |fleet: &Self| -> Vec<u64> {
            fleet.0.iter().map(|fed| fed.counters.connections_total.get()).collect()
        };
        (0..FLOWS)
            .map(|flow| {
                let before = created(self);
                self.0[0].feed(flow);
                self.drain();
                created(self).iter().zip(&before).position(|(now, before)| now > before).unwrap_or(0)
            })
            .collect()
    }

    fn drain(&mut self) {
        while self.0.iter_mut().any(Fed::turn) {}
    }

    /// Random packets, each to the worker that `arrives` names.
    fn simulate(&mut self, arrives: impl Fn(u32) -> usize) -> Vec<Work> {
        let count = |fleet: &Self| -> Vec<Work> {
            let work = |fed: &Fed| Work {
                received: fed.counters.rx_packets.get(),
                given: fed.counters.handoffs.get(),
                taken: fed.counters.handoffs_in.get(),
            };
            fleet.0.iter().map(work).collect()
        };
        let before = count(self);
        let mut flows = Flows::new(FLOWS, Order::Random);
        for sent in 1..=PACKETS {
            let flow = flows.next();
            self.0[arrives(flow)].feed(flow);
            // Fewer than a ring between two workers holds.
            if sent % 1024 == 0 || sent == PACKETS {
                self.drain();
            }
        }
        let since = |(after, before): (Work, &Work)| Work {
            received: after.received - before.received,
            given: after.given - before.given,
            taken: after.taken - before.taken,
        };
        count(self).into_iter().zip(&before).map(since).collect()
    }
}

/// The queue that a NIC chooses by the 5-tuple of a client's packet.
fn spread_to(flow: u32, family: Family, workers: usize) -> usize {
    let (address, port) = traffic::client(flow, family);
    let mut input = Vec::with_capacity(36);
    for address in [address, traffic::vip(family)] {
        match address {
            IpAddr::V4(v4) => input.extend(v4.octets()),
            IpAddr::V6(v6) => input.extend(v6.octets()),
        }
    }
    input.extend(port.to_be_bytes());
    input.extend(SERVICE_PORT.to_be_bytes());
    toeplitz(&KEY, &input) as usize % REDIRECTIONS % workers
}

/// The key of Microsoft's "Verifying the RSS Hash Calculation", which drivers use where nothing else is asked for.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The hash of receive-side scaling: for every set bit of the input, the 32 bits of the key that begin there, all of them
/// xored.
fn toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let window = |from: usize| (from..from + 32).fold(0, |word, at| word << 1 | u32::from(bit(key, at)));
    (0..input.len() * 8).filter(|&at| bit(input, at) == 1).fold(0, |hash, at| hash ^ window(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Verifying the RSS Hash Calculation", IPv4 with ports and IPv6 with ports.
    #[test]
    fn toeplitz_agrees_with_microsofts_table() {
        let v4 = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&KEY, &v4), 0x51cc_c178);
        let mut v6 = Vec::new();
        for address in ["3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1"] {
            v6.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        v6.extend([2794u16.to_be_bytes(), 1766u16.to_be_bytes()].concat());
        assert_eq!(toeplitz(&KEY, &v6), 0x4020_7d3d);
    }

    #[test]
    fn the_formula_and_the_count_agree_where_all_are_equal() {
        let model = Model { alone: 50.0, own: 60.0, handoff: 40.0 };
        let same = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        same(model.even(2, 0.5), 2.0 * 50.0 / 80.0);
        let half = Work { received: 100, given: 50, taken: 50 };
        same(model.counted(&[half, half]), model.even(2, 0.5));
        let idle = Work { received: 0, given: 0, taken: 0 };
        let own = Work { received: 100, given: 0, taken: 0 };
        // The busiest is the limit.
        same(model.counted(&[own, idle]), 50.0 / 60.0);
    }

    #[test]
    fn simulated_handoffs_are_as_many_as_the_formula_says() {
        let mut fleet = Fleet::new(Family::V4, 4).unwrap();
        let owners = fleet.owners();
        let steered: u64 = fleet.simulate(|flow| owners[flow as usize]).iter().map(|work| work.given).sum();
        assert_eq!(steered, 0, "where the NIC steers by client, nothing is handed over");
        let spread: u64 =
            fleet.simulate(|flow| spread_to(flow, Family::V4, 4)).iter().map(|work| work.given).sum();
        let ratio = spread as f64 / f64::from(PACKETS);
        assert!((ratio - 0.75).abs() < 0.02, "{ratio}");
    }
}
