//! Burst in, verdicts out.
//!
//! The stages run over the whole burst, so that memory latency of one packet hides behind work on the others:
//!
//! 1. [`parse`]: headers are validated once, keys built and hashed, buckets prefetched.
//! 2. Look-up: tags are compared, the probable entry is prefetched.
//! 3. [`forward`]: the exact key is compared, the packet rewritten; what misses goes to [`decide`], and what is meant
//!    for the balancer itself to [`local`].
//!
//! No I/O, no clock, no allocation, no lock, no system call. Time is an argument.

mod complain;
mod datagrams;
mod decide;
mod explain;
mod forward;
mod fragment;
mod full_nat;
mod icmp_error;
mod local;
mod mss;
mod parse;
mod punt;
mod refuse;
mod reset;
mod translate;
mod tunnel;

pub use explain::{Connection, Explanation, Fate, Question};

use crate::affinity::Clients;
use crate::conn::{Class, Entry, Table, Tick, Timeouts};
use crate::counters::{MAX_BACKENDS, WorkerCounters};
use crate::flow::{FlowKey, Secret, V4Key, V6Key};
use crate::io::BURST;
use crate::neighbor::{Neighbors, Slot};
use crate::packet::Packet;
use crate::route::{NextHop, PortId};
use crate::scheduler::{Cursor, MaglevParameters};
use crate::snapshot::Snapshot;
use crate::steering::Steering;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet::Mac;
use arrayvec::ArrayVec;
use datagrams::Datagrams;
use full_nat::LocalEnds;
use parse::{MacWord, Other, Parsed, Sorted, Tables};
use reset::Resets;
pub use reset::Segment;
use std::net::IpAddr;
use std::sync::Arc;

/// A verdict for each packet of a burst; those beyond its length mean nothing.
pub type Verdicts = [Verdict; BURST];

/// A burst that has no verdicts yet.
pub const NO_VERDICTS: Verdicts = [Verdict::Consume; BURST];

/// Where and when a burst came from.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub port: PortId,
    pub now: Tick,
    /// Another worker gave it to this one, which has to decide.
    pub handed: bool,
}

/// What a worker tells the control thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Packets wait for this next hop's hardware address.
    Wanted(NextHop),
    /// A neighbour said what its hardware address is. `solicited`: in answer to a question.
    Seen { hop: NextHop, mac: Mac, solicited: bool },
    /// Packets went to this next hop lately.
    Used(NextHop),
    /// Somebody else claims one of the balancer's addresses.
    Conflict { port: PortId, address: IpAddr, mac: Mac },
}

/// Notices kept between two visits of the worker; more are lost and counted, and asked for again later.
const NOTICES: usize = 64;

/// One worker's part in forwarding.
#[derive(Debug)]
pub struct Pipeline {
    v4: Table<V4Key>,
    v6: Table<V6Key>,
    snapshot: Arc<Snapshot>,
    shared: Shared,
}

/// What holds for all packets of a burst.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    port: PortId,
    now: Tick,
    handed: bool,
    snapshot: &'a Snapshot,
}

/// What both families share. Written by the worker alone.
#[derive(Debug)]
struct Shared {
    worker: u8,
    steering: Arc<Steering>,
    /// Counts snapshots and clearings of the neighbour table: an entry of another epoch has to be checked.
    epoch: u32,
    neighbors: Neighbors,
    /// The neighbour table is full: clear it before the next burst.
    start_over: bool,
    counters: Arc<WorkerCounters>,
    /// Where rounds stand, by service number.
    cursors: Box<[Cursor]>,
    /// The next hop that was looked for last, its slot and the epoch: clients mostly share a gateway.
    last_hop: Option<(NextHop, Slot, u32)>,
    /// By backend slot: an epoch, and the neighbour that packets to the backend went to in it.
    backend_hops: Box<[(u32, Slot)]>,
    local_ends: LocalEnds,
    datagrams: Datagrams,
    /// Packets of this burst that take both tables to decide.
    later: ArrayVec<Parsed<V6Key>, BURST>,
    /// What the last translated IPv4 packet was called.
    identification: u16,
    notices: ArrayVec<Notice, NOTICES>,
    /// For answers of our own to what cannot be forwarded.
    errors: complain::Budget,
    /// Boxed: seldom used, and large.
    resets: Box<Resets>,
    macs: ArrayVec<MacWord, 256>,
    maglev: MaglevParameters,
    /// The memory of affinity, of which this worker writes its own part.
    clients: Arc<Clients>,
}

/// A part of the work on a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Headers validated, keys built and hashed, buckets on their way into the cache.
    Parse,
    /// Entries found and compared, packets rewritten; connections made.
    Forward,
}

/// Hears of the end of each stage of a burst.
pub trait Watch {
    fn lap(&mut self, stage: Stage);
}

/// Nobody looks: costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    #[inline(always)]
    fn lap(&mut self, _: Stage) {}
}

/// Most services.
pub const MAX_SERVICES: usize = 16_384;

/// What a pipeline is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This worker's number.
    pub worker: u8,
    /// Which worker owns a connection: the same for all of them.
    pub steering: Arc<Steering>,
    /// Most connections, of each address family.
    pub max_connections: usize,
    /// Use reserved large pages for the tables.
    pub large_pages: bool,
    /// Keys the tables.
    pub secret: Secret,
    pub maglev: MaglevParameters,
    /// The memory of affinity: the same for all workers.
    pub clients: Arc<Clients>,
    pub counters: Arc<WorkerCounters>,
}

impl Pipeline {
    /// A pipeline without services; all its memory is committed.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        let Settings { worker, steering, max_connections, large_pages, secret, maglev, clients, counters } =
            settings;
        let v4 = Table::new(max_connections, secret, large_pages)?;
        let v6 = Table::new(max_connections, secret, large_pages)?;
        let cursor = Cursor::new(worker, steering.workers());
        let pipeline = Self {
            v4,
            v6,
            snapshot: Arc::default(),
            shared: Shared {
                worker,
                steering,
                epoch: 1,
                neighbors: Neighbors::new(secret),
                start_over: false,
                counters,
                cursors: vec![cursor; MAX_SERVICES].into(),
                last_hop: None,
                backend_hops: vec![(0, 0); MAX_BACKENDS].into(),
                local_ends: LocalEnds::new(&secret),
                datagrams: Datagrams::new(secret),
                later: ArrayVec::new(),
                identification: worker.into(),
                notices: ArrayVec::new(),
                errors: complain::Budget::new(),
                resets: Box::new(Resets::new()),
                macs: ArrayVec::new(),
                maglev,
                clients,
            },
        };
        pipeline.refresh_levels();
        Ok(pipeline)
    }

    /// Takes up a new snapshot and returns the one before, for the control thread to free.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let shared = &mut self.shared;
        shared.epoch = shared.epoch.wrapping_add(1);
        shared.neighbors.set_ports(snapshot.ports());
        shared.macs = snapshot.ports().iter().take(256).map(|port| MacWord::new(port.mac)).collect();
        shared.resets.publish(&self.snapshot, &snapshot);
        shared.counters.generation.set(u64::from(snapshot.generation));
        std::mem::replace(&mut self.snapshot, snapshot)
    }

    /// Decides for every packet of a burst, and rewrites those that go on.
    pub fn process<P: Packet>(&mut self, arrival: Arrival, packets: &mut [P], verdicts: &mut Verdicts) {
        self.process_watched(arrival, packets, verdicts, &mut Unwatched);
    }

    /// As [`Pipeline::process`], and `watch` hears of the end of each stage: for benchmarks.
    #[inline(always)]
    pub fn process_watched<P: Packet>(
        &mut self,
        arrival: Arrival,
        packets: &mut [P],
        verdicts: &mut Verdicts,
        watch: &mut impl Watch,
    ) {
        if std::mem::take(&mut self.shared.start_over) {
            // Every connection finds its neighbours again, since the epoch is another.
            self.shared.neighbors.make_room();
            self.shared.epoch = self.shared.epoch.wrapping_add(1);
        }
        let Arrival { port, now, handed } = arrival;
        let context = Context { port, now, handed, snapshot: &self.snapshot };
        let mac = self.shared.macs.get(usize::from(arrival.port)).copied().unwrap_or_default();
        let mut sorted = Sorted::default();
        for packet in packets.iter() {
            packet.prefetch();
        }
        for (at, packet) in packets.iter().enumerate().take(BURST) {
            parse::parse(packet, at, mac, Tables { v4: &self.v4, v6: &self.v6 }, &mut sorted);
        }
        watch.lap(Stage::Parse);
        forward::burst(&mut self.v4, &mut self.shared, context, &sorted.v4, packets, verdicts);
        forward::burst(&mut self.v6, &mut self.shared, context, &sorted.v6, packets, verdicts);
        if !self.shared.later.is_empty() {
            translate::settle(&mut self.v4, &mut self.v6, &mut self.shared, context, packets, verdicts);
        }
        watch.lap(Stage::Forward);
        for (at, other) in sorted.others {
            let at = usize::from(at);
            let (shared, packet) = (&mut self.shared, &mut packets[at]);
            verdicts[at] = match other {
                Other::IcmpError { l4, len } => {
                    let tables = Tables { v4: &self.v4, v6: &self.v6 };
                    icmp_error::receive(tables, shared, context, (l4.into(), len.into()), packet)
                }
                Other::Fragment => fragment::receive(&mut self.v4, &mut self.v6, shared, context, packet),
                _ => local::receive(shared, context, other, packet),
            };
        }
    }

    /// One slice of expiry: reads at most `budget` entries of each table. Returns whether the IPv4 table's end was
    /// reached.
    pub fn expire(&mut self, now: Tick, budget: usize) -> bool {
        let (snapshot, counters) = (&self.snapshot, &self.shared.counters);
        let timeouts =
            |slot| snapshot.backend(slot).map_or_else(Timeouts::default, |backend| backend.timeouts);
        let ended = self.v4.sweep(now, budget, timeouts, |entry| forget(counters, entry));
        self.v6.sweep(now, budget, timeouts, |entry| forget(counters, entry));
        ended
    }

    /// Entries that a whole round of [`Pipeline::expire`] reads, in the larger table.
    pub fn expire_len(&self) -> usize {
        self.v4.sweep_len().max(self.v6.sweep_len())
    }

    /// Whether connections are being reset, a slice at a time.
    pub fn is_resetting(&self) -> bool {
        self.shared.resets.is_busy()
    }

    /// Brings the counters that are levels up to date.
    pub fn refresh_levels(&self) {
        let counters = &self.shared.counters;
        let (v4, v6) = (self.v4.index_stats(), self.v6.index_stats());
        counters.connections_active.set((self.v4.len() + self.v6.len()) as u64);
        counters.index_slots.set(v4.slots + v6.slots);
        counters.index_keys.set(v4.keys + v6.keys);
        counters.index_displaced.set(v4.displaced + v6.displaced);
        counters.table_bytes.set((self.v4.bytes() + self.v6.bytes()) as u64);
    }

    /// What the control thread says about a next hop. Returns its slot if its hardware address is now known.
    pub fn update_neighbor(&mut self, hop: NextHop, mac: Option<Mac>) -> Option<Slot> {
        let slot = self.shared.neighbors.update(hop, mac)?;
        self.shared.neighbors.get(slot).resolved.then_some(slot)
    }

    /// The control thread did not hear that `hop` is wanted: it is told again with the next packet.
    pub fn ask_again(&mut self, hop: NextHop) {
        self.shared.neighbors.ask_again(hop);
    }

    /// Addresses a frame to the neighbour in `slot` and says which port it leaves by; `None` if it must wait on.
    /// Slots are those of the last burst, or of [`Pipeline::update_neighbor`].
    pub fn address(&mut self, slot: Slot, frame: &mut [u8]) -> Option<PortId> {
        self.shared.neighbors.address(slot, frame)
    }

    /// The next hop that a [`Verdict::Hold`] of the last burst names.
    pub fn hop(&self, slot: Slot) -> NextHop {
        self.shared.neighbors.get(slot).hop
    }

    /// Notices for the control thread since the last call.
    pub fn take_notices(&mut self) -> ArrayVec<Notice, NOTICES> {
        std::mem::take(&mut self.shared.notices)
    }

    /// Whether the first fragments of datagrams have come that others wait for ([`Verdict::Await`]).
    #[inline(always)]
    pub fn has_released(&self) -> bool {
        self.shared.datagrams.has_released()
    }

    /// The numbers of those datagrams: what waits for them has to be processed once more.
    pub fn take_released(&mut self) -> ArrayVec<u16, BURST> {
        self.shared.datagrams.take_released()
    }

    /// Adds notices about neighbours that were used, looking at no more than `budget`.
    pub fn report_used(&mut self, budget: usize) {
        while !self.shared.notices.is_full() {
            let Some(hop) = self.shared.neighbors.take_used(budget) else { break };
            self.shared.notices.push(Notice::Used(hop));
        }
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub fn counters(&self) -> &Arc<WorkerCounters> {
        &self.shared.counters
    }

    /// Entry numbers in use at most, by family: the range that [`Pipeline::listing`] covers.
    pub fn listing_len(&self) -> (usize, usize) {
        (self.v4.sweep_len(), self.v6.sweep_len())
    }

    /// The connections among the given entry numbers of the IPv4 table.
    pub fn listing_v4(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &Entry<V4Key>> {
        self.v4.listing(range)
    }

    /// The connections among the given entry numbers of the IPv6 table.
    pub fn listing_v6(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &Entry<V6Key>> {
        self.v6.listing(range)
    }

    /// Connections of both families.
    pub fn connections(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

/// Accounts for a connection that leaves the table.
fn forget<K: FlowKey>(counters: &WorkerCounters, entry: &Entry<K>) {
    if let Some(backend) = counters.backends.get(entry.backend as usize) {
        backend.entries.sub(1);
        if entry.state.class() != Class::Closing {
            backend.connections_active.sub(1);
        }
    }
}

impl Shared {
    /// Tells the control thread, if there is room; it is told again when the matter comes up again.
    fn notify(&mut self, notice: Notice) -> bool {
        let room = self.notices.try_push(notice).is_ok();
        if !room {
            self.counters.events_lost.add(1);
        }
        room
    }

    /// The neighbour slot for packets to `destination`.
    fn neighbor_towards(&mut self, snapshot: &Snapshot, destination: IpAddr) -> Result<Slot, DropReason> {
        let hop = snapshot.next_hop(destination).ok_or(DropReason::NoRoute)?;
        if let Some((last, slot, epoch)) = self.last_hop
            && epoch == self.epoch
            && last == hop
        {
            return Ok(slot);
        }
        if let Some(slot) = self.neighbors.slot(hop) {
            self.last_hop = Some((hop, slot, self.epoch));
            return Ok(slot);
        }
        // Start over, but not in the middle of a burst, whose verdicts may name slots.
        self.start_over = true;
        Err(DropReason::NeighborTableFull)
    }

    /// The neighbour slot for packets to the backend in `slot`, remembered for as long as the epoch lasts.
    fn neighbor_of_backend(
        &mut self,
        snapshot: &Snapshot,
        slot: u32,
        address: IpAddr,
    ) -> Result<Slot, DropReason> {
        match self.backend_hops.get(slot as usize) {
            Some(&(epoch, neighbor)) if epoch == self.epoch => Ok(neighbor),
            _ => {
                let neighbor = self.neighbor_towards(snapshot, address)?;
                if let Some(hop) = self.backend_hops.get_mut(slot as usize) {
                    *hop = (self.epoch, neighbor);
                }
                Ok(neighbor)
            }
        }
    }
}
