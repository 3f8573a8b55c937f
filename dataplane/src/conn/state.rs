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
    /// The client closed its half, and the backend has yet to show that it agrees to the connection.
    FinEarly,
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

/// What a segment shows of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub direction: Direction,
    /// TCP flags.
    pub flags: u8,
    /// Replies do not pass here (direct server return), so what the client sends has to do as evidence.
    pub one_way: bool,
    /// From the client: its sequence number is about what is expected of it. From the backend: its acknowledgment is about
    /// what it was before.
    pub fits: bool,
    /// It comes [`LATE`] after the connection came to be in its state.
    pub late: bool,
}

/// What was on its way arrives sooner than this, in milliseconds.
pub const LATE: u32 = 2000;

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
            | Self::FinEarly
            | Self::UdpNew
            | Self::UdpReplied => Class::HalfOpen,
            Self::Established | Self::FinClient | Self::FinBackend | Self::UdpEstablished => {
                Class::Established
            }
            Self::TimeWait | Self::Reset => Class::Closing,
        }
    }

    /// The state after a TCP segment.
    #[must_use]
    pub fn after_segment(self, seen: Seen) -> Self {
        use Direction::{Forward, Reply};
        let Seen { direction, flags, one_way, fits, late } = seen;
        // Nobody but the backend speaks for it.
        let believed = direction == Reply || fits;
        if flags & flag::RST != 0 {
            return if believed { Self::Reset } else { self };
        }
        let (syn, ack) = (flags & flag::SYN != 0, flags & flag::ACK != 0);
        let fin = flags & flag::FIN != 0 && !syn && believed;
        match (self, direction) {
            // Without ACK where both open at the same time (RFC 9293 section 3.5, figure 7).
            (Self::SynSent, Reply) if syn => Self::SynReceived,
            // Replies are not seen, so what the client closes is over; what it still sends keeps the entry for a while.
            (Self::SynSent | Self::Adopted | Self::Established, Forward) if one_way && fin => Self::TimeWait,
            (Self::SynSent | Self::Adopted, Forward) if one_way && !syn && ack => Self::Established,
            // It was half of it: the client acknowledges what the backend goes on sending.
            (Self::TimeWait, Forward) if one_way && late && !syn && ack && flags & flag::FIN == 0 => {
                Self::FinClient
            }
            // Anybody can claim to be the client: only the backend, which checks sequence numbers, can confirm it.
            (Self::SynReceived | Self::Acknowledged | Self::Adopted, Forward) if fin => Self::FinEarly,
            (Self::SynReceived, Forward) if ack => Self::Acknowledged,
            (Self::FinEarly, Reply) if fin => Self::TimeWait,
            (Self::FinEarly, Reply) if !syn => Self::FinClient,
            (Self::Acknowledged | Self::Adopted, Reply) if fin => Self::FinBackend,
            (Self::Acknowledged | Self::Adopted, Reply) if !syn => Self::Established,
            // The backend accepts another SYN than the one that made the entry: it has forgotten that connection, and the
            // client uses the port again. (A copy of the SYN-ACK that is late acknowledges what is known.)
            (
                Self::Acknowledged
                | Self::Adopted
                | Self::FinEarly
                | Self::Established
                | Self::FinClient
                | Self::FinBackend,
                Reply,
            ) if syn && ack && !fits => Self::SynReceived,
            // After a reset the client goes on: it did not mean it, or did not send it (RFC 5961 section 1).
            (Self::Reset, Forward) if !syn && ack => Self::Adopted,
            // What the backend had sent before it heard of the reset has long arrived: it did not believe it.
            (Self::Reset, Reply) if late && !syn && !fin => Self::Established,
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
            Self::FinEarly => "fin_early",
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
            State::FinEarly | State::FinClient | State::FinBackend => self.half_closed,
            State::TimeWait | State::Reset => self.closing,
            State::UdpNew | State::UdpReplied | State::UdpEstablished => self.udp,
        }
    }
}

#[cfg(test)]
mod tests;
