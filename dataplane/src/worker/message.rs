//! How a worker hears from others: rings with one writer and one reader each.

use super::doze::Bell;
use super::host::{self, HostEnd, KernelEnd};
use super::listing::{Job, Listing};
use crate::conn::Tick;
use crate::io::{BURST, Burst};
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
/// Packets that fit into all hand-off rings to one worker, and into one of them at most and at least.
const HANDOFF_ROOM: usize = 8192;
const HANDOFF_MOST: usize = 2048;
const HANDOFF_LEAST: usize = 256;

/// The control thread's end of the channel to one worker.
#[derive(Debug)]
pub struct ControlEnd {
    commands: rtrb::Producer<Command>,
    events: rtrb::Consumer<Event>,
    probes: rtrb::Producer<Probe>,
    answers: rtrb::Consumer<Probe>,
    host: KernelEnd,
    bell: Bell,
    control: Bell,
}

impl ControlEnd {
    /// Sends a command; given back if the worker has not kept up.
    #[allow(clippy::result_large_err, reason = "moved into a ring by value, as large as its largest frame")]
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        self.commands.push(command).map_err(|rtrb::PushError::Full(command)| command)?;
        self.bell.ring();
        Ok(())
    }

    /// Has a frame of a health check sent; `false`, and it is gone, if the worker has not kept up.
    pub fn send_probe(&mut self, probe: Probe) -> bool {
        let sent = self.probes.push(probe).is_ok();
        self.bell.ring();
        sent
    }

    /// The oldest answer to a health check.
    pub fn receive_answer(&mut self) -> Option<Probe> {
        self.answers.pop().ok()
    }

    /// The oldest frame for the host's kernel into `frame`, and the port that it came by.
    pub fn receive_for_host(&mut self, frame: &mut Vec<u8>) -> Option<PortId> {
        self.host.from_worker.pop(frame)
    }

    /// Whether the worker takes another frame of `len` bytes from the host's kernel.
    pub fn has_room_from_host(&self, len: usize) -> bool {
        self.host.to_worker.has_room(len)
    }

    /// Has a frame of the host's kernel sent; `false`, and it is gone, if the worker has not kept up.
    pub fn send_from_host(&mut self, port: PortId, frame: &[u8]) -> bool {
        let sent = self.host.to_worker.push(port, frame);
        self.bell.ring();
        sent
    }

    /// Commands that can be sent before the ring is full.
    pub fn room(&self) -> usize {
        self.commands.slots()
    }

    /// The oldest event.
    pub fn receive(&mut self) -> Option<Event> {
        self.events.pop().ok()
    }

    /// Whether the worker has said something that was not received yet.
    pub fn has_more(&self) -> bool {
        !self.events.is_empty() || !self.answers.is_empty()
    }

    /// What the worker wakes the control thread with.
    pub fn control_bell(&self) -> &Bell {
        &self.control
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    commands: rtrb::Consumer<Command>,
    events: rtrb::Producer<Event>,
    probes: rtrb::Consumer<Probe>,
    answers: rtrb::Producer<Probe>,
    pub(super) host: HostEnd,
    /// What found the ring full and must not be lost.
    kept: Option<Event>,
    job: Option<Job>,
    bell: Bell,
    /// Wakes the control thread.
    control: Bell,
}

/// A channel between one worker and a control thread that has no other.
pub fn channel() -> (ControlEnd, WorkerEnd) {
    channel_to(&Bell::new())
}

/// A channel between one worker and the control thread, which `control` wakes.
pub fn channel_to(control: &Bell) -> (ControlEnd, WorkerEnd) {
    let (commands_in, commands_out) = rtrb::RingBuffer::new(CONTROL_RING);
    let (events_in, events_out) = rtrb::RingBuffer::new(CONTROL_RING);
    let (probes_in, probes_out) = rtrb::RingBuffer::new(PROBE_RING);
    let (answers_in, answers_out) = rtrb::RingBuffer::new(PROBE_RING);
    let (kernel_end, host_end) = host::ends();
    let bell = Bell::new();
    (
        ControlEnd {
            commands: commands_in,
            events: events_out,
            probes: probes_in,
            answers: answers_out,
            host: kernel_end,
            bell: bell.clone(),
            control: control.clone(),
        },
        WorkerEnd {
            commands: commands_out,
            events: events_in,
            probes: probes_out,
            answers: answers_in,
            host: host_end,
            kept: None,
            job: None,
            bell,
            control: control.clone(),
        },
    )
}

impl WorkerEnd {
    /// What the control thread wakes the worker with.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Whether there is more to do than what the control thread will send.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some() || self.kept.is_some() || self.host.is_busy()
    }

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
        let delivered = self.answers.push(Probe { port, frame }).is_ok();
        self.control.ring();
        delivered
    }

    /// Tells the control thread, if there is room.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        let told = self.events.push(event).is_ok();
        self.control.ring();
        told
    }

    /// Tells the control thread, now or later.
    fn answer(&mut self, event: Event) {
        if let Err(rtrb::PushError::Full(event)) = self.events.push(event) {
            self.kept = Some(event);
        }
        self.control.ring();
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

/// A packet on its way to another worker.
#[derive(Debug)]
struct Handed<P> {
    packet: P,
    port: PortId,
    errand: Errand,
}

/// What a worker does with a packet that another one gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// It came by the port and this worker owns its connection: decide.
    Decide,
    /// All is decided: send it out of the port, on behalf of a worker that has no TX queue there.
    Forward,
    /// Likewise, and it was made here, not received.
    Generated,
}

/// One worker's rings to and from all the others.
#[derive(Debug)]
pub struct Mesh<P> {
    /// By worker; none to itself.
    to: Vec<Option<Outbox<P>>>,
    /// Which of them have something to deliver.
    waiting: Vec<u8>,
    from: Vec<rtrb::Consumer<Handed<P>>>,
    bell: Bell,
}

/// Packets for one other worker: gathered first, so that the ring is touched once a burst.
#[derive(Debug)]
struct Outbox<P> {
    ring: rtrb::Producer<Handed<P>>,
    gathered: ArrayVec<Handed<P>, BURST>,
    bell: Bell,
}

/// Packets that fit into the ring from one worker to another when there are `workers`: all the rings to one worker
/// together hold a bounded number.
pub const fn handoff_ring(workers: usize) -> usize {
    let share = HANDOFF_ROOM / (if workers > 1 { workers - 1 } else { 1 });
    if share > HANDOFF_MOST {
        HANDOFF_MOST
    } else if share < HANDOFF_LEAST {
        HANDOFF_LEAST
    } else {
        share
    }
}

/// Rings between `workers` workers, each with each.
pub fn mesh<P>(workers: usize) -> Vec<Mesh<P>> {
    let empty =
        || Mesh { to: Vec::new(), waiting: Vec::with_capacity(workers), from: Vec::new(), bell: Bell::new() };
    let mut meshes: Vec<Mesh<P>> = (0..workers).map(|_| empty()).collect();
    for from in 0..workers {
        for to in 0..workers {
            let ring = (to != from).then(|| {
                let (producer, consumer) = rtrb::RingBuffer::new(handoff_ring(workers));
                meshes[to].from.push(consumer);
                Outbox { ring: producer, gathered: ArrayVec::new(), bell: meshes[to].bell.clone() }
            });
            meshes[from].to.push(ring);
        }
    }
    meshes
}

impl<P> Mesh<P> {
    /// What other workers wake this one with.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Gathers a packet for another worker; [`Mesh::deliver`] sends it on its way. Returns how many had to be delivered
    /// first and found no room: those, and the packet itself if there is no such worker, are gone.
    #[must_use]
    pub(super) fn give(&mut self, worker: u8, port: PortId, errand: Errand, packet: P) -> Lost {
        let Some(outbox) = self.to.get_mut(usize::from(worker)).and_then(Option::as_mut) else {
            return Lost::default().and(errand);
        };
        if outbox.gathered.is_empty() {
            self.waiting.push(worker);
        }
        let lost = if outbox.gathered.is_full() { outbox.deliver() } else { Lost::default() };
        outbox.gathered.push(Handed { packet, port, errand });
        lost
    }

    /// Delivers what was gathered, with one operation for each ring; what finds no room is gone.
    #[must_use]
    pub(super) fn deliver(&mut self) -> Lost {
        let mut lost = Lost::default();
        for worker in self.waiting.drain(..) {
            if let Some(outbox) = &mut self.to[usize::from(worker)] {
                lost = lost.plus(outbox.deliver());
            }
        }
        lost
    }

    pub(super) fn sources(&self) -> usize {
        self.from.len()
    }

    /// Takes packets that are alike in port and errand, as many as there are in a row, from another worker.
    pub(super) fn take(&mut self, from: usize, burst: &mut Burst<P>) -> Option<(PortId, Errand)> {
        let ring = &mut self.from[from];
        let chunk = ring.read_chunk(ring.slots().min(burst.remaining_capacity())).ok()?;
        let (first, second) = chunk.as_slices();
        let like = first.first().map(|handed| (handed.port, handed.errand))?;
        let alike = |handed: &&Handed<P>| (handed.port, handed.errand) == like;
        let count = first.iter().chain(second).take_while(alike).count();
        burst.extend(chunk.into_iter().take(count).map(|handed| handed.packet));
        Some(like)
    }
}

impl<P> Outbox<P> {
    fn deliver(&mut self) -> Lost {
        let fit = self.gathered.len().min(self.ring.slots());
        if let Ok(chunk) = self.ring.write_chunk_uninit(fit) {
            chunk.fill_from_iter(self.gathered.drain(..fit));
        }
        self.bell.ring();
        self.gathered.drain(..).fold(Lost::default(), |lost, handed| lost.and(handed.errand))
    }
}

/// Packets that found no room, those that were received here and those that were made here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) received: u64,
    pub(super) generated: u64,
}

impl Lost {
    fn and(self, errand: Errand) -> Self {
        match errand {
            Errand::Decide | Errand::Forward => Self { received: self.received + 1, ..self },
            Errand::Generated => Self { generated: self.generated + 1, ..self },
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { received: self.received + other.received, generated: self.generated + other.generated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_in_order_and_in_runs_that_are_alike() {
        let mut meshes = mesh::<u32>(3);
        let none = Lost::default();
        for n in 0..40 {
            assert_eq!(meshes[0].give(2, (n / 20) as PortId, Errand::Decide, n), none);
        }
        assert_eq!(meshes[0].give(2, 1, Errand::Forward, 40), none);
        let mut burst = Burst::new();
        let from_first = 0;
        // More than a burst for one worker is delivered at once.
        assert_eq!(meshes[2].take(from_first, &mut burst), Some((0, Errand::Decide)));
        assert_eq!(burst.drain(..).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        assert_eq!(meshes[0].deliver(), none);
        assert_eq!(meshes[2].take(from_first, &mut burst), Some((1, Errand::Decide)));
        assert_eq!(burst.drain(..).collect::<Vec<_>>(), (20..40).collect::<Vec<_>>());
        assert_eq!(meshes[2].take(from_first, &mut burst), Some((1, Errand::Forward)));
        assert_eq!(burst.drain(..).collect::<Vec<_>>(), [40]);
        assert_eq!(meshes[2].take(from_first, &mut burst), None);
        assert_eq!(meshes[1].take(from_first, &mut burst), None);
    }

    #[test]
    fn what_finds_no_room_is_told() {
        let mut meshes = mesh::<u32>(2);
        let (room, mut lost) = (handoff_ring(2), Lost::default());
        for n in 0..room as u32 + 10 {
            let errand = if n % 2 == 0 { Errand::Generated } else { Errand::Forward };
            lost = lost.plus(meshes[0].give(1, 0, errand, n));
        }
        lost = lost.plus(meshes[0].deliver());
        assert_eq!(lost, Lost { received: 5, generated: 5 });
        assert_eq!(meshes[0].give(0, 0, Errand::Decide, 0), Lost { received: 1, generated: 0 });
        assert_eq!(meshes[0].give(9, 0, Errand::Decide, 0), Lost { received: 1, generated: 0 });
    }

    #[test]
    fn rings_shrink_as_workers_grow_in_number() {
        assert_eq!([1, 2, 5, 9, 64].map(handoff_ring), [2048, 2048, 2048, 1024, 256]);
    }
}
