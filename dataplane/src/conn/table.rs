//! The connection table: entries, their two keys, and when they are over.
//!
//! Three parallel arrays, sized at start: the entries themselves (one cache line each for IPv4, two for IPv6), a
//! deadline word per entry that the sweep reads in order, and the stack of unused entry numbers. A packet touches one
//! line of the index and its entry; the deadline word is written only when a connection changes state, and brought up
//! to date from the entry when it falls due.

use super::index::{Handle, Index, IndexStats};
use super::region::{Region, Zeroed};
use super::state::{Class, Direction, State};
use super::{Tick, Timeouts};
use crate::flow::{FlowKey, Secret, V4Key, V6Key};
use crate::wire::checksum::Delta;

/// A connection. What a packet needs to be forwarded is all here: next to the entry only the neighbour is read.
///
/// IPv4: 64 bytes. IPv6: 128 bytes. With index (26) and deadline and free list (8): 98 and 162 bytes a connection.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Entry<K> {
    /// The flow as packets arrive from the client, and as they arrive from the backend. A packet that matches one
    /// leaves as the reverse of the other.
    pub keys: [K; 2],
    /// When the last packet came.
    pub last_seen: Tick,
    /// Slot of the backend.
    pub backend: u32,
    /// The worker's epoch for which `next_hops` and the backend were last checked.
    pub epoch: u32,
    /// Neighbour slots towards the backend, and towards the client.
    pub next_hops: [u16; 2],
    /// Change of the IPv4 header's checksum on the way to the backend, hop limit included, and on the way back.
    pub header_delta: [Delta; 2],
    /// Change of the transport checksum, likewise.
    pub transport_delta: [Delta; 2],
    /// TCP: about the next sequence number of the client, as [`Entry::follow`] has it.
    pub expected: u32,
    pub state: State,
    /// Replies do not pass here: only the first key is indexed, and nothing but the hop limit is rewritten.
    pub one_way: bool,
    /// Packets leave in another way than rewritten: if it is one-way, through the tunnel to the backend, else as packets
    /// of the other address family.
    pub detour: bool,
}

const _: () = assert!(size_of::<Entry<V4Key>>() == 64 && size_of::<Entry<V6Key>>() == 128);

// SAFETY: integers, `State` (zero is `Free`), `Delta` and `bool` (zero is false); keys are integers alone, which
// `FlowKey` (sealed to the two of this crate) demands.
unsafe impl<K: FlowKey> Zeroed for Entry<K> {}

impl<K: FlowKey> Default for Entry<K> {
    fn default() -> Self {
        Self {
            keys: [K::default(); 2],
            last_seen: 0,
            backend: 0,
            epoch: 0,
            next_hops: [0; 2],
            header_delta: [Delta::default(); 2],
            transport_delta: [Delta::default(); 2],
            expected: 0,
            state: State::Free,
            one_way: false,
            detour: false,
        }
    }
}

/// Why a connection was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Every entry is in use, or the index has no room near the key.
    NoRoom,
    /// Another connection already expects replies under the same key.
    ReplyKeyTaken,
}

/// How many deadline words a search for an entry to evict reads: four cache lines.
const EVICTION_SCAN: usize = 64;

/// The low bits of a deadline word hold the [`Class`].
const CLASS_MASK: u32 = 3;

/// One worker's connections of one address family.
#[derive(Debug)]
pub struct Table<K: FlowKey> {
    index: Index,
    entries: Region<Entry<K>>,
    /// By entry: deadline in milliseconds (modulo 2^32, its two low bits cut off) and class.
    deadlines: Region<u32>,
    /// Stack of numbers given back; beyond it, numbers from `fresh` on were never used.
    free: Region<u32>,
    free_len: usize,
    fresh: usize,
    live: usize,
    /// How many of them are of the class that is never evicted.
    established: usize,
    secret: Secret,
    /// Where the next search for an entry to evict starts.
    hand: usize,
    /// Where the next slice of the sweep starts.
    sweep: usize,
}

impl<K: FlowKey> Table<K> {
    /// A table for `capacity` connections, all memory committed.
    pub fn new(capacity: usize, secret: Secret, large_pages: bool) -> std::io::Result<Self> {
        let capacity = capacity.clamp(1, Handle::MAX_ID as usize);
        Ok(Self {
            index: Index::new(capacity * 2, large_pages)?,
            entries: Region::new(capacity, large_pages)?,
            deadlines: Region::new(capacity, large_pages)?,
            free: Region::new(capacity, large_pages)?,
            free_len: 0,
            fresh: 0,
            live: 0,
            established: 0,
            secret,
            hand: 0,
            sweep: 0,
        })
    }

    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Connections in the table.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether a connection that only its client has confirmed may count as established. Such evidence can be forged, so
    /// it may fill half of the table and no more.
    pub fn trusts_clients(&self) -> bool {
        self.established < self.capacity() / 2
    }

    pub fn index_stats(&self) -> IndexStats {
        self.index.stats()
    }

    /// Memory committed, in bytes.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.entries.bytes() + self.deadlines.bytes() + self.free.bytes()
    }

    #[inline(always)]
    pub fn hash(&self, key: &K) -> u64 {
        key.hash(&self.secret)
    }

    /// First stage of a lookup: load the bucket.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second stage: which entry it probably is; loads it.
    #[inline(always)]
    pub fn candidate(&self, hash: u64) -> Handle {
        let Some(handle) = self.index.candidate(hash) else { return Handle::NONE };
        self.entries.prefetch(handle.id());
        if size_of::<Entry<K>>() > 64 {
            // The second line of a two-line entry: half an entry further on.
            self.entries.prefetch_half(handle.id());
        }
        handle
    }

    /// Last stage: whether `candidate` holds exactly `key`.
    #[inline(always)]
    pub fn is_exact(&self, candidate: Handle, key: &K) -> bool {
        // No entry has the number of `Handle::NONE`.
        self.entries.get(candidate.id()).is_some_and(|e| e.keys[candidate.direction() as usize] == *key)
    }

    /// As [`Table::is_exact`], with the entry to be used at once. What [`Table::entry_mut`] says holds.
    #[inline(always)]
    pub fn exact(&mut self, candidate: Handle, key: &K) -> Option<&mut Entry<K>> {
        let entry = self.entries.get_mut(candidate.id())?;
        (entry.keys[candidate.direction() as usize] == *key).then_some(entry)
    }

    /// The whole lookup, for what the stages did not settle.
    pub fn find(&self, hash: u64, key: &K) -> Option<Handle> {
        self.index.find(hash, |handle| self.is_exact(handle, key))
    }

    #[inline(always)]
    pub fn entry(&self, id: usize) -> &Entry<K> {
        &self.entries[id]
    }

    /// The entry, writable. Its keys and state stay as they are: see [`Table::set_state`].
    #[inline(always)]
    pub fn entry_mut(&mut self, id: usize) -> &mut Entry<K> {
        &mut self.entries[id]
    }

    /// Hashes of a connection's keys, for [`Table::insert`], of which that of the first was known; the second's bucket is
    /// on its way into the cache from now on, as the first's is since it was looked for.
    #[inline]
    pub fn prepare(&self, first: u64, keys: &[K; 2]) -> [u64; 2] {
        debug_assert_eq!(first, self.hash(&keys[0]));
        let second = self.hash(&keys[1]);
        self.index.prefetch(second);
        [first, second]
    }

    /// Adds a connection whose forward key is not in the table; it expires `timeout` milliseconds after `now` unless
    /// packets come. `hashes` are those of [`Table::prepare`].
    pub fn insert(
        &mut self,
        entry: &Entry<K>,
        hashes: [u64; 2],
        now: Tick,
        timeout: u32,
    ) -> Result<usize, Full> {
        if !entry.one_way && self.find(hashes[1], &entry.keys[1]).is_some() {
            return Err(Full::ReplyKeyTaken);
        }
        let id = self.allocate().ok_or(Full::NoRoom)?;
        self.entries[id] = *entry;
        if !self.index_insert(hashes[0], Handle::new(id as u32, Direction::Forward)) {
            self.release(id);
            return Err(Full::NoRoom);
        }
        if !entry.one_way && !self.index_insert(hashes[1], Handle::new(id as u32, Direction::Reply)) {
            self.index.remove(hashes[0], Handle::new(id as u32, Direction::Forward));
            self.release(id);
            return Err(Full::NoRoom);
        }
        self.live += 1;
        self.established += usize::from(entry.state.class() == Class::Established);
        self.deadlines[id] = deadline(now, timeout, entry.state.class());
        Ok(id)
    }

    fn index_insert(&mut self, hash: u64, handle: Handle) -> bool {
        let (entries, secret) = (&self.entries, &self.secret);
        self.index.insert(hash, handle, |h| entries[h.id()].keys[h.direction() as usize].hash(secret))
    }

    fn allocate(&mut self) -> Option<usize> {
        if self.free_len > 0 {
            self.free_len -= 1;
            return Some(self.free[self.free_len] as usize);
        }
        let id = self.fresh;
        if id == self.entries.len() {
            return None;
        }
        self.fresh += 1;
        Some(id)
    }

    fn release(&mut self, id: usize) {
        self.entries[id] = Entry::default();
        self.deadlines[id] = 0;
        self.free[self.free_len] = id as u32;
        self.free_len += 1;
    }

    /// Takes a connection out and returns it.
    pub fn remove(&mut self, id: usize) -> Entry<K> {
        let entry = self.entries[id];
        debug_assert_ne!(entry.state, State::Free);
        let forward =
            self.index.remove(self.hash(&entry.keys[0]), Handle::new(id as u32, Direction::Forward));
        debug_assert!(forward);
        if !entry.one_way {
            let reply =
                self.index.remove(self.hash(&entry.keys[1]), Handle::new(id as u32, Direction::Reply));
            debug_assert!(reply);
        }
        self.release(id);
        self.live -= 1;
        self.established -= usize::from(entry.state.class() == Class::Established);
        entry
    }

    /// Moves a connection to another state, with its timeout in milliseconds.
    pub fn set_state(&mut self, id: usize, state: State, now: Tick, timeout: u32) {
        debug_assert_ne!(state, State::Free);
        let before = std::mem::replace(&mut self.entries[id].state, state);
        self.established += usize::from(state.class() == Class::Established);
        self.established -= usize::from(before.class() == Class::Established);
        self.deadlines[id] = deadline(now, timeout, state.class());
    }

    /// How long ago a connection came to be in its state, in milliseconds, or less if it has been looked at by the sweep
    /// since. `timeout` is that of the state.
    pub fn age_of_state(&self, id: usize, now: Tick, timeout: u32) -> Tick {
        let since = (self.deadlines[id] & !CLASS_MASK).wrapping_sub(timeout);
        now.wrapping_sub(since).cast_signed().max(0).cast_unsigned()
    }

    /// Makes room by taking out one connection that is half-open or over; `None` if a bounded search finds none.
    /// Successive searches go round the table, so that the longest there go first.
    pub fn evict(&mut self) -> Option<Entry<K>> {
        for _ in 0..EVICTION_SCAN.min(self.fresh) {
            let id = self.hand;
            self.hand = if id + 1 >= self.fresh { 0 } else { id + 1 };
            let class = self.deadlines[id] & CLASS_MASK;
            if class == Class::HalfOpen as u32 || class == Class::Closing as u32 {
                return Some(self.remove(id));
            }
        }
        None
    }

    /// One slice of the sweep: reads the next `budget` deadlines and takes out what is over, each of which is given
    /// to `over`. `timeouts` says how long a backend's connections may be silent. Returns whether the slice reached the
    /// end of the table.
    pub fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        mut timeouts: impl FnMut(u32) -> Timeouts,
        mut over: impl FnMut(&Entry<K>),
    ) -> bool {
        let start = self.sweep.min(self.fresh);
        let end = (start + budget).min(self.fresh);
        for id in start..end {
            let word = self.deadlines[id];
            if word & CLASS_MASK == Class::Free as u32 || !is_past(word & !CLASS_MASK, now) {
                continue;
            }
            let entry = &self.entries[id];
            let timeout = timeouts(entry.backend).of(entry.state);
            if now.wrapping_sub(entry.last_seen) >= timeout {
                let entry = self.remove(id);
                over(&entry);
            } else {
                self.deadlines[id] = deadline(entry.last_seen, timeout, entry.state.class());
            }
        }
        let wrapped = end == self.fresh;
        self.sweep = if wrapped { 0 } else { end };
        wrapped
    }

    /// Deadlines that a whole sweep reads.
    pub fn sweep_len(&self) -> usize {
        self.fresh
    }

    /// The connections in `range` of entry numbers, for listing.
    pub fn listing(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &Entry<K>> {
        let end = range.end.min(self.fresh);
        self.entries[range.start.min(end)..end].iter().filter(|entry| entry.state != State::Free)
    }
}

/// A deadline word.
fn deadline(from: Tick, timeout: u32, class: Class) -> u32 {
    from.wrapping_add(timeout) & !CLASS_MASK | class as u32
}

fn is_past(deadline: Tick, now: Tick) -> bool {
    now.wrapping_sub(deadline).cast_signed() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn secret() -> Secret {
        Secret::new(std::array::from_fn(|i| (i * 73 + 11) as u8))
    }

    /// Client `n` to one of a few services, answered by one of a few backends.
    fn entry(n: u16, one_way: bool) -> Entry<V4Key> {
        let client = ([10, 0, (n >> 8) as u8, n as u8].into(), 1000 + n);
        let forward = V4Key::new(protocol::UDP, client, ([192, 0, 2, (n % 3) as u8].into(), 53));
        let reply = V4Key::new(protocol::UDP, ([10, 1, 0, (n % 7) as u8].into(), 5353), client);
        Entry {
            keys: [forward, reply],
            one_way,
            state: State::UdpNew,
            backend: u32::from(n % 7),
            ..Entry::default()
        }
    }

    fn insert(table: &mut Table<V4Key>, entry: Entry<V4Key>, now: Tick, timeout: u32) -> Result<usize, Full> {
        let hashes = table.prepare(table.hash(&entry.keys[0]), &entry.keys);
        table.insert(&entry, hashes, now, timeout)
    }

    #[test]
    fn full_table_evicts_the_unconfirmed_and_never_the_established() {
        let mut table = Table::<V4Key>::new(100, secret(), false).unwrap();
        for n in 0..100 {
            let id = insert(&mut table, entry(n, false), 0, 1000).unwrap();
            if n % 2 == 0 {
                table.set_state(id, State::UdpEstablished, 0, 1000);
            }
        }
        assert_eq!(insert(&mut table, entry(100, false), 0, 1000), Err(Full::NoRoom));
        let mut evicted = 0;
        // A search is bounded, so not each finds one.
        for _ in 0..200 {
            if let Some(entry) = table.evict() {
                assert_eq!(entry.state, State::UdpNew);
                evicted += 1;
            }
        }
        assert_eq!((evicted, table.len()), (50, 50));
        for n in (0..100).step_by(2) {
            let e = entry(n, false);
            for key in e.keys {
                assert!(table.find(table.hash(&key), &key).is_some());
            }
        }
    }

    #[test]
    fn eviction_takes_the_longest_there_first() {
        let mut table = Table::<V4Key>::new(50, secret(), false).unwrap();
        let mut next = 0;
        for _ in 0..50 {
            insert(&mut table, entry(next, false), 0, 1000).unwrap();
            next += 1;
        }
        for round in 0..200u16 {
            assert_eq!(table.evict().unwrap().keys, entry(round, false).keys);
            insert(&mut table, entry(next, false), 0, 1000).unwrap();
            next += 1;
        }
    }

    #[test]
    fn two_connections_cannot_share_a_reply_key() {
        let mut table = Table::<V4Key>::new(10, secret(), false).unwrap();
        let first = entry(1, false);
        insert(&mut table, first, 0, 1000).unwrap();
        let mut second = entry(2, false);
        second.keys[1] = first.keys[1];
        assert_eq!(insert(&mut table, second, 0, 1000), Err(Full::ReplyKeyTaken));
        assert_eq!(table.len(), 1);
        second.one_way = true;
        assert!(insert(&mut table, second, 0, 1000).is_ok());
    }

    #[test]
    fn fills_to_capacity_with_both_keys() {
        let mut table = Table::<V4Key>::new(60_000, secret(), false).unwrap();
        for n in 0..60_000 {
            insert(&mut table, entry(n, false), 0, 1000).unwrap();
        }
        let stats = table.index_stats();
        assert_eq!(stats.keys, 120_000);
        assert!(stats.displaced * 100 < stats.keys * 4, "{stats:?}");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, bool),
        Touch(u16),
        Establish(u16),
        Remove(u16),
        Evict,
        Advance(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let n = 0u16..120;
        prop_oneof![
            4 => (n.clone(), any::<bool>()).prop_map(|(n, one_way)| Step::Insert(n, one_way)),
            3 => n.clone().prop_map(Step::Touch),
            2 => n.clone().prop_map(Step::Establish),
            1 => n.prop_map(Step::Remove),
            1 => Just(Step::Evict),
            2 => (0u32..400).prop_map(Step::Advance),
        ]
    }

    const TIMEOUTS: Timeouts =
        Timeouts { half_open: 300, established: 900, half_closed: 500, closing: 100, udp: 700 };

    proptest! {
        /// The table against a plain map: same members, same expiry (within one sweep), nothing lost, nothing shared.
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec(step(), 1..400), start: u32) {
            const CAPACITY: usize = 64;
            let mut table = Table::<V4Key>::new(CAPACITY, secret(), false).unwrap();
            let mut model: HashMap<u16, (bool, State, Tick)> = HashMap::new();
            let mut now = start;
            for step in steps {
                match step {
                    Step::Insert(n, one_way) => {
                        let new = Entry { last_seen: now, ..entry(n, one_way) };
                        let present = table.find(table.hash(&new.keys[0]), &new.keys[0]).is_some();
                        prop_assert_eq!(present, model.contains_key(&n));
                        if !present {
                            let result = insert(&mut table, new, now, TIMEOUTS.of(State::UdpNew));
                            prop_assert_eq!(result.is_ok(), model.len() < CAPACITY);
                            if result.is_ok() {
                                model.insert(n, (one_way, State::UdpNew, now));
                            }
                        }
                    }
                    Step::Touch(n) | Step::Establish(n) => {
                        let key = entry(n, false).keys[0];
                        let found = table.find(table.hash(&key), &key);
                        prop_assert_eq!(found.is_some(), model.contains_key(&n));
                        if let (Some(handle), Some(known)) = (found, model.get_mut(&n)) {
                            table.entry_mut(handle.id()).last_seen = now;
                            known.2 = now;
                            if matches!(step, Step::Establish(_)) {
                                table.set_state(handle.id(), State::UdpEstablished, now, TIMEOUTS.udp);
                                known.1 = State::UdpEstablished;
                            }
                        }
                    }
                    Step::Remove(n) => {
                        let key = entry(n, false).keys[0];
                        if let Some(handle) = table.find(table.hash(&key), &key) {
                            prop_assert_eq!(table.remove(handle.id()).keys[0], key);
                            prop_assert!(model.remove(&n).is_some());
                        }
                    }
                    Step::Evict => {
                        if let Some(entry) = table.evict() {
                            let n = entry.keys[0].source().1 - 1000;
                            prop_assert_eq!(model.remove(&n).map(|known| known.1), Some(State::UdpNew));
                        }
                    }
                    Step::Advance(by) => {
                        now = now.wrapping_add(by);
                        let mut gone = Vec::new();
                        // In slices, to the end of the table.
                        while !table.sweep(now, 7, |_| TIMEOUTS, |entry| gone.push(entry.keys[0].source().1 - 1000)) {}
                        for n in gone {
                            let (_, _, seen) = model.remove(&n).expect("swept entry was there");
                            prop_assert!(now.wrapping_sub(seen) >= TIMEOUTS.udp);
                        }
                        for (_, _, seen) in model.values() {
                            // Four milliseconds: the deadline's resolution.
                            prop_assert!(now.wrapping_sub(*seen) < TIMEOUTS.udp + 4);
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                let keys: u64 = model.values().map(|(one_way, ..)| if *one_way { 1 } else { 2 }).sum();
                prop_assert_eq!(table.index_stats().keys, keys);
                for (n, (one_way, state, seen)) in &model {
                    let expected = entry(*n, *one_way);
                    let forward = table.find(table.hash(&expected.keys[0]), &expected.keys[0]).expect("forward");
                    let found = table.entry(forward.id());
                    prop_assert_eq!((found.keys, found.state, found.last_seen), (expected.keys, *state, *seen));
                    let reply = table.find(table.hash(&expected.keys[1]), &expected.keys[1]);
                    prop_assert_eq!(reply.is_some(), !one_way);
                    if let Some(reply) = reply {
                        prop_assert_eq!((reply.id(), reply.direction()), (forward.id(), Direction::Reply));
                    }
                    // The staged lookup agrees whenever the key is in its first bucket.
                    let candidate = table.candidate(table.hash(&expected.keys[0]));
                    if table.is_exact(candidate, &expected.keys[0]) {
                        prop_assert_eq!(candidate, forward);
                    }
                }
            }
        }
    }
}
