//! Whole TCP conversations, ten packets each, with the generator at both ends.
//!
//! | | from | flags | |
//! | --- | --- | --- | --- |
//! | 1 | client | SYN | |
//! | 2 | backend | SYN, ACK | |
//! | 3, 4 | client | ACK; PSH, ACK | its request |
//! | 5 | backend | PSH, ACK | its answer |
//! | 6, 7 | client | ACK; FIN, ACK | |
//! | 8, 9 | backend | ACK; FIN, ACK | |
//! | 10 | client | ACK | |
//!
//! Neither end keeps a state: each segment that arrives says by its flags and sequence numbers which conversation it belongs
//! to and what comes next. Both initial sequence numbers are the conversation's number shifted by eight, so the low byte
//! counts what was sent. Where answers do not pass the device (direct server return), the client goes on as if they had come.

use super::frame::{PSH, STAMP, Segment};
use super::seen::Seen;
use dataplane::wire::tcp::flag;
use std::collections::VecDeque;

/// Bytes of data in the request and in the answer.
pub(crate) const DATA: usize = STAMP;
/// Packets of a conversation, both directions.
pub(crate) const PACKETS: u64 = 10;
/// Of these, from the client.
pub(crate) const PACKETS_CLIENT: u64 = 6;
/// Bits of a conversation's number that fit a sequence number.
const NUMBERS: u32 = 1 << 24;

const SYN: u8 = flag::SYN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;
const ACK: u8 = flag::ACK;
const PSH_ACK: u8 = PSH | flag::ACK;
const FIN_ACK: u8 = flag::FIN | flag::ACK;

/// A segment to send: with data or without.
pub(crate) type Out = (Segment, bool);

/// What a segment that arrived calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    One(Out),
    Two(Out, Out),
    /// The last segment arrived.
    Complete,
}

/// The conversation of a client's segment, or of a backend's, which acknowledges it.
pub(crate) fn number(segment: Segment, from_client: bool) -> u32 {
    (if from_client { segment.sequence } else { segment.acknowledgment }) >> 8
}

/// The `SYN` of conversation `number`.
pub(crate) fn first(number: u32) -> Segment {
    Segment { flags: SYN, sequence: number << 8, acknowledgment: 0 }
}

fn segment(flags: u8, number: u32, sequence: u32, acknowledgment: u32) -> Segment {
    let isn = number << 8;
    Segment { flags, sequence: isn + sequence, acknowledgment: isn + acknowledgment }
}

const D: u32 = DATA as u32;

/// What the backend does when `arrived` comes from the client.
pub(crate) fn at_backend(arrived: Segment) -> Next {
    let n = number(arrived, true);
    match (arrived.flags, arrived.sequence & 0xff) {
        (SYN, 0) => Next::One((segment(SYN_ACK, n, 0, 1), false)),
        (PSH_ACK, 1) => Next::One((segment(PSH_ACK, n, 1, 1 + D), true)),
        (FIN_ACK, s) if s == 1 + D => {
            let acknowledgment = (segment(ACK, n, 1 + D, 2 + D), false);
            Next::Two(acknowledgment, (segment(FIN_ACK, n, 1 + D, 2 + D), false))
        }
        (ACK, s) if s == 2 + D => Next::Complete,
        _ => Next::Nothing,
    }
}

/// What the client does when `arrived` comes from the backend.
pub(crate) fn at_client(arrived: Segment) -> Next {
    let n = number(arrived, false);
    match arrived.flags {
        SYN_ACK => Next::Two((segment(ACK, n, 1, 1), false), (segment(PSH_ACK, n, 1, 1), true)),
        PSH_ACK => {
            Next::Two((segment(ACK, n, 1 + D, 1 + D), false), (segment(FIN_ACK, n, 1 + D, 1 + D), false))
        }
        FIN_ACK => Next::One((segment(ACK, n, 2 + D, 2 + D), false)),
        _ => Next::Nothing,
    }
}

/// What the client does next, when `arrived` reached a backend whose answers go another way.
pub(crate) fn unheard(arrived: Segment) -> Next {
    match at_backend(arrived) {
        Next::One((answer, _)) | Next::Two(_, (answer, _)) => at_client(answer),
        end => end,
    }
}

/// Which conversations go on.
#[derive(Debug)]
pub(crate) struct Talk {
    next: u32,
    complete: Seen,
    /// First number of each period, oldest first, and when it began.
    periods: VecDeque<(u64, u32)>,
    /// Conversations begun and neither complete nor given up.
    pub(crate) open: u64,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self { next: 0, complete: Seen::new(), periods: VecDeque::from([(0, 0)]), open: 0 }
    }

    /// The number of a new conversation.
    pub(crate) fn begin(&mut self) -> u32 {
        let number = self.next;
        self.complete.sending(number);
        self.next = number.wrapping_add(1);
        self.open += 1;
        number
    }

    /// The conversation whose last segment `arrived` is complete; whether that is new.
    pub(crate) fn end(&mut self, arrived: Segment) -> bool {
        // The youngest number with these low bits.
        let age = self.next.wrapping_sub(number(arrived, true)) % NUMBERS;
        let new = self.complete.first(self.next.wrapping_sub(age));
        // One that was given up may still end: it was counted already.
        self.open = self.open.saturating_sub(u64::from(new));
        new
    }

    /// Gives up the conversations that began more than `patience` cycles before `now`; returns how many. To be called now and
    /// then: a call begins a period, and whole periods are given up.
    pub(crate) fn expire(&mut self, now: u64, patience: u64) -> u64 {
        self.periods.push_back((now, self.next));
        let mut given_up = 0;
        while let [(_, first), (ended, last), ..] = *self.periods.make_contiguous()
            && now.saturating_sub(ended) > patience
        {
            let mut number = first;
            while number != last {
                if self.complete.first(number) {
                    given_up += 1;
                }
                number = number.wrapping_add(1);
            }
            self.periods.pop_front();
        }
        self.open = self.open.saturating_sub(given_up);
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays both ends; returns packets from the client and from the backend, and whether it came to its end.
    fn play(number: u32, replies: bool) -> (u64, u64, bool) {
        let (mut forward, mut back, mut complete) = (0, 0, false);
        let mut way = VecDeque::from([(first(number), true)]);
        while let Some((arrived, from_client)) = way.pop_front() {
            assert_eq!(super::number(arrived, from_client), number);
            *(if from_client { &mut forward } else { &mut back }) += 1;
            let next = match (from_client, replies) {
                (true, true) => at_backend(arrived),
                (true, false) => unheard(arrived),
                (false, _) => at_client(arrived),
            };
            let sender = if replies { !from_client } else { true };
            match next {
                Next::Nothing => {}
                Next::One((a, _)) => way.push_back((a, sender)),
                Next::Two((a, _), (b, _)) => way.extend([(a, sender), (b, sender)]),
                Next::Complete => complete = true,
            }
        }
        (forward, back, complete)
    }

    #[test]
    fn a_conversation_is_ten_packets() {
        for number in [0, 1, NUMBERS - 1] {
            assert_eq!(play(number, true), (PACKETS_CLIENT, PACKETS - PACKETS_CLIENT, true));
            assert_eq!(play(number, false), (PACKETS_CLIENT, 0, true));
        }
    }

    #[test]
    fn what_does_not_end_is_given_up_once() {
        let mut talk = Talk::new();
        for _ in 0..10 {
            talk.begin();
        }
        assert!(talk.end(first(3)) && !talk.end(first(3)));
        assert_eq!((talk.expire(1000, 100), talk.expire(1050, 100), talk.open), (0, 0, 9));
        talk.begin();
        assert_eq!((talk.expire(1200, 100), talk.open), (9, 1), "one had ended, and one has just begun");
        assert_eq!((talk.expire(1300, 100), talk.expire(1301, 100), talk.open), (0, 1, 0));
        assert!(!talk.end(first(0)), "it was given up already");
    }
}
