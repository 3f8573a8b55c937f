//! The control thread's ends of the channels to the workers.

use super::neighbors::Millis;
use crate::counters::WorkerCounters;
use crate::pipeline::Notice;
use crate::route::PortId;
use crate::snapshot::Snapshot;
use crate::worker::{Bell, Command, ControlEnd, Event, Frame, Listing, Probe};
use std::collections::VecDeque;
use std::sync::Arc;

/// Commands kept for a worker that does not keep up; frames beyond are not sent, all else is kept.
const BACKLOG: usize = 4096;
/// Events taken from one worker in one go.
const EVENTS: usize = 1024;
/// Answers to health checks taken from one worker in one go.
const ANSWERS: usize = 512;
/// Frames for the host's kernel taken from one worker in one go.
const PUNTED: usize = 256;
/// Time between two readings of how busy a worker is.
const SAMPLE: Millis = 1000;

/// The channel to one worker, and what it is known by.
#[derive(Debug)]
pub struct Link {
    pub cpu: u16,
    pub counters: Arc<WorkerCounters>,
    control: ControlEnd,
    backlog: VecDeque<Command>,
    /// Listings asked for and answered; answers come in order.
    listings_asked: u64,
    listings_answered: u64,
    listing: Option<Box<Listing>>,
    load: Busy,
    /// Room for one frame of the host's.
    frame: Vec<u8>,
}

/// The last reading of the cycle counters, and what followed from it.
#[derive(Debug, Default)]
struct Busy {
    at: Millis,
    spent: u64,
    total: u64,
    ratio: f64,
    /// Whether no time went by in the worker's own account since the reading before.
    stalled: bool,
    /// Whether that was said.
    said: bool,
}

impl Link {
    pub fn new(cpu: u16, counters: Arc<WorkerCounters>, control: ControlEnd) -> Self {
        Self {
            cpu,
            counters,
            control,
            backlog: VecDeque::new(),
            listings_asked: 0,
            listings_answered: 0,
            listing: None,
            load: Busy::default(),
            frame: Vec::new(),
        }
    }

    /// Sends a command, now or once there is room.
    fn send(&mut self, command: Command) {
        if self.backlog.is_empty() {
            if let Err(command) = self.control.send(command) {
                self.backlog.push_back(command);
            }
        } else if self.backlog.len() < BACKLOG
            || !matches!(command, Command::Transmit { .. } | Command::Neighbor { mac: None, .. })
        {
            self.backlog.push_back(command);
        }
    }

    fn flush(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            if let Err(command) = self.control.send(command) {
                self.backlog.push_front(command);
                break;
            }
        }
    }

    /// The share of time spent on packets in the last second or so.
    pub fn busy_ratio(&self) -> f64 {
        self.load.ratio
    }

    fn sample(&mut self, now: Millis) {
        if now.saturating_sub(self.load.at) < SAMPLE {
            return;
        }
        let (busy, total) = (self.counters.busy_cycles.get(), self.counters.total_cycles.get());
        let passed = total.wrapping_sub(self.load.total);
        let share = busy.wrapping_sub(self.load.spent) as f64 / passed.max(1) as f64;
        // Some do not keep account.
        let stalled = passed == 0 && total > 0;
        let ratio = share.clamp(0.0, 1.0);
        self.load = Busy { at: now, spent: busy, total, ratio, stalled, ..self.load };
    }
}

/// All workers.
#[derive(Debug)]
pub struct Links(Vec<Link>);

impl Links {
    pub fn new(links: Vec<Link>) -> Self {
        Self(links)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Link> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What workers wake the control thread with.
    pub fn bell(&self) -> Bell {
        self.0.first().map(|link| link.control.control_bell().clone()).unwrap_or_default()
    }

    /// Whether some worker has said something that was not heard yet.
    pub fn have_more(&self) -> bool {
        self.0.iter().any(|link| link.control.has_more())
    }

    /// Every worker's counters.
    pub fn counters(&self) -> Vec<Arc<WorkerCounters>> {
        self.0.iter().map(|link| Arc::clone(&link.counters)).collect()
    }

    /// The newest generation that every worker uses.
    pub fn acknowledged(&self) -> u64 {
        self.0.iter().map(|link| link.counters.generation.get()).min().unwrap_or(0)
    }

    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        for link in &mut self.0 {
            link.send(Command::Publish(Arc::clone(snapshot)));
        }
    }

    pub fn neighbor(&mut self, hop: crate::route::NextHop, mac: Option<crate::wire::ethernet::Mac>) {
        for link in &mut self.0 {
            link.send(Command::Neighbor { hop, mac });
        }
    }

    /// Has a frame sent, by the first worker.
    pub fn transmit(&mut self, port: crate::route::PortId, frame: Frame) {
        if let Some(link) = self.0.first_mut() {
            link.send(Command::Transmit { port, frame });
        }
    }

    /// Has a frame of a health check sent, by the first worker; it is lost if that does not keep up.
    pub fn send_probe(&mut self, probe: Probe) -> bool {
        self.0.first_mut().is_some_and(|link| link.control.send_probe(probe))
    }

    /// Passes on the answers to health checks that workers received.
    pub fn answers(&mut self, mut each: impl FnMut(PortId, &[u8])) {
        for link in &mut self.0 {
            for _ in 0..ANSWERS {
                let Some(answer) = link.control.receive_answer() else { break };
                each(answer.port, &answer.frame);
            }
        }
    }

    /// Passes on the frames that workers have for the host's kernel; returns how many there were.
    pub fn for_host(&mut self, mut each: impl FnMut(PortId, &[u8])) -> usize {
        let mut count = 0;
        for Link { control, frame, .. } in &mut self.0 {
            for _ in 0..PUNTED {
                let Some(port) = control.receive_for_host(frame) else { break };
                each(port, frame);
                count += 1;
            }
        }
        count
    }

    /// Whether there is room for another frame of the host's kernel.
    pub fn has_room_from_host(&self, len: usize) -> bool {
        self.0.first().is_some_and(|link| link.control.has_room_from_host(len))
    }

    /// Has a frame of the host's kernel sent, by the first worker: so they leave in order.
    pub fn send_from_host(&mut self, port: PortId, frame: &[u8]) -> bool {
        self.0.first_mut().is_some_and(|link| link.control.send_from_host(port, frame))
    }

    /// Takes what workers have to say, frees snapshots that they use no more, and returns the notices.
    pub fn poll(&mut self, now: Millis, notices: &mut Vec<Notice>) {
        for link in &mut self.0 {
            link.flush();
            link.sample(now);
            for _ in 0..EVENTS {
                match link.control.receive() {
                    None => break,
                    Some(Event::Notice(notice)) => notices.push(notice),
                    Some(Event::Retired(snapshot)) => drop(snapshot),
                    Some(Event::Listed(listing)) => {
                        link.listings_answered += 1;
                        link.listing = Some(listing);
                    }
                }
            }
        }
    }

    /// Workers that stopped coming round since the last question (`true`), or go on again.
    pub fn stalls(&mut self) -> impl Iterator<Item = (u16, bool)> {
        self.0.iter_mut().filter_map(|link| {
            let changed = link.load.said != link.load.stalled;
            link.load.said = link.load.stalled;
            changed.then_some((link.cpu, link.load.stalled))
        })
    }

    /// Asks every worker for connections; [`Links::listed`] has the answers some time later. An earlier question's
    /// answer is lost.
    pub fn ask_listing(&mut self, make: impl Fn() -> Listing) {
        for link in &mut self.0 {
            link.listing = None;
            link.listings_asked += 1;
            link.send(Command::List(Box::new(make())));
        }
    }

    /// The answers, by worker, once all are there.
    pub fn listed(&mut self) -> Option<Vec<Box<Listing>>> {
        let complete = |link: &Link| link.listings_answered == link.listings_asked && link.listing.is_some();
        self.0
            .iter()
            .all(complete)
            .then(|| self.0.iter_mut().filter_map(|link| link.listing.take()).collect())
    }
}

impl<'a> IntoIterator for &'a Links {
    type Item = &'a Link;
    type IntoIter = std::slice::Iter<'a, Link>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
