//! What goes between a worker and the host's kernel: copies of whole frames, in rings of bytes, and never more of them
//! than forwarding can bear.
//!
//! The worker only copies. Whatever the kernel does with a frame happens on the control thread.

use crate::conn::Tick;
use crate::counters::MAX_PORTS;
use crate::route::PortId;

/// Bytes that fit into the ring between a worker and the control thread, each way: 170 full frames of 1500 bytes.
const RING: usize = 256 << 10;
/// In front of each frame: its port, and its length.
const HEAD: usize = 3;
/// Longest frame: what the length can say.
pub const LONGEST_FRAME: usize = u16::MAX as usize;

/// Frames of the kernel's that a worker sends in one loop, and in one millisecond: no more than it forwards meanwhile, and
/// more than any host service needs.
pub(super) const SENT_AT_ONCE: usize = 16;
const SENT: u32 = 64;

/// Frames that the kernel may be given at once: as many as come in this share of a second, and at least so many.
const SHARE_AT_ONCE: u32 = 50;
const LEAST_AT_ONCE: u32 = 64;

/// The writing end of a ring of frames.
#[derive(Debug)]
pub(super) struct FrameWriter(rtrb::Producer<u8>);

/// The reading end.
#[derive(Debug)]
pub(super) struct FrameReader(rtrb::Consumer<u8>);

fn ring() -> (FrameWriter, FrameReader) {
    let (writer, reader) = rtrb::RingBuffer::new(RING);
    (FrameWriter(writer), FrameReader(reader))
}

impl FrameWriter {
    /// Whether a frame of `len` bytes fits.
    pub(super) fn has_room(&self, len: usize) -> bool {
        len <= LONGEST_FRAME && self.0.slots() >= HEAD + len
    }

    /// Copies a frame into the ring; `false`, and nothing of it is there, if it does not fit.
    pub(super) fn push(&mut self, port: PortId, frame: &[u8]) -> bool {
        if !self.has_room(frame.len()) {
            return false;
        }
        let [high, low] = (frame.len() as u16).to_be_bytes();
        // Nobody else writes: there is still room for the second when the first is in.
        self.0.push_entire_slice(&[port, high, low]).is_ok() && self.0.push_entire_slice(frame).is_ok()
    }
}

impl FrameReader {
    /// The oldest frame into `frame`, and its port.
    pub(super) fn pop(&mut self, frame: &mut Vec<u8>) -> Option<PortId> {
        let (port, len) = {
            let head = self.0.read_chunk(HEAD).ok()?;
            let (first, second) = head.as_slices();
            let mut bytes = first.iter().chain(second).copied();
            let mut next = || bytes.next().unwrap_or(0);
            (next(), usize::from(u16::from_be_bytes([next(), next()])))
        };
        // The head is there before the frame.
        if self.0.slots() < HEAD + len {
            return None;
        }
        self.0.read_chunk(HEAD).ok()?.commit_all();
        frame.resize(len, 0);
        self.0.pop_entire_slice(frame).ok()?;
        Some(port)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A token bucket that is filled evenly, however often it is asked.
#[derive(Debug, Clone, Copy, Default)]
struct Limit {
    /// Thousandths of a frame.
    tokens: u64,
    filled: Tick,
    /// Whether it was asked before: a new one is full.
    used: bool,
}

impl Limit {
    /// Whether one more frame may pass at `now`, in milliseconds, of `rate` a second.
    fn take(&mut self, rate: u32, now: Tick) -> bool {
        let full = u64::from((rate / SHARE_AT_ONCE).max(LEAST_AT_ONCE)) * 1000;
        let earned = u64::from(now.wrapping_sub(self.filled)) * u64::from(rate);
        self.tokens = if self.used { (self.tokens + earned).min(full) } else { full };
        (self.filled, self.used) = (now, true);
        let some = self.tokens >= 1000;
        self.tokens -= if some { 1000 } else { 0 };
        some
    }
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct HostEnd {
    to_kernel: FrameWriter,
    from_kernel: FrameReader,
    /// By port.
    limits: Box<[Limit]>,
    /// Frames of the kernel's that were sent in the millisecond `sent_at`.
    sent: u32,
    sent_at: Tick,
}

/// The control thread's end.
#[derive(Debug)]
pub(super) struct KernelEnd {
    pub(super) to_worker: FrameWriter,
    pub(super) from_worker: FrameReader,
}

/// The rings between the control thread and one worker.
pub(super) fn ends() -> (KernelEnd, HostEnd) {
    let ((to_kernel, from_worker), (to_worker, from_kernel)) = (ring(), ring());
    let limits = vec![Limit::default(); MAX_PORTS].into();
    (KernelEnd { to_worker, from_worker }, HostEnd { to_kernel, from_kernel, limits, sent: 0, sent_at: 0 })
}

impl HostEnd {
    /// Copies a frame that came by `port` for the kernel, of `rate` a second at most.
    pub(super) fn give(&mut self, port: PortId, rate: u32, now: Tick, frame: &[u8]) -> bool {
        let allowed = self.limits.get_mut(usize::from(port)).is_some_and(|limit| limit.take(rate, now));
        allowed && self.to_kernel.push(port, frame)
    }

    /// The oldest frame that the kernel sends, unless it sent enough for now.
    pub(super) fn take(&mut self, now: Tick, frame: &mut Vec<u8>) -> Option<PortId> {
        if now != self.sent_at {
            (self.sent, self.sent_at) = (0, now);
        }
        let port = (self.sent < SENT).then(|| self.from_kernel.pop(frame)).flatten()?;
        self.sent += 1;
        Some(port)
    }

    /// Whether a frame of the kernel's waits to be sent.
    pub(super) fn is_busy(&self) -> bool {
        !self.from_kernel.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a queue of frames: what fits comes out as it went in, in order, across the end of the ring.
        #[test]
        fn a_ring_is_a_queue_of_frames(
            steps in proptest::collection::vec((any::<bool>(), any::<u8>(), 0usize..9200), 1..300),
        ) {
            let (mut writer, mut reader) = ring();
            let (mut model, mut bytes, mut frame) = (VecDeque::new(), 0, Vec::new());
            for (write, port, len) in steps {
                if write {
                    let one = vec![port ^ len as u8; len];
                    let fits = bytes + HEAD + len <= RING;
                    prop_assert_eq!(writer.has_room(len), fits);
                    prop_assert_eq!(writer.push(port, &one), fits);
                    if fits {
                        bytes += HEAD + len;
                        model.push_back((port, one));
                    }
                } else {
                    let got = reader.pop(&mut frame).map(|port| (port, frame.clone()));
                    let want = model.pop_front();
                    bytes -= want.as_ref().map_or(0, |(_, one): &(u8, Vec<u8>)| HEAD + one.len());
                    prop_assert_eq!(got, want);
                }
                prop_assert_eq!(reader.is_empty(), model.is_empty());
            }
        }

        /// In no stretch of time more than the rate and what may pass at once; and all of that, if it is asked for.
        #[test]
        fn a_limit_holds_exactly(
            rate in 1u32..100_000, start: Tick, waits in proptest::collection::vec((0u32..50, 0usize..300), 1..60),
        ) {
            let mut limit = Limit::default();
            let at_once = u64::from((rate / SHARE_AT_ONCE).max(LEAST_AT_ONCE));
            let mut now = start;
            let mut passed: Vec<(u64, u64)> = Vec::new();
            let mut elapsed = 0u64;
            for (wait, asked) in waits {
                now = now.wrapping_add(wait);
                elapsed += u64::from(wait);
                let count = (0..asked).filter(|_| limit.take(rate, now)).count() as u64;
                passed.push((elapsed, count));
                for first in 0..passed.len() {
                    let sum: u64 = passed[first..].iter().map(|(_, count)| count).sum();
                    let time = elapsed - passed[first].0;
                    prop_assert!(sum <= at_once + time * u64::from(rate) / 1000, "{sum} in {time} ms");
                }
            }
            // However it was asked before: after a pause it is full again, and then it earns exactly its rate.
            now = now.wrapping_add(at_once as u32 * 1000 / rate + 1);
            prop_assert_eq!((0..=at_once).filter(|_| limit.take(rate, now)).count() as u64, at_once);
            let second = (1..=1000).map(|wait| {
                let now = now.wrapping_add(wait);
                std::iter::repeat_with(|| limit.take(rate, now)).take_while(|taken| *taken).count() as u64
            });
            prop_assert_eq!(second.sum::<u64>(), u64::from(rate));
        }
    }

    #[test]
    fn what_the_kernel_sends_is_bounded() {
        let (mut kernel, mut host) = ends();
        let mut frame = Vec::new();
        for _ in 0..200 {
            assert!(kernel.to_worker.push(3, &[7; 60]));
        }
        let mut sent = |host: &mut HostEnd, now| {
            std::iter::from_fn(|| host.take(now, &mut frame)).inspect(|port| assert_eq!(*port, 3)).count()
        };
        assert_eq!([1, 1, 2, 3, 4, 5].map(|now| sent(&mut host, now)), [64, 0, 64, 64, 8, 0]);
        assert!(!host.is_busy());
    }

    #[test]
    fn each_port_has_a_limit_of_its_own() {
        let (_kernel, mut host) = ends();
        let mut given = |port| (0..100).filter(|_| host.give(port, 100, 5, &[0; 60])).count();
        assert_eq!([given(0), given(0), given(1), given(255)], [64, 0, 64, 0]);
    }
}
