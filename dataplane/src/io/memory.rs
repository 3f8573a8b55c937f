//! In-memory ports for tests and benchmarks of the pipeline and the worker.

use super::{Burst, Queue};
use crate::packet::VecPacket;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The far end of a [`MemoryQueue`]: what a test feeds in and takes out.
#[derive(Debug, Clone, Default)]
pub struct Wire(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    to_balancer: VecDeque<VecPacket>,
    from_balancer: VecDeque<VecPacket>,
    /// How many more packets the transmit ring takes; `None`: no limit.
    room: Option<usize>,
}

impl Wire {
    /// Puts a frame where the balancer will receive it.
    pub fn send(&self, frame: &[u8]) {
        self.lines().to_balancer.push_back(VecPacket::new(frame));
    }

    /// Takes the oldest frame that the balancer sent.
    pub fn receive(&self) -> Option<Vec<u8>> {
        use crate::packet::Packet as _;
        self.lines().from_balancer.pop_front().map(|packet| packet.data().to_vec())
    }

    /// Frames that the balancer has not received yet.
    pub fn backlog(&self) -> usize {
        self.lines().to_balancer.len()
    }

    /// Lets the transmit ring take `packets` more, then none; `None` lifts the limit.
    pub fn set_room(&self, packets: Option<usize>) {
        self.lines().room = packets;
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Queue`] whose other end is a [`Wire`].
#[derive(Debug)]
pub struct MemoryQueue {
    wire: Wire,
    receives: bool,
    transmits: bool,
}

impl MemoryQueue {
    /// A queue and its far end.
    pub fn pair() -> (Self, Wire) {
        Self::end(true, true)
    }

    /// A queue that only receives, only transmits, or neither, and its far end.
    pub fn end(receives: bool, transmits: bool) -> (Self, Wire) {
        let wire = Wire::default();
        (Self { wire: wire.clone(), receives, transmits }, wire)
    }
}

impl Queue for MemoryQueue {
    type Packet = VecPacket;

    fn receives(&self) -> bool {
        self.receives
    }

    fn transmits(&self) -> bool {
        self.transmits
    }

    fn receive(&mut self, burst: &mut Burst<VecPacket>) {
        assert!(self.receives, "nobody receives where nothing can arrive");
        let mut lines = self.wire.lines();
        while !burst.is_full() {
            let Some(packet) = lines.to_balancer.pop_front() else { break };
            burst.push(packet);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<VecPacket>) -> usize {
        assert!(self.transmits, "nobody sends where nothing can leave");
        let mut lines = self.wire.lines();
        let taken = burst.len().min(lines.room.unwrap_or(usize::MAX));
        if let Some(room) = &mut lines.room {
            *room -= taken;
        }
        lines.from_balancer.extend(burst.drain(..taken));
        burst.clear();
        taken
    }

    fn allocate(&mut self) -> Option<VecPacket> {
        Some(VecPacket::new(&[]))
    }
}
