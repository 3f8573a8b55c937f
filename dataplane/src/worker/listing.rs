//! Listing connections: filled in by the worker, a bounded slice a loop, into memory that the control thread made.

use crate::conn::{Entry, State, Tick, Timeouts};
use crate::flow::FlowKey;
use crate::pipeline::{Explanation, Pipeline, Question};
use ctl::config::Prefix;
use std::net::IpAddr;

/// Entries looked at in one slice, of which there is one a millisecond.
const SLICE: usize = 2048;

/// Which connections to list. All that is given must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Slots of backends, sorted.
    pub backends: Option<Box<[u32]>>,
    /// Where the client is.
    pub client: Option<Prefix>,
}

impl Filter {
    fn matches<K: FlowKey>(&self, entry: &Entry<K>) -> bool {
        self.backends.as_ref().is_none_or(|slots| slots.binary_search(&entry.backend).is_ok())
            && self.client.is_none_or(|client| client.contains(entry.keys[0].source().0))
    }
}

/// One connection of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRow {
    /// IP protocol number.
    pub protocol: u8,
    pub client: (IpAddr, u16),
    pub vip: (IpAddr, u16),
    pub backend: (IpAddr, u16),
    /// What the backend sees in place of the client.
    pub local: Option<(IpAddr, u16)>,
    pub backend_slot: u32,
    pub state: State,
    /// Milliseconds since the last packet, and after how many the connection is forgotten.
    pub idle: u32,
    pub timeout: u32,
}

/// A question and its answer.
#[derive(Debug, Default)]
pub struct Listing {
    pub filter: Filter,
    /// Filled up to its capacity.
    pub rows: Vec<FlowRow>,
    /// There are more.
    pub truncated: bool,
    /// Asked in place of all that.
    pub question: Option<Question>,
    pub explanation: Option<Explanation>,
}

impl Listing {
    /// A question for at most `limit` connections.
    pub fn new(filter: Filter, limit: usize) -> Self {
        Self { filter, rows: Vec::with_capacity(limit), ..Self::default() }
    }

    /// Asks what becomes of one packet, and for no connections.
    pub fn explain(question: Question) -> Self {
        Self { question: Some(question), ..Self::default() }
    }

    /// Adds a row; `false` if there is no room.
    fn add<K: FlowKey>(&mut self, entry: &Entry<K>, pipeline: &Pipeline, now: Tick) -> bool {
        if !self.filter.matches(entry) {
            return true;
        }
        if self.rows.len() == self.rows.capacity() {
            self.truncated = true;
            return false;
        }
        let backend = pipeline.snapshot().backend(entry.backend);
        let timeouts = backend.map_or_else(Timeouts::default, |backend| backend.timeouts);
        let [forward, reply] = entry.keys;
        let to = if entry.one_way {
            (backend.map_or(forward.destination().0, |backend| backend.address), forward.destination().1)
        } else {
            reply.source()
        };
        self.rows.push(FlowRow {
            protocol: forward.protocol(),
            client: forward.source(),
            vip: forward.destination(),
            backend: to,
            local: (!entry.one_way && reply.destination() != forward.source()).then(|| reply.destination()),
            backend_slot: entry.backend,
            state: entry.state,
            idle: now.wrapping_sub(entry.last_seen),
            timeout: timeouts.of(entry.state),
        });
        true
    }
}

/// A listing under way.
#[derive(Debug)]
pub(super) struct Job {
    listing: Box<Listing>,
    /// The next entry of each table.
    next_v4: usize,
    next_v6: usize,
}

impl Job {
    pub(super) fn new(listing: Box<Listing>) -> Self {
        Self { listing, next_v4: 0, next_v6: 0 }
    }

    #[allow(clippy::unnecessary_box_returns, reason = "it came in this box, and goes back in it")]
    pub(super) fn into_listing(self) -> Box<Listing> {
        self.listing
    }

    /// Looks at the next entries; `true` when done.
    pub(super) fn slice(&mut self, pipeline: &Pipeline, now: Tick) -> bool {
        let listing = &mut self.listing;
        if let Some(question) = listing.question {
            listing.explanation = Some(pipeline.explain(question, now));
            return true;
        }
        let (v4, v6) = pipeline.listing_len();
        if self.next_v4 < v4 {
            let start = self.next_v4;
            self.next_v4 += SLICE;
            return !pipeline.listing_v4(start..self.next_v4).all(|entry| listing.add(entry, pipeline, now));
        }
        let start = self.next_v6;
        self.next_v6 += SLICE;
        let room = pipeline.listing_v6(start..self.next_v6).all(|entry| listing.add(entry, pipeline, now));
        !room || self.next_v6 >= v6
    }
}
