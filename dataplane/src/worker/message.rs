//! How a worker hears from others: rings with one writer and one reader each.

use super::listing::{Job, Listing};
use crate::conn::Tick;
use crate::io::Burst;
use crate::pipeline::{Notice, Pipeline};
use crate::route::{NextHop, PortId};
use crate::snapshot::Snapshot;
use crate::wire::ethernet::Mac;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// A small frame that the control thread wants sent: ARP, neighbour discovery, a probe.
pub type Frame = ArrayVec<u8, 128>;

/// A frame of a health check on its way out, or of its answer on its way in. As large as a usual Ethernet frame: checks
/// ask for no more.
#[derive(Debug, Clone)]
pub struct Probe {
    pub port: PortId,
    pub frame: ArrayVec<u8, PROBE_FRAME>,
}

/// Largest frame of a health check.
pub const PROBE_FRAME: usize = 1536;

/// From the control thread to a worker.
#[derive(Debug)]
pub enum Command {
    /// Use this snapshot from the next burst on; [`Event::Retired`] gives the one before back.
    Publish(Arc<Snapshot>),
    /// What is known of a next hop; `None`: it does not answer.
    Neighbor { hop: NextHop, mac: Option<Mac> },
    /// Send a frame.
    Transmit { port: PortId, frame: Frame },
    /// List connections; [`Event::Listed`] gives the listing back, filled.
    List(Box<Listing>),
}

/// From a worker to the control thread.
#[derive(Debug)]
pub enum Event {
    Notice(Notice),
    /// A snapshot that the worker uses no more, to be freed.
    Retired(Arc<Snapshot>),
    Listed(Box<Listing>),
}

/// Messages that fit between the control thread and a worker.
const CONTROL_RING: usize = 1024;
/// Frames of health checks that fit between the control thread and a worker, each way.
const PROBE_RING: usize = 512;
/// Packets that fit between two workers.
const HANDOFF_RING: usize = 2048;

/// The control thread's end of the channel to one worker.
#[derive(Debug)]
pub struct ControlEnd {
    commands: rtrb::Producer<Command>,
    events: rtrb::Consumer<Event>,
    probes: rtrb::Producer<Probe>,
    answers: rtrb::Consumer<Probe>,
}

impl ControlEnd {
    /// Sends a command; given back if the worker has not kept up.
    #[allow(clippy::result_large_err, reason = "moved into a ring by value, as large as its largest frame")]
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        self.commands.push(command).map_err(|rtrb::PushError::Full(command)| command)
    }

    /// Has a frame of a health check sent; `false`, and it is gone, if the worker has not kept up.
    pub fn send_probe(&mut self, probe: Probe) -> bool {
        self.probes.push(probe).is_ok()
    }

    /// The oldest answer to a health check.
    pub fn receive_answer(&mut self) -> Option<Probe> {
        self.answers.pop().ok()
    }

    /// Commands that can be sent before the ring is full.
    pub fn room(&self) -> usize {
        self.commands.slots()
    }

    /// The oldest event.
    pub fn receive(&mut self) -> Option<Event> {
        self.events.pop().ok()
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    commands: rtrb::Consumer<Command>,
    events: rtrb::Producer<Event>,
    probes: rtrb::Consumer<Probe>,
    answers: rtrb::Producer<Probe>,
    /// What found the ring full and must not be lost.
    kept: Option<Event>,
    job: Option<Job>,
}

/// A channel between the control thread and one worker.
pub fn channel() -> (ControlEnd, WorkerEnd) {
    let (commands_in, commands_out) = rtrb::RingBuffer::new(CONTROL_RING);
    let (events_in, events_out) = rtrb::RingBuffer::new(CONTROL_RING);
    let (probes_in, probes_out) = rtrb::RingBuffer::new(PROBE_RING);
    let (answers_in, answers_out) = rtrb::RingBuffer::new(PROBE_RING);
    (
        ControlEnd { commands: commands_in, events: events_out, probes: probes_in, answers: answers_out },
        WorkerEnd {
            commands: commands_out,
            events: events_in,
            probes: probes_out,
            answers: answers_in,
            kept: None,
            job: None,
        },
    )
}

impl WorkerEnd {
    /// Whether another command may be taken: not while the answer to an earlier one waits for room.
    pub(super) fn can_take(&mut self) -> bool {
        if let Some(event) = self.kept.take() {
            self.answer(event);
        }
        self.kept.is_none()
    }

    pub(super) fn take(&mut self) -> Option<Command> {
        self.commands.pop().ok()
    }

    /// The oldest frame of a health check that has to be sent.
    pub(super) fn take_probe(&mut self) -> Option<Probe> {
        self.probes.pop().ok()
    }

    /// Gives the control thread a copy of a whole frame; `false` if it is too large, or there is no room.
    pub(super) fn deliver(&mut self, port: PortId, frame: &[u8]) -> bool {
        if self.answers.is_full() {
            return false;
        }
        let Ok(frame) = ArrayVec::try_from(frame) else { return false };
        self.answers.push(Probe { port, frame }).is_ok()
    }

    /// Tells the control thread, if there is room.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        self.events.push(event).is_ok()
    }

    /// Tells the control thread, now or later.
    fn answer(&mut self, event: Event) {
        if let Err(rtrb::PushError::Full(event)) = self.events.push(event) {
            self.kept = Some(event);
        }
    }

    pub(super) fn retire(&mut self, snapshot: Arc<Snapshot>) {
        self.answer(Event::Retired(snapshot));
    }

    pub(super) fn begin_listing(&mut self, listing: Box<Listing>) {
        if let Some(unfinished) = self.job.replace(Job::new(listing)) {
            self.answer(Event::Listed(unfinished.into_listing()));
        }
    }

    /// One slice of the listing under way.
    pub(super) fn list(&mut self, pipeline: &Pipeline, now: Tick) {
        let done = self.job.as_mut().is_some_and(|job| job.slice(pipeline, now)) && self.kept.is_none();
        if done && let Some(job) = self.job.take() {
            self.answer(Event::Listed(job.into_listing()));
        }
    }
}

/// One worker's rings to and from all the others.
#[derive(Debug)]
pub struct Mesh<P> {
    /// By worker; none to itself.
    to: Vec<Option<rtrb::Producer<(PortId, P)>>>,
    from: Vec<rtrb::Consumer<(PortId, P)>>,
}

/// Rings between `workers` workers, each with each.
pub fn mesh<P>(workers: usize) -> Vec<Mesh<P>> {
    let mut meshes: Vec<Mesh<P>> =
        (0..workers).map(|_| Mesh { to: (0..workers).map(|_| None).collect(), from: Vec::new() }).collect();
    for from in 0..workers {
        for to in (0..workers).filter(|&to| to != from) {
            let (producer, consumer) = rtrb::RingBuffer::new(HANDOFF_RING);
            meshes[from].to[to] = Some(producer);
            meshes[to].from.push(consumer);
        }
    }
    meshes
}

impl<P> Mesh<P> {
    /// Gives a packet to its owner; `false`, and the packet is gone, if there is no room.
    pub(super) fn give(&mut self, worker: u8, port: PortId, packet: P) -> bool {
        let ring = self.to.get_mut(usize::from(worker)).and_then(Option::as_mut);
        ring.is_some_and(|ring| ring.push((port, packet)).is_ok())
    }

    pub(super) fn sources(&self) -> usize {
        self.from.len()
    }

    /// Takes packets that came by one port, as many as there are in a row, from another worker.
    pub(super) fn take(&mut self, from: usize, burst: &mut Burst<P>) -> Option<PortId> {
        let ring = &mut self.from[from];
        let port = ring.peek().ok()?.0;
        while !burst.is_full() && ring.peek().is_ok_and(|(next, _)| *next == port) {
            let Ok((_, packet)) = ring.pop() else { break };
            burst.push(packet);
        }
        Some(port)
    }
}
