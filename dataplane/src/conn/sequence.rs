//! Sequence numbers (RFC 9293 section 3.4): whether a segment that would end a connection is from whom it says.
//!
//! Who knows nothing but addresses and ports can forge resets of a client, but has to guess their numbers. An entry has room
//! for one number, [`Entry::expected`]. Where answers pass here, it is the latest acknowledgment of the backend: what it
//! expects of the client next, which no outsider can change. Where they do not, it is the client's own latest number, which
//! only segments near it move on.

use super::{Direction, Entry, Tick};
use crate::flow::FlowKey;
use crate::wire::tcp;

/// How far from the expected number a segment may be, in bytes. What passes here before the backend's acknowledgment of it
/// does is what a sender has on its way between here and the backend, not its whole window: 1 MiB is 1 ms at 8 Gbit/s, and a
/// guess fits once in 2,048. Where it is too little, an entry lives on until it has been idle for long; the receiver gets
/// the segment and decides for itself in any case.
pub const WINDOW: u32 = 1 << 20;

/// After so much silence nothing is on its way any more (acknowledgments are delayed by less than 500 ms, RFC 9293 section
/// 3.8.6.3), in milliseconds.
pub const SETTLED: Tick = 1000;

/// How far ahead a segment may then be: the client's latest may have been one of the longest.
pub const SETTLED_WINDOW: u32 = 1 << 16;

/// Whether `number` is near what is `expected`, after `silence`.
pub fn fits(expected: u32, number: u32, silence: Tick) -> bool {
    let ahead = number.wrapping_sub(expected);
    if silence >= SETTLED { ahead < SETTLED_WINDOW } else { is_near(ahead) }
}

/// Whether a number so far ahead of another, modulo 2^32, is near it, before or behind.
#[inline(always)]
fn is_near(ahead: u32) -> bool {
    ahead.wrapping_add(WINDOW) < 2 * WINDOW
}

impl<K: FlowKey> Entry<K> {
    /// Takes note of the numbers of a TCP segment with the flag ACK that goes through; `l4` is the offset of its header. On
    /// the way of every segment: without branches but for the length.
    #[inline(always)]
    pub fn follow(&mut self, direction: Direction, frame: &[u8], l4: usize) {
        // The sequence number of the client, the acknowledgment of the backend: the two are next to each other.
        const { assert!(tcp::at::ACKNOWLEDGMENT == tcp::at::SEQUENCE + 4) };
        let at = l4 + tcp::at::SEQUENCE + 4 * direction as usize;
        let Some(&number) = frame.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) else { return };
        let number = u32::from_be_bytes(number);
        let near = is_near(number.wrapping_sub(self.expected));
        let counts = direction == Direction::Reply || (self.one_way && near);
        self.expected = if counts { number } else { self.expected };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::V4Key;
    use proptest::prelude::*;

    fn frame(sequence: u32, acknowledgment: u32) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(1, 2, sequence, 0);
        header.ack = true;
        header.acknowledgment_number = acknowledgment;
        let mut frame = vec![0xee; 34];
        header.write(&mut frame).unwrap();
        frame
    }

    proptest! {
        #[test]
        fn only_the_backend_says_what_it_expects(start: u32, sequence: u32, acknowledgment: u32) {
            let mut entry = Entry::<V4Key> { expected: start, ..Entry::default() };
            entry.follow(Direction::Forward, &frame(sequence, acknowledgment), 34);
            prop_assert_eq!(entry.expected, start);
            entry.follow(Direction::Reply, &frame(sequence, acknowledgment), 34);
            prop_assert_eq!(entry.expected, acknowledgment);
        }

        #[test]
        fn a_client_alone_moves_on_by_what_is_near(start: u32, ahead: u32, acknowledgment: u32) {
            let mut entry = Entry::<V4Key> { expected: start, one_way: true, ..Entry::default() };
            let sequence = start.wrapping_add(ahead);
            entry.follow(Direction::Forward, &frame(sequence, acknowledgment), 34);
            let distance = ahead.min(ahead.wrapping_neg());
            if distance < WINDOW {
                prop_assert_eq!(entry.expected, sequence);
            } else if distance > WINDOW {
                prop_assert_eq!(entry.expected, start);
            }
        }

        #[test]
        fn a_sender_always_fits_and_its_number_wraps(start: u32, on_its_way in 0..WINDOW, silence in 0u32..SETTLED) {
            prop_assert!(fits(start, start.wrapping_add(on_its_way), silence));
            prop_assert!(fits(start, start, u32::MAX));
        }

        #[test]
        fn short_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), l4 in 0usize..80, reply: bool) {
            let direction = if reply { Direction::Reply } else { Direction::Forward };
            Entry::<V4Key>::default().follow(direction, &bytes, l4);
        }
    }

    #[test]
    fn guesses_seldom_fit() {
        let fitting = |silence| {
            let step = 4093;
            let tries = u32::MAX / step;
            let hits = (0..tries).filter(|n| fits(0x1234_5678, n * step, silence)).count();
            hits as f64 / f64::from(tries)
        };
        assert!((fitting(0) * 2048.0 - 1.0).abs() < 0.01);
        assert!((fitting(SETTLED) * 65536.0 - 1.0).abs() < 0.1);
    }
}
