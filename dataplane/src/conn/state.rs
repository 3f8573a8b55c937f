//! The life of a connection: which packets move it on, and how long it may be silent in each state.

use crate::wire::tcp::flag;
use std::time::Duration;

/// Which way a packet of a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the service.
    Forward = 0,
    /// From the backend to the client.
    Reply = 1,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// No connection: the entry is unused.
    #[default]
    Free = 0,
    /// A SYN went to the backend.
    SynSent,
    /// The backend answered it.
    SynReceived,
    /// The client acknowledged the backend's SYN, or said so: the backend has yet to show that it agrees.
    Acknowledged,
    /// Taken up in mid-life (after a restart, say) and not yet confirmed by the other side.
    Adopted,
    Established,
    /// The client spoke again after the backend's answer.
    UdpEstablished,
    /// The client closed its half.
    FinClient,
    /// The backend closed its half.
    FinBackend,
    /// Both halves are closed.
    TimeWait,
    /// One side aborted.
    Reset,
    /// Datagrams from the client only.
    UdpNew,
    /// The backend answered, as it does to spoofed sources too.
    UdpReplied,
}

/// A set of states.
#[derive(Debug, Clone, Copy)]
pub struct States(u32);

impl States {
    /// Confirmed by both sides and nothing but data expected: no packet without SYN, FIN and RST changes them.
    pub const STEADY: Self = Self(0).with(State::Established).with(State::UdpEstablished);

    /// These and `state`.
    #[must_use]
    pub const fn with(self, state: State) -> Self {
        Self(self.0 | 1 << state as u32)
    }

    #[inline(always)]
    pub fn contain(self, state: State) -> bool {
        self.0 >> state as u32 & 1 != 0
    }
}

/// What the table may do with an entry when it needs room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    Free = 0,
    /// Not confirmed by both sides: gives way.
    HalfOpen = 1,
    /// Never evicted.
    Established = 2,
    /// Over: gives way.
    Closing = 3,
}

impl State {
    /// The state of a connection that begins with a TCP segment with `flags`.
    pub fn of_first_segment(flags: u8) -> Self {
        if flags & (flag::SYN | flag::ACK) == flag::SYN { Self::SynSent } else { Self::Adopted }
    }

    /// Whether it is one of [`States::STEADY`].
    #[inline(always)]
    pub fn is_steady(self) -> bool {
        States::STEADY.contain(self)
    }

    pub fn class(self) -> Class {
        match self {
            Self::Free => Class::Free,
            Self::SynSent
            | Self::SynReceived
            | Self::Acknowledged
            | Self::Adopted
            | Self::UdpNew
            | Self::UdpReplied => Class::HalfOpen,
            Self::Established | Self::FinClient | Self::FinBackend | Self::UdpEstablished => {
                Class::Established
            }
            Self::TimeWait | Self::Reset => Class::Closing,
        }
    }

    /// The state after a TCP segment with `flags`. `one_way`: replies do not pass here (direct server return), so
    /// what the client sends has to do as evidence.
    #[must_use]
    pub fn after_segment(self, direction: Direction, flags: u8, one_way: bool) -> Self {
        use Direction::{Forward, Reply};
        if flags & flag::RST != 0 {
            return Self::Reset;
        }
        let fin = flags & flag::FIN != 0;
        let (syn, ack) = (flags & flag::SYN != 0, flags & flag::ACK != 0);
        match (self, direction) {
            (Self::SynSent, Reply) if syn && ack => Self::SynReceived,
            // Replies are not seen, so what the client closes is over; what it still sends keeps the entry for a while.
            (Self::SynSent | Self::Adopted | Self::Established, Forward) if one_way && fin => Self::TimeWait,
            (Self::SynSent | Self::Adopted, Forward) if one_way && !syn && ack => Self::Established,
            // Anybody can claim to be the client: only the backend, which checks sequence numbers, can confirm it.
            (Self::SynReceived | Self::Reset, Forward) if !syn && ack && !one_way => Self::Acknowledged,
            (Self::Acknowledged | Self::Adopted, Reply) if !syn && fin => Self::FinBackend,
            (Self::Acknowledged | Self::Adopted, Reply) if !syn => Self::Established,
            // After a reset the client goes on: it did not mean it, or did not send it (RFC 5961 section 1).
            (Self::Reset, Forward) if one_way && !syn && ack => Self::Adopted,
            (Self::Established, Forward) if fin => Self::FinClient,
            (Self::Established, Reply) if fin => Self::FinBackend,
            (Self::FinClient, Reply) | (Self::FinBackend, Forward) if fin => Self::TimeWait,
            (state, _) => state,
        }
    }

    /// The state after a datagram.
    #[must_use]
    #[inline(always)]
    pub fn after_datagram(self, direction: Direction, one_way: bool) -> Self {
        match (self, direction) {
            (Self::UdpNew, Direction::Reply) => Self::UdpReplied,
            (Self::UdpReplied, Direction::Forward) => Self::UdpEstablished,
            (Self::UdpNew, Direction::Forward) if one_way => Self::UdpEstablished,
            (state, _) => state,
        }
    }

    /// Short name for the CLI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Acknowledged => "acknowledged",
            Self::Adopted => "adopted",
            Self::Established => "established",
            Self::FinClient => "fin_client",
            Self::FinBackend => "fin_backend",
            Self::TimeWait => "time_wait",
            Self::Reset => "reset",
            Self::UdpNew => "udp_new",
            Self::UdpReplied => "udp_replied",
            Self::UdpEstablished => "udp_established",
        }
    }
}

/// How long a connection may be silent, in milliseconds, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub half_open: u32,
    pub established: u32,
    pub half_closed: u32,
    pub closing: u32,
    pub udp: u32,
}

impl Default for Timeouts {
    /// RFC 5382 REQ-5: established at least 2 h 4 min, transitory states up to 4 min. RFC 4787 REQ-5: UDP at least
    /// 2 min.
    fn default() -> Self {
        Self {
            half_open: 60_000,
            established: 7_440_000,
            half_closed: 240_000,
            closing: 60_000,
            udp: 120_000,
        }
    }
}

impl Timeouts {
    /// Longest timeout that the table can tell from a past one: its clock has 32 bits of milliseconds.
    pub const MAX: Duration = Duration::from_hours(7 * 24);

    /// The timeout of `state` in milliseconds.
    pub fn of(&self, state: State) -> u32 {
        match state {
            State::Free => 0,
            State::SynSent | State::SynReceived | State::Adopted => self.half_open,
            // A connection may be idle from the first: the backend waits for a request.
            State::Acknowledged | State::Established => self.established,
            State::FinClient | State::FinBackend => self.half_closed,
            State::TimeWait | State::Reset => self.closing,
            State::UdpNew | State::UdpReplied | State::UdpEstablished => self.udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Forward, Reply};
    use super::*;

    const SYN: u8 = flag::SYN;
    const ACK: u8 = flag::ACK;
    const FIN: u8 = flag::FIN | flag::ACK;
    const RST: u8 = flag::RST;

    fn run(one_way: bool, segments: &[(Direction, u8)]) -> Vec<State> {
        let mut state = State::of_first_segment(segments[0].1);
        let mut seen = vec![state];
        for &(direction, flags) in &segments[1..] {
            state = state.after_segment(direction, flags, one_way);
            seen.push(state);
        }
        seen
    }

    #[test]
    fn a_whole_conversation() {
        let seen = run(
            false,
            &[
                (Forward, SYN),
                (Reply, SYN | ACK),
                (Forward, ACK),
                (Reply, ACK),
                (Forward, FIN),
                (Reply, FIN),
                (Forward, ACK),
            ],
        );
        let names: Vec<&str> = seen.into_iter().map(State::name).collect();
        let expected = [
            "syn_sent",
            "syn_received",
            "acknowledged",
            "established",
            "fin_client",
            "time_wait",
            "time_wait",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_client_alone_cannot_confirm_a_connection() {
        let seen = run(false, &[(Forward, SYN), (Forward, ACK), (Forward, ACK), (Forward, FIN)]);
        assert!(seen.iter().all(|state| state.class() == Class::HalfOpen), "{seen:?}");
        let adopted = run(false, &[(Forward, ACK), (Forward, ACK)]);
        assert_eq!(adopted.last(), Some(&State::Adopted));
    }

    #[test]
    fn direct_return_is_confirmed_by_the_acknowledgement() {
        let seen = run(true, &[(Forward, SYN), (Forward, SYN), (Forward, ACK), (Forward, FIN)]);
        assert_eq!(seen, [State::SynSent, State::SynSent, State::Established, State::TimeWait]);
    }

    #[test]
    fn reset_ends_it_in_either_direction() {
        for direction in [Forward, Reply] {
            assert_eq!(State::Established.after_segment(direction, RST, false), State::Reset);
        }
        assert_eq!(State::Reset.class(), Class::Closing);
    }

    #[test]
    fn a_reset_that_nobody_meant_is_survived() {
        // Forged, or not: the client goes on, and the backend answers.
        let after = State::Established.after_segment(Forward, RST, false).after_segment(Forward, ACK, false);
        assert_eq!(after.class(), Class::HalfOpen);
        assert_eq!(after.after_segment(Reply, ACK, false), State::Established);
        // The last segments of the other side do not bring a connection back to life.
        assert_eq!(State::Reset.after_segment(Reply, ACK, false), State::Reset);
    }

    #[test]
    fn datagrams() {
        assert_eq!(State::UdpNew.after_datagram(Forward, false), State::UdpNew);
        // An answer to a spoofed source must not make an entry that cannot be evicted.
        let replied = State::UdpNew.after_datagram(Reply, false);
        assert_eq!(replied.class(), Class::HalfOpen);
        assert_eq!(replied.after_datagram(Forward, false), State::UdpEstablished);
        assert_eq!(State::UdpNew.after_datagram(Forward, true), State::UdpEstablished);
    }
}
