//! The worker: receive, decide, transmit, hand off, and a bounded slice of housekeeping.
//!
//! A worker owns everything that it writes: its queues, its pipeline with both connection tables, its counters. It
//! hears from the control thread through one ring and answers through another; other workers give it packets through
//! one ring each. All of these have one writer and one reader, and none of them is ever waited for.

mod doze;
mod hold;
mod host;
mod listing;
mod message;
mod vlan;

pub use doze::Bell;
pub use host::LONGEST_FRAME;
pub use listing::{Filter, FlowRow, Listing};
pub use message::{
    Command, ControlEnd, Event, Frame, Mesh, PROBE_FRAME, Probe, channel, channel_to, handoff_ring, mesh,
};

use crate::conn::Tick;
use crate::counters::WorkerCounters;
use crate::io::{Burst, Queue};
use crate::packet::Packet;
use crate::pipeline::{Arrival, NO_VERDICTS, Notice, Pipeline, Verdicts};
use crate::route::{NextHop, PortId};
use crate::verdict::{DropReason, Verdict};
use hold::Hold;
use message::{Errand, Lost, WorkerEnd};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vlan::Vlans;

/// What tells a worker the time. Read once a loop.
pub trait Clock {
    /// A count that goes up at a constant rate.
    fn cycles(&mut self) -> u64;
    /// How fast, in counts a second.
    fn hertz(&self) -> u64;
}

/// When there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Ask again at once.
    Busy,
    /// After a while without packets, sleep until some come; a little between questions where nothing tells of them.
    Adaptive,
}

/// Loops without a packet after which an adaptive worker begins to sleep.
const IDLE_LOOPS: u32 = 2_000;
/// How long it sleeps between looks where nothing tells of packets: the first may be late by as much.
const NAP: Duration = Duration::from_micros(40);

/// How long packets wait for a next hop, in milliseconds.
const HOLD_TIMEOUT: Tick = 1000;
/// How long fragments wait for the first one of their datagram, in milliseconds.
const FRAGMENT_TIMEOUT: Tick = 2000;
/// Deadlines read in one slice of expiry.
const EXPIRY_SLICE: usize = 1024;
/// Entries of each table looked at in one slice of the search for connections to be reset.
const RESET_SLICE: usize = 2048;
/// Commands and packets from one other worker that are taken in one loop.
const COMMANDS: usize = 64;

/// Answers to health checks that one worker takes in a millisecond, and checks that it sends in one loop.
const ANSWERS: u32 = 64;
const PROBES: usize = 32;

/// Packets on their way out of one port.
struct Outgoing<P> {
    packets: Burst<P>,
    /// Bit `i`: packet `i` was made here, not forwarded.
    generated: u32,
}

/// How what leaves by a port gets there, if not as it is by a queue of this worker's.
#[derive(Debug, Clone, Copy)]
enum Detour {
    /// By way of another worker, which has a TX queue there.
    Worker(u8),
    /// With a tag, by the queue of the port whose device it is on.
    Vlan { device: PortId, vlan: u16 },
}

/// One poll-mode worker, owning its end of every port.
pub struct Worker<Q: Queue> {
    queues: Vec<Q>,
    /// The ports at which packets can arrive here; those of devices with VLANs are in `vlans`.
    arrivals: Vec<PortId>,
    vlans: Vlans<Q::Packet>,
    /// By port.
    detours: Vec<Option<Detour>>,
    outgoing: Vec<Outgoing<Q::Packet>>,
    pipeline: Pipeline,
    counters: Arc<WorkerCounters>,
    /// Packets that wait for a next hop.
    hold: Hold<NextHop, Q::Packet>,
    /// Fragments that wait for the first one of their datagram, with the port that they came by.
    fragments: Hold<u16, (PortId, Q::Packet)>,
    mesh: Mesh<Q::Packet>,
    control: WorkerEnd,
    received: Burst<Q::Packet>,
    verdicts: Verdicts,
    /// Answers to health checks that came in the millisecond `answers_at`.
    answers: u32,
    answers_at: Tick,
    /// Room for one frame of the host's kernel.
    host_frame: Vec<u8>,
    /// Which of the other workers is heard first, modulo their number.
    first_source: usize,
    /// Time of the last housekeeping.
    tidied: Tick,
    /// Entries that expiry owes since then.
    expiry_debt: usize,
    /// Time of the last report of levels and of used neighbours.
    reported: Tick,
    /// Something woke the worker at once, and was perhaps no packet: it naps before it trusts that again.
    woken_in_vain: bool,
}

impl<Q: Queue> std::fmt::Debug for Worker<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

impl<Q: Queue> Worker<Q> {
    /// A worker over its end of each port, in the order of the ports' numbers.
    pub fn new(queues: Vec<Q>, pipeline: Pipeline, mesh: Mesh<Q::Packet>, control: WorkerEnd) -> Self {
        let arrivals: Vec<PortId> =
            (0..).zip(&queues).filter(|(_, queue)| queue.receives()).map(|(port, _)| port).collect();
        let vlans = Vlans::new(arrivals.len());
        let detours = vec![None; queues.len()];
        let outgoing = queues.iter().map(|_| Outgoing { packets: Burst::new(), generated: 0 }).collect();
        let counters = Arc::clone(pipeline.counters());
        Self {
            queues,
            arrivals,
            vlans,
            detours,
            outgoing,
            pipeline,
            counters,
            hold: Hold::new(),
            fragments: Hold::new(),
            mesh,
            control,
            received: Burst::new(),
            verdicts: NO_VERDICTS,
            answers: 0,
            answers_at: 0,
            host_frame: Vec::with_capacity(LONGEST_FRAME),
            first_source: 0,
            tidied: 0,
            expiry_debt: 0,
            reported: 0,
            woken_in_vain: false,
        }
    }

    /// The same, and `sends_for` says by port which worker has a TX queue for what this one sends there: itself, or
    /// another one.
    #[must_use]
    pub fn sending_by(mut self, sends_for: &[u8]) -> Self {
        for ((detour, queue), &worker) in self.detours.iter_mut().zip(&self.queues).zip(sends_for) {
            *detour = (!queue.transmits()).then_some(Detour::Worker(worker));
        }
        self
    }

    /// Works until `stop` is set.
    pub fn run(&mut self, clock: &mut impl Clock, idle: Idle, stop: &AtomicBool) {
        let per_tick = (clock.hertz() / 1000).max(1);
        self.counters.cycles_per_second.set(clock.hertz());
        let begin = clock.cycles();
        let (mut last, mut tick_end, mut now) = (begin, begin + per_tick, 0);
        let mut quiet = 0u32;
        while !stop.load(Ordering::Relaxed) {
            let packets = self.turn(now);
            let mut cycles = clock.cycles();
            if packets > 0 {
                self.counters.busy_cycles.add(cycles - last);
                self.counters.loop_packets.count(packets as u64);
                self.counters.loop_cycles.count(cycles - last);
                quiet = 0;
            } else if idle == Idle::Adaptive {
                quiet = quiet.saturating_add(1);
                if quiet > IDLE_LOOPS {
                    self.rest(now);
                    cycles = clock.cycles();
                }
            }
            if cycles >= tick_end {
                now = ((cycles - begin) / per_tick) as Tick;
                tick_end = begin + ((cycles - begin) / per_tick + 1) * per_tick;
            }
            self.counters.total_cycles.add(cycles - last);
            last = cycles;
        }
    }

    /// Sleeps until there is something to do.
    #[cold]
    #[inline(never)]
    fn rest(&mut self, now: Tick) {
        if self.expiry_debt > 0 || self.control.is_busy() || self.pipeline.is_resetting() {
            return;
        }
        self.counters.sleeps.add(1);
        if std::mem::take(&mut self.woken_in_vain) || !self.can_be_woken() {
            return std::thread::sleep(NAP);
        }
        let bells = [self.control.bell().clone(), self.mesh.bell().clone()];
        bells.iter().for_each(Bell::lie_down);
        // What came after the last look and before the bells told anybody.
        if self.turn(now) == 0 {
            let begun = std::time::Instant::now();
            let told = self.queues.iter().filter_map(Queue::descriptors).flatten().map(AsFd::as_fd);
            let rung = bells.iter().filter_map(Bell::descriptor);
            let mut all = told.chain(rung).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            doze::sleep(&mut all, doze::SLEEP);
            self.woken_in_vain = begun.elapsed() < NAP;
        }
        bells.iter().for_each(Bell::get_up);
    }

    /// Whether everything that can bring work tells a sleeper.
    fn can_be_woken(&self) -> bool {
        let told = |port: PortId| self.queues[usize::from(port)].descriptors().is_some();
        let rung = |bell: &Bell| bell.descriptor().is_some();
        self.arrivals.iter().copied().chain(self.vlans.devices()).all(told)
            && rung(self.control.bell())
            && rung(self.mesh.bell())
    }

    /// One loop at time `now`, in milliseconds: every queue once, every ring once, one slice of housekeeping. Returns
    /// how many packets it saw.
    pub fn turn(&mut self, now: Tick) -> usize {
        let mut packets = 0;
        for n in 0..self.arrivals.len() {
            let port = self.arrivals[n];
            self.queues[usize::from(port)].receive(&mut self.received);
            let count = self.received.len();
            if count > 0 {
                packets += count;
                let bytes: usize = self.received.iter().map(Packet::frame_len).sum();
                self.counters.rx_packets.add(count as u64);
                self.counters.rx_bytes.add(bytes as u64);
                if let Some(counters) = self.counters.ports.get(usize::from(port)) {
                    counters.rx_packets.add(count as u64);
                }
                self.process(Arrival { port, now, handed: false });
            }
        }
        if self.vlans.is_due() {
            packets += self.receive_tagged(now);
        }
        packets += self.take_handed(now);
        if self.pipeline.has_released() {
            packets += self.resume(now);
        }
        packets += self.obey(now);
        self.tidy(now);
        self.flush();
        packets
    }

    /// Decides for the received burst and does what was decided.
    #[inline(always)]
    fn process(&mut self, arrival: Arrival) {
        self.pipeline.process(arrival, &mut self.received, &mut self.verdicts);
        let mut received = std::mem::take(&mut self.received);
        for (packet, verdict) in received.drain(..).zip(self.verdicts) {
            match verdict {
                Verdict::Forward(port) => self.send(port, packet, false),
                Verdict::Answer => {
                    self.counters.consumed.add(1);
                    self.send(arrival.port, packet, true);
                }
                Verdict::Consume => self.counters.consumed.add(1),
                Verdict::Deliver => self.deliver(arrival, &packet),
                Verdict::Punt => self.punt(arrival, &packet, false),
                Verdict::Share => self.punt(arrival, &packet, true),
                Verdict::Drop(reason) => self.counters.dropped(reason),
                Verdict::Refuse(reason) => {
                    self.counters.dropped(reason);
                    self.send(arrival.port, packet, true);
                }
                Verdict::Hold(slot) => {
                    let hop = self.pipeline.hop(slot);
                    if !self.hold.push(hop, arrival.now, packet) {
                        self.counters.dropped(DropReason::NeighborQueueFull);
                    }
                    self.count_held();
                }
                Verdict::Untag => self.untag(arrival.port, packet),
                Verdict::Await(datagram) => self.keep_fragment(datagram, arrival, packet),
                Verdict::HandOff(worker) => self.hand_off(worker, arrival.port, packet),
            }
        }
    }

    /// Gives the control thread a copy of an answer to a health check. Few are let through at once: anybody can send what
    /// looks like one.
    #[cold]
    #[inline(never)]
    fn deliver(&mut self, arrival: Arrival, packet: &Q::Packet) {
        if arrival.now != self.answers_at {
            self.answers_at = arrival.now;
            self.answers = 0;
        }
        self.answers += 1;
        let whole = packet.data().len() == packet.frame_len();
        if whole && self.answers <= ANSWERS && self.control.deliver(arrival.port, packet.data()) {
            self.counters.consumed.add(1);
        } else {
            self.counters.dropped(DropReason::ProbeQueueFull);
        }
    }

    /// Gives the host's kernel a copy of a frame, within the limit of the port. `heard`: it was for the balancer too.
    #[cold]
    #[inline(never)]
    fn punt(&mut self, arrival: Arrival, packet: &Q::Packet, heard: bool) {
        let port = usize::from(arrival.port);
        let rate = self.pipeline.snapshot().ports().get(port).and_then(|port| port.host).unwrap_or(0);
        // Every worker has its share of what the port may give.
        let share = rate.div_ceil(self.mesh.sources() as u32 + 1);
        let whole = packet.data().len() == packet.frame_len();
        let given = whole && self.control.host.give(arrival.port, share, arrival.now, packet.data());
        if let Some(counters) = self.counters.hosts.get(port) {
            (if given { &counters.punted } else { &counters.limited }).add(1);
        }
        match (given, heard) {
            (true, _) => self.counters.punted.add(1),
            (false, true) => self.counters.consumed.add(1),
            (false, false) => self.counters.dropped(DropReason::PuntLimit),
        }
    }

    /// Sends what the host's kernel has to send. Returns how many frames.
    fn send_for_host(&mut self, now: Tick) -> usize {
        let mut frames = 0;
        let mut frame = std::mem::take(&mut self.host_frame);
        for _ in 0..host::SENT_AT_ONCE {
            let Some(port) = self.control.host.take(now, &mut frame) else { break };
            let sent = self.generate(port, &frame);
            if let Some(counters) = self.counters.hosts.get(usize::from(port)) {
                counters.sent.add(sent as u64);
            }
            frames += sent;
        }
        self.host_frame = frame;
        frames
    }

    /// Keeps a fragment until the first one of its datagram has come.
    #[cold]
    #[inline(never)]
    fn keep_fragment(&mut self, datagram: u16, arrival: Arrival, packet: Q::Packet) {
        if !self.fragments.push(datagram, arrival.now, (arrival.port, packet)) {
            self.counters.dropped(DropReason::FragmentQueueFull);
        }
        self.count_held();
    }

    /// Processes fragments whose first ones have come. Returns how many.
    #[cold]
    #[inline(never)]
    fn resume(&mut self, now: Tick) -> usize {
        let mut packets = 0;
        for datagram in self.pipeline.take_released() {
            // Those that have to wait on, under the same number, are not looked at again.
            for _ in 0..self.fragments.len() {
                let Some((port, packet)) = self.fragments.take(&datagram) else { break };
                self.received.push(packet);
                self.process(Arrival { port, now, handed: true });
                packets += 1;
            }
        }
        self.count_held();
        packets
    }

    fn count_held(&self) {
        self.counters.held.set((self.hold.len() + self.fragments.len()) as u64);
    }

    /// Puts a packet with the others that leave by `port`.
    #[inline(always)]
    fn send(&mut self, port: PortId, packet: Q::Packet, generated: bool) {
        let Some(outgoing) = self.outgoing.get_mut(usize::from(port)) else {
            self.counters.dropped(DropReason::NoRoute);
            return;
        };
        outgoing.generated |= u32::from(generated) << outgoing.packets.len();
        outgoing.packets.push(packet);
        if outgoing.packets.is_full() {
            self.transmit(usize::from(port));
        }
    }

    /// Puts a packet with the others for `worker`, which owns its connection.
    fn hand_off(&mut self, worker: u8, port: PortId, packet: Q::Packet) {
        self.counters.handoffs.add(1);
        if let Some(counters) = self.counters.ports.get(usize::from(port)) {
            counters.handoffs.add(1);
        }
        let lost = self.mesh.give(worker, port, Errand::Decide, packet);
        self.count_lost(lost);
    }

    /// Packets for other workers whose rings were full. Those that were made here were not counted yet.
    fn count_lost(&self, lost: Lost) {
        if lost.received > 0 {
            self.counters.drops[DropReason::HandoffFull as usize].add(lost.received);
        }
    }

    fn flush(&mut self) {
        for port in 0..self.outgoing.len() {
            if !self.outgoing[port].packets.is_empty() {
                self.transmit(port);
            }
        }
        let lost = self.mesh.deliver();
        self.count_lost(lost);
    }

    fn transmit(&mut self, port: usize) {
        match self.detours[port] {
            None => _ = self.transmit_by(port, port),
            Some(Detour::Worker(worker)) => self.relay(port, worker),
            Some(Detour::Vlan { device, vlan }) => self.transmit_tagged(port, device, vlan),
        }
    }

    /// Sends what is on its way out of `port` by the queue of `device`. Returns how many packets that took, and their bytes.
    #[inline(always)]
    fn transmit_by(&mut self, port: usize, device: usize) -> (usize, usize) {
        let outgoing = &mut self.outgoing[port];
        let count = outgoing.packets.len();
        let lengths: arrayvec::ArrayVec<u32, { crate::io::BURST }> =
            outgoing.packets.iter().map(|packet| packet.frame_len() as u32).collect();
        let generated = std::mem::take(&mut outgoing.generated);
        let sent = self.queues[device].transmit(&mut outgoing.packets);
        let sent_bits = ((1u64 << sent) - 1) as u32;
        let generated_sent = (generated & sent_bits).count_ones() as usize;
        let forwarded_unsent = (count - sent) - (generated & !sent_bits).count_ones() as usize;
        let bytes: u32 = lengths[..sent].iter().sum();
        self.counters.tx_packets.add(sent as u64);
        self.counters.tx_bytes.add(u64::from(bytes));
        self.counters.generated.add(generated_sent as u64);
        self.counters.forwarded.add((sent - generated_sent) as u64);
        if forwarded_unsent > 0 {
            self.counters.drops[DropReason::TxFull as usize].add(forwarded_unsent as u64);
        }
        (sent, bytes as usize)
    }

    /// Gives what is on its way out of `port` to a worker with a TX queue there, which counts it.
    #[cold]
    #[inline(never)]
    fn relay(&mut self, port: usize, worker: u8) {
        let outgoing = &mut self.outgoing[port];
        let mut generated = std::mem::take(&mut outgoing.generated);
        let mut packets = std::mem::take(&mut outgoing.packets);
        self.counters.relayed.add(packets.len() as u64);
        for packet in packets.drain(..) {
            let errand = if generated & 1 == 1 { Errand::Generated } else { Errand::Forward };
            generated >>= 1;
            let lost = self.mesh.give(worker, port as PortId, errand, packet);
            self.count_lost(lost);
        }
    }

    /// Packets that other workers received and this one owns, and those that it sends for them.
    fn take_handed(&mut self, now: Tick) -> usize {
        let mut packets = 0;
        let sources = self.mesh.sources();
        // From another one first each time, so that none of them starves the others.
        self.first_source = self.first_source.wrapping_add(1);
        for n in 0..sources {
            let from = self.first_source.wrapping_add(n) % sources;
            while let Some((port, errand)) = self.mesh.take(from, &mut self.received) {
                let count = self.received.len();
                packets += count;
                if errand == Errand::Decide {
                    self.counters.handoffs_in.add(count as u64);
                    self.process(Arrival { port, now, handed: true });
                } else {
                    for packet in std::mem::take(&mut self.received) {
                        self.send(port, packet, errand == Errand::Generated);
                    }
                }
                if packets > COMMANDS * 4 {
                    return packets;
                }
            }
        }
        packets
    }

    /// What the control thread wants. Returns how many frames it had sent, so that they count as work.
    fn obey(&mut self, now: Tick) -> usize {
        let mut frames = 0;
        for _ in 0..COMMANDS {
            if !self.control.can_take() {
                break;
            }
            match self.control.take() {
                None => break,
                Some(Command::Publish(snapshot)) => {
                    let before = self.pipeline.publish(snapshot);
                    self.control.retire(before);
                }
                Some(Command::Neighbor { hop, mac }) => {
                    if let Some(slot) = self.pipeline.update_neighbor(hop, mac) {
                        self.release(hop, slot);
                    }
                }
                Some(Command::Transmit { port, frame }) => frames += self.generate(port, &frame),
                Some(Command::List(listing)) => self.control.begin_listing(listing),
            }
        }
        for _ in 0..PROBES {
            let Some(probe) = self.control.take_probe() else { break };
            frames += self.generate(probe.port, &probe.frame);
        }
        if self.control.host.is_busy() {
            frames += self.send_for_host(now);
        }
        frames
    }

    /// Sends a frame that the control thread made. Returns how many that were: one, if there was memory for it.
    fn generate(&mut self, port: PortId, frame: &[u8]) -> usize {
        let queue = self.queues.get_mut(usize::from(port));
        let Some(mut packet) = queue.and_then(Queue::allocate) else { return 0 };
        if !packet.set_len(frame.len()) {
            return 0;
        }
        packet.data_mut().copy_from_slice(frame);
        self.send(port, packet, true);
        1
    }

    /// Sends what waited for `hop`, now that its hardware address is known.
    fn release(&mut self, hop: NextHop, slot: crate::neighbor::Slot) {
        while let Some(mut packet) = self.hold.take(&hop) {
            match self.pipeline.address(slot, packet.data_mut()) {
                Some(port) => self.send(port, packet, false),
                None => self.counters.dropped(DropReason::NeighborUnresolved),
            }
        }
        self.count_held();
    }

    /// One slice of everything that has to be done now and then.
    fn tidy(&mut self, now: Tick) {
        for notice in self.pipeline.take_notices() {
            if !self.control.tell(Event::Notice(notice)) {
                self.counters.events_lost.add(1);
                if let Notice::Wanted(hop) = notice {
                    // Nobody will answer: the next packet has to ask again.
                    self.pipeline.ask_again(hop);
                }
            }
        }
        while let Some(segment) = self.pipeline.take_segment() {
            self.generate(segment.port, &segment.frame);
        }
        if now != self.tidied {
            self.pipeline.end_drained(now, RESET_SLICE);
            self.control.list(&self.pipeline, now);
            let elapsed = now.wrapping_sub(self.tidied) as usize;
            self.tidied = now;
            // A whole round of expiry a second, spread evenly.
            let len = self.pipeline.expire_len();
            self.expiry_debt = (self.expiry_debt + len * elapsed / 1000 + 1).min(len);
            while self.hold.pop_older(now, HOLD_TIMEOUT).is_some() {
                self.counters.dropped(DropReason::NeighborUnresolved);
                self.count_held();
            }
            while self.fragments.pop_older(now, FRAGMENT_TIMEOUT).is_some() {
                self.counters.dropped(DropReason::FragmentTimeout);
                self.count_held();
            }
            if now.wrapping_sub(self.reported) >= 1000 {
                self.reported = now;
                self.pipeline.report_used(4096);
            }
            self.pipeline.refresh_levels();
        }
        if self.expiry_debt > 0 {
            let slice = self.expiry_debt.min(EXPIRY_SLICE);
            self.expiry_debt -= slice;
            self.pipeline.expire(now, slice);
        }
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}
