//! A session with a device under test: find it, make its flows known, measure, and say what came of it.

use super::device::{self, CpuTime, Watch};
use super::engine::{Engine, NEVER, Offer, Rate};
use super::neighbor;
use super::order::{Pattern, Sequence};
use super::pace::Pace;
use super::search::{Search, median, states};
use super::talk;
use super::tally::Tally;
use super::world::Mode;
use super::{Kind, Options, Plan};
use crate::traffic::Family;
use anyhow::{Context, bail, ensure};
use dataplane::io::Queue;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::tcp::flag;
use dataplane::worker::Clock;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender};

/// What only another thread can ask the device, and the answer.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) watch: Watch,
    pub(crate) ask: Sender<()>,
    pub(crate) busy_ratio: Receiver<Option<f64>>,
}

/// Time for the device to be found, in milliseconds.
const SETTLE_MILLIS: u64 = 20_000;
/// Nothing came for so long: nothing will.
const QUIET_MILLIS: u64 = 20;
/// The most that either thread may have waited for its CPU in a window that counts: the control threads beside the generator
/// take less.
const WAITED: f64 = 0.02;
/// A trial that failed while a core was taken is made again, so often at most.
const REPEATS: usize = 3;
/// Where `testpmd` macswap is told to be; it does not care.
const ECHO_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// One stretch of measuring.
#[derive(Debug, Clone, Serialize)]
struct Window {
    seconds: f64,
    packets_per_second: f64,
    /// Times that the generator did not turn for 50 µs or more, and the longest of them.
    disturbances: u64,
    longest_pause_micros: f64,
    generator_waited_ratio: f64,
    device_waited_ratio: Option<f64>,
    disturbed: bool,
    #[serde(skip)]
    tally: Tally,
}

pub(crate) struct Session<Q: Queue, C: Clock> {
    engine: Engine<Q, C>,
    options: Options,
    outside: Option<Outside>,
    hertz: u64,
    /// Whether the flows are known to the device already.
    primed: bool,
}

impl<Q: Queue, C: Clock> std::fmt::Debug for Session<Q, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<Q: Queue, C: Clock> Session<Q, C> {
    pub(crate) fn new(mut engine: Engine<Q, C>, options: Options, outside: Option<Outside>) -> Self {
        let hertz = engine.clock().hertz();
        Self { engine, options, outside, hertz, primed: false }
    }

    /// The whole of it.
    pub(crate) fn run(&mut self) -> anyhow::Result<Value> {
        self.settle()?;
        let mut report = match self.options.plan {
            Plan::Throughput => self.throughput(),
            Plan::Search => self.search(),
            Plan::Latency => self.latency(),
            Plan::Verify => self.verify(),
            Plan::Flood => self.flood(),
        }?;
        let options = &self.options;
        let scene = &options.scene;
        let head = json!({
            "plan": options.plan, "mode": scene.mode, "family": format!("{:?}", scene.family).to_lowercase(),
            "traffic": options.traffic, "flows": scene.flows, "order": options.order, "frame_bytes": options.sizes.0,
            "backends": scene.backends, "ports": self.engine.balancer.len(), "tsc_hertz": self.hertz,
        });
        if let (Value::Object(report), Value::Object(head)) = (&mut report, head) {
            report.extend(head);
        }
        Ok(report)
    }

    fn cycles(&self, seconds: f64) -> u64 {
        (seconds * self.hertz as f64) as u64
    }

    fn millis(&self, millis: u64) -> u64 {
        self.hertz / 1000 * millis
    }

    /// A steady rate from now on; `None`: as fast as packets come back.
    fn rate(&mut self, rate: Option<f64>) -> Rate {
        match rate {
            None => Rate::Max,
            Some(rate) => Rate::Paced(Pace::new(rate, self.hertz, self.engine.clock().cycles())),
        }
    }

    /// Packets of known flows into the device at `rate` a second, answers among them; or what else the traffic is.
    fn offer(&mut self, rate: Option<f64>) -> Offer {
        let answered = self.engine.settings.replies;
        let mut offer = Offer::default();
        match self.options.traffic {
            Kind::Udp | Kind::Tcp | Kind::Fragments => {
                let per_request = match self.options.traffic {
                    Kind::Fragments => 2.0,
                    _ if answered => 2.0,
                    _ => 1.0,
                };
                offer.streams = self.rate(rate.map(|rate| rate / per_request));
            }
            Kind::Syn => offer.floods = self.rate(rate),
            Kind::Conversations => {
                let packets = if answered { talk::PACKETS } else { talk::PACKETS_CLIENT };
                offer.talks = self.rate(rate.map(|rate| rate / packets as f64));
            }
        }
        offer
    }

    // --- before ----------------------------------------------------------------------------------------------------

    /// Learns the balancer's hardware addresses, and waits until it forwards.
    fn settle(&mut self) -> anyhow::Result<()> {
        let echo = self.options.scene.mode == Mode::Echo;
        let v6 = self.options.scene.family == Family::V6;
        let sides = self.engine.balancer.len();
        if echo {
            (0..sides).for_each(|side| self.engine.set_balancer(side, ECHO_MAC));
        }
        // One packet of a known flow, or whatever the traffic begins with, until it is seen.
        let slice = self.millis(100);
        for _ in 0..SETTLE_MILLIS / 100 {
            for side in 0..sides {
                if self.engine.balancer[side].is_none() {
                    let question = neighbor::ask(&self.options.world(sides), side, v6);
                    self.engine.send_frame(side, &question);
                }
            }
            if self.engine.balancer.iter().all(Option::is_some) {
                let mut offer = self.offer(Some(100.0));
                self.engine.run(&mut offer, slice);
                if self.engine.tally.received() > 0 {
                    // What the device still asks for at its start is answered now.
                    self.engine.run(&mut Offer::default(), slice * 3);
                    self.engine.drain(self.millis(QUIET_MILLIS));
                    self.engine.end_talks();
                    self.engine.tally = Tally::default();
                    return Ok(());
                }
            } else {
                self.engine.run(&mut Offer::default(), slice);
            }
        }
        let state: Vec<String> = self
            .engine
            .balancer
            .iter()
            .map(|mac| {
                mac.map_or("it did not answer for its address".into(), |mac| format!("its address is {mac}"))
            })
            .collect();
        bail!(
            "no test packet came back within {} s ({}); check the device's configuration (`sluice-perf config` writes one) \
             and its log",
            SETTLE_MILLIS / 1000,
            state.join("; ")
        )
    }

    /// Sends on every flow until the device knows all as established: twice, and checks every packet.
    fn prime(&mut self) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.primed, true)
            || !matches!(self.options.traffic, Kind::Udp | Kind::Tcp | Kind::Fragments)
        {
            return Ok(());
        }
        let flows = self.options.scene.flows;
        let sequence = self.engine.set_sequence(Sequence::new(flows, Pattern::Sequential));
        let settings = self.engine.settings;
        self.engine.settings.check_mask = 0;
        self.engine.settings.latency_mask = NEVER;
        let rate = self.options.prime_rate;
        let seconds = f64::from(flows) / rate + 0.01;
        for round in 0..3 {
            if self.options.traffic == Kind::Tcp {
                self.engine.set_flags(if round == 0 { flag::SYN } else { flag::ACK });
            }
            let sent = self.engine.requests();
            let mut offer = Offer { streams: self.rate(Some(rate)), ..Offer::default() };
            // On a machine that is busy with other things it takes longer, but not for ever.
            for _ in 0..10 {
                self.engine.run(&mut offer, self.cycles(seconds));
                if self.engine.requests() - sent >= flows {
                    break;
                }
            }
            self.engine.drain(self.millis(QUIET_MILLIS));
        }
        self.engine.settings = settings;
        if self.options.traffic == Kind::Tcp {
            self.engine.set_flags(flag::ACK);
        }
        self.engine.set_sequence(sequence);
        let known = self.engine.known_flows();
        let echo = self.options.scene.mode == Mode::Echo;
        ensure!(
            echo || known >= flows as usize / 100 * 99,
            "the device made only {known} of {flows} flows known: {}",
            serde_json::to_string(&self.engine.tally)?
        );
        self.engine.tally = Tally::default();
        Ok(())
    }

    // --- measuring -------------------------------------------------------------------------------------------------

    fn window(&mut self, offer: &mut Offer, seconds: f64) -> Window {
        let watch = self.outside.as_ref().map(|outside| outside.watch);
        let threads = watch.map(Watch::threads);
        let (own, stolen, before) = (CpuTime::own(), device::stolen(), self.engine.tally);
        self.engine.begin();
        let took = self.engine.run(offer, self.cycles(seconds)) as f64 / self.hertz as f64;
        let tally = self.engine.tally - before;
        let share = |time: CpuTime| time.waited as f64 / 1e9 / took;
        let generator = share(CpuTime::own().since(own));
        let device = watch.zip(threads).and_then(|(watch, before)| watch.busiest_since(&before)).map(share);
        let stolen = (device::stolen() - stolen) as f64 / 100.0 / took;
        Window {
            seconds: took,
            packets_per_second: tally.received() as f64 / took,
            disturbances: self.engine.disturbances,
            longest_pause_micros: self.engine.longest_pause as f64 * 1e6 / self.hertz as f64,
            generator_waited_ratio: generator,
            device_waited_ratio: device,
            disturbed: generator > WAITED || device.is_some_and(|share| share > WAITED) || stolen > WAITED,
            tally,
        }
    }

    /// The device's own account of how busy it is under this offer: the ratio, and packets a second meanwhile.
    fn observe(&mut self, offer: &mut Offer) -> Option<(f64, f64)> {
        self.outside.as_ref()?.ask.send(()).ok()?;
        // The ratio covers about a second; the question comes after it.
        let before = self.engine.tally;
        let took = self.engine.run(offer, self.cycles(1.6)) as f64 / self.hertz as f64;
        let rate = (self.engine.tally - before).received() as f64 / took;
        let answer = self.outside.as_ref()?.busy_ratio.recv_timeout(std::time::Duration::from_secs(3));
        answer.ok().flatten().map(|ratio| (ratio, rate))
    }

    /// All that was sent and received, once nothing is on its way.
    fn totals(&mut self) -> Value {
        self.engine.drain(self.millis(QUIET_MILLIS));
        self.engine.end_talks();
        let tally = self.engine.tally;
        let mut totals = json!(tally);
        totals["lost_packets"] = json!(tally.lost());
        totals["loss_ratio"] = json!(tally.lost() as f64 / tally.sent().max(1) as f64);
        totals["wrong_packets"] = json!(tally.faults.total());
        totals
    }

    fn throughput(&mut self) -> anyhow::Result<Value> {
        self.prime()?;
        let mut offer = self.offer(self.options.rate);
        self.engine.settings.latency_mask = NEVER;
        // The first moments fill rings and caches.
        self.engine.run(&mut offer, self.cycles(0.2));
        let seconds = self.options.seconds / f64::from(self.options.windows);
        let windows: Vec<Window> =
            (0..self.options.windows).map(|_| self.window(&mut offer, seconds)).collect();
        let observed = self.observe(&mut offer);
        let good: Vec<&Window> = windows.iter().filter(|window| !window.disturbed).collect();
        let rates: Vec<f64> = good.iter().map(|window| window.packets_per_second).collect();
        let conversations: Vec<f64> =
            good.iter().map(|window| window.tally.conversations_completed as f64 / window.seconds).collect();
        let mut report = json!({
            "packets_per_second": median(&rates),
            "states": states(&rates),
            "windows": windows,
            "windows_discarded": windows.len() - good.len(),
            "totals": self.totals(),
        });
        if self.options.traffic == Kind::Conversations {
            report["conversations_per_second"] = json!(median(&conversations));
        }
        if let Some((ratio, rate)) = observed {
            report["device_busy_ratio"] = json!(ratio);
            report["device_cycles_per_packet"] = json!(ratio * self.hertz as f64 / rate);
        }
        Ok(report)
    }

    /// One trial at a rate: loss, and whether it was disturbed.
    fn trial(&mut self, rate: f64, seconds: f64) -> (Window, u64) {
        let mut offer = self.offer(Some(rate));
        let before = self.engine.tally;
        let window = self.window(&mut offer, seconds);
        self.engine.drain(self.millis(QUIET_MILLIS));
        self.engine.end_talks();
        let tally = self.engine.tally - before;
        (window, tally.lost() + tally.refused())
    }

    /// The highest rate at which no more than the allowed share is lost.
    fn find(&mut self) -> anyhow::Result<(f64, Vec<Value>)> {
        self.prime()?;
        self.engine.settings.latency_mask = NEVER;
        let mut offer = self.offer(None);
        self.engine.run(&mut offer, self.cycles(0.2));
        let highest = self.window(&mut offer, 0.3).packets_per_second;
        self.engine.drain(self.millis(QUIET_MILLIS));
        ensure!(highest > 0.0, "nothing comes back");
        let mut search = Search::new(highest * 1.1, self.options.resolution);
        let mut trials = Vec::new();
        while let Some(rate) = search.next() {
            let mut passed = false;
            for _ in 0..REPEATS {
                let (window, lost) = self.trial(rate, self.options.trial_seconds);
                let offered = window.tally.sent() + window.tally.refused();
                // A generator that does not keep up has not tried this rate.
                let kept_up = offered as f64 >= rate * window.seconds * 0.99;
                let loss = lost as f64 / offered.max(1) as f64;
                passed = loss <= self.options.loss && kept_up;
                let paused = window.disturbed || window.disturbances > 0;
                trials.push(json!({
                    "packets_per_second": rate, "offered_packets": offered, "lost_packets": lost, "passed": passed,
                    "kept_up": kept_up, "disturbed": paused, "longest_pause_micros": window.longest_pause_micros,
                }));
                if passed || !paused {
                    break;
                }
            }
            search.tell(rate, passed);
            if rate < highest / 1000.0 {
                break;
            }
        }
        Ok((search.found(), trials))
    }

    fn search(&mut self) -> anyhow::Result<Value> {
        let (found, trials) = self.find()?;
        Ok(json!({
            "loss_free_packets_per_second": found,
            "loss_allowed_ratio": self.options.loss,
            "trial_seconds": self.options.trial_seconds,
            "trials": trials,
            "totals": self.totals(),
        }))
    }

    fn latency(&mut self) -> anyhow::Result<Value> {
        let (base, trials) = match self.options.rate {
            Some(rate) => {
                self.prime()?;
                (rate, Vec::new())
            }
            None => self.find()?,
        };
        ensure!(base > 0.0, "there is no rate without loss to take shares of; allow some with --loss");
        let mut points = Vec::new();
        for share in [0.1, 0.5, 0.9] {
            let mut best: Option<(Window, u64, Histogram<u64>)> = None;
            for _ in 0..REPEATS {
                self.engine.settings.latency_mask = self.options.latency_mask();
                let (window, lost) = self.trial(base * share, self.options.seconds);
                let quieter = best.as_ref().is_none_or(|(other, ..)| {
                    (window.disturbances, window.longest_pause_micros as u64)
                        < (other.disturbances, other.longest_pause_micros as u64)
                });
                let calm = !window.disturbed && window.disturbances == 0;
                if quieter {
                    best = Some((window, lost, self.engine.latency.clone()));
                }
                if calm {
                    break;
                }
            }
            let (window, lost, histogram) = best.context("a trial was made")?;
            let nanos = |cycles: u64| cycles as f64 * 1e9 / self.hertz as f64;
            let at = |quantile| nanos(histogram.value_at_quantile(quantile));
            points.push(json!({
                "share": share, "offered_packets_per_second": base * share,
                "packets_per_second": window.packets_per_second, "lost_packets": lost,
                "samples": histogram.len(), "min_ns": nanos(histogram.min()), "p50_ns": at(0.5), "p90_ns": at(0.9),
                "p99_ns": at(0.99), "p999_ns": at(0.999), "max_ns": nanos(histogram.max()),
                "mean_ns": histogram.mean() * 1e9 / self.hertz as f64, "window": window,
            }));
        }
        Ok(json!({
            "base_packets_per_second": base, "points": points, "trials": trials, "totals": self.totals(),
        }))
    }

    /// Every packet checked; what is wrong or lost is an error for the caller to see.
    fn verify(&mut self) -> anyhow::Result<Value> {
        self.prime()?;
        self.engine.settings.check_mask = 0;
        self.engine.settings.latency_mask = NEVER;
        let mut offer = self.offer(self.options.rate);
        let window = self.window(&mut offer, self.options.seconds);
        let totals = self.totals();
        let tally = self.engine.tally;
        let clean = tally.faults.total() == 0
            && tally.duplicated_packets == 0
            && tally.lost() == 0
            && tally.received() > 0
            && tally.checked_packets >= tally.received()
            && tally.conversations_completed == tally.conversations_started;
        Ok(json!({
            "verified": clean, "packets_per_second": window.packets_per_second, "totals": totals,
            "flows_known": self.engine.known_flows(),
        }))
    }

    /// Established flows at a steady rate, with a flood of SYNs from random sources on top of it in the middle.
    fn flood(&mut self) -> anyhow::Result<Value> {
        self.prime()?;
        self.engine.settings.latency_mask = NEVER;
        let mut offer = self.offer(None);
        self.engine.run(&mut offer, self.cycles(0.2));
        let highest = self.window(&mut offer, 1.0).packets_per_second;
        self.engine.drain(self.millis(QUIET_MILLIS));
        let rate = self.options.rate.unwrap_or(highest * self.options.flood_base);

        let memory = |session: &Self| session.outside.as_ref().and_then(|outside| outside.watch.memory());
        let before = self.phase(rate, Rate::None, 2.0);
        let flood = Rate::Max;
        // Fills the table first; what counts begins when it is full.
        let filling = self.phase(rate, flood.clone(), 3.0_f64.min(self.options.seconds));
        let memory_before = memory(self);
        let during = self.phase(rate, flood, self.options.seconds);
        let memory_after = memory(self);
        let (recovery_millis, recovered) = self.recovery(rate);
        let after = self.phase(rate, Rate::None, 2.0);

        let per_second = |tally: &Tally, seconds: f64| tally.streams_received() as f64 / seconds;
        let phase = |(tally, seconds): &(Tally, f64)| {
            let lost = tally.streams_sent().saturating_sub(tally.streams_received());
            json!({
                "seconds": seconds,
                "established_packets_per_second": per_second(tally, *seconds),
                "established_sent_packets": tally.streams_sent(),
                "established_lost_packets": lost,
                "established_loss_ratio": lost as f64 / tally.streams_sent().max(1) as f64,
                "established_refused_packets": tally.requests_refused_packets + tally.replies_refused_packets,
                "flood_packets_per_second": tally.floods_received_packets as f64 / seconds,
                "flood_offered_packets_per_second":
                    (tally.floods_sent_packets + tally.floods_refused_packets) as f64 / seconds,
                "flood_lost_packets": tally.floods_sent_packets.saturating_sub(tally.floods_received_packets),
            })
        };
        Ok(json!({
            "highest_packets_per_second": highest,
            "established_rate_packets_per_second": rate,
            "before": phase(&before), "filling": phase(&filling), "during": phase(&during), "after": phase(&after),
            "established_rate_ratio": per_second(&during.0, during.1) / per_second(&before.0, before.1).max(1.0),
            "recovery_millis": recovery_millis, "recovered": recovered,
            "device_memory_before_bytes": memory_before, "device_memory_after_bytes": memory_after,
            "totals": self.totals(),
        }))
    }

    /// Established flows at `rate` with a flood beside them; drained afterwards, so that what is missing is lost.
    fn phase(&mut self, rate: f64, floods: Rate, seconds: f64) -> (Tally, f64) {
        let mut offer = self.offer(Some(rate));
        offer.floods = floods;
        let before = self.engine.tally;
        let took = self.engine.run(&mut offer, self.cycles(seconds)) as f64 / self.hertz as f64;
        self.engine.drain(self.millis(QUIET_MILLIS));
        (self.engine.tally - before, took)
    }

    /// Milliseconds until established flows come back at the rate that they are sent, looking every 10.
    fn recovery(&mut self, rate: f64) -> (u64, bool) {
        let mut offer = self.offer(Some(rate));
        for step in 1..=200 {
            let before = self.engine.tally;
            self.engine.run(&mut offer, self.millis(10));
            let tally = self.engine.tally - before;
            if tally.streams_received() as f64 >= tally.streams_sent() as f64 * 0.98
                && tally.streams_sent() > 0
            {
                return (step * 10, true);
            }
        }
        (2000, false)
    }
}
