//! What was sent and what came back.

use super::check::Faults;
use serde::Serialize;
use std::ops::Sub;

/// Counters of the generator. Requests and answers belong to streams of known flows; floods are SYNs that nobody answers;
/// talk is the segments of whole conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) requests_sent_packets: u64,
    pub(crate) requests_received_packets: u64,
    pub(crate) replies_sent_packets: u64,
    pub(crate) replies_received_packets: u64,
    pub(crate) floods_sent_packets: u64,
    pub(crate) floods_received_packets: u64,
    pub(crate) talk_sent_packets: u64,
    pub(crate) talk_received_packets: u64,
    /// Not taken by the link, whose ring was full.
    pub(crate) requests_refused_packets: u64,
    pub(crate) replies_refused_packets: u64,
    pub(crate) floods_refused_packets: u64,
    pub(crate) talk_refused_packets: u64,
    pub(crate) conversations_started: u64,
    pub(crate) conversations_completed: u64,
    /// Given up: not complete in time.
    pub(crate) conversations_expired: u64,
    pub(crate) received_bytes: u64,
    /// Came twice, or much too late.
    pub(crate) duplicated_packets: u64,
    /// Verified down to the checksums.
    pub(crate) checked_packets: u64,
    /// Neither the generator's nor neighbour resolution.
    pub(crate) stranger_packets: u64,
    /// Packets not sent for want of a buffer.
    pub(crate) no_buffer_packets: u64,
    #[serde(rename = "wrong_packets_by_fault")]
    pub(crate) faults: Faults,
}

impl Tally {
    /// Packets that the link took.
    #[inline(always)]
    pub(crate) fn sent(&self) -> u64 {
        self.requests_sent_packets
            + self.replies_sent_packets
            + self.floods_sent_packets
            + self.talk_sent_packets
    }

    /// Test packets that came back: each passed the device once.
    #[inline(always)]
    pub(crate) fn received(&self) -> u64 {
        self.requests_received_packets
            + self.replies_received_packets
            + self.floods_received_packets
            + self.talk_received_packets
    }

    pub(crate) fn refused(&self) -> u64 {
        self.requests_refused_packets
            + self.replies_refused_packets
            + self.floods_refused_packets
            + self.talk_refused_packets
    }

    /// Taken by the link, and never come back; right once nothing is on its way.
    pub(crate) fn lost(&self) -> u64 {
        (self.sent() + self.duplicated_packets).saturating_sub(self.received())
    }

    /// Of the streams alone.
    pub(crate) fn streams_sent(&self) -> u64 {
        self.requests_sent_packets + self.replies_sent_packets
    }

    pub(crate) fn streams_received(&self) -> u64 {
        self.requests_received_packets + self.replies_received_packets
    }
}

macro_rules! difference {
    ($a:expr, $b:expr, $type:ident { $($field:ident),* }) => {
        $type { $($field: $a.$field - $b.$field),* }
    };
}

impl Sub for Faults {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        difference!(
            self,
            before,
            Self { ethernet, address, port, header_checksum, transport_checksum, header, other_backend }
        )
    }
}

impl Sub for Tally {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        difference!(
            self,
            before,
            Self {
                requests_sent_packets,
                requests_received_packets,
                replies_sent_packets,
                replies_received_packets,
                floods_sent_packets,
                floods_received_packets,
                talk_sent_packets,
                talk_received_packets,
                requests_refused_packets,
                replies_refused_packets,
                floods_refused_packets,
                talk_refused_packets,
                conversations_started,
                conversations_completed,
                conversations_expired,
                received_bytes,
                duplicated_packets,
                checked_packets,
                stranger_packets,
                no_buffer_packets,
                faults
            }
        )
    }
}
