//! From the hash of a key to the entry that may hold it.
//!
//! Buckets of one cache line: eight 16-bit tags compared at once, eight references, and how many keys that belong here
//! were put into their second bucket instead. A key is looked for in its first bucket; only if keys of that bucket
//! were displaced, in its second. At the load the table is sized for ([`SLOTS_PER_KEY`]), 3 % of keys are.

use super::region::{Region, Zeroed};
use super::state::Direction;

const SLOTS: usize = 8;

/// Index slots per key that the table can hold: a load of 0.625.
const SLOTS_PER_KEY: f64 = 1.6;

/// An entry's number and which of its two keys is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(u32);

impl Handle {
    /// No entry.
    pub const NONE: Self = Self(u32::MAX);
    /// Largest entry number.
    pub const MAX_ID: u32 = (u32::MAX >> 1) - 1;

    #[inline(always)]
    pub fn new(id: u32, direction: Direction) -> Self {
        Self(id << 1 | direction as u32)
    }

    #[inline(always)]
    pub fn id(self) -> usize {
        (self.0 >> 1) as usize
    }

    #[inline(always)]
    pub fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::Forward } else { Direction::Reply }
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// Eight 16-bit tags, the first in the lowest bits; zero: the slot is empty.
    tags: [u64; 2],
    handles: [u32; SLOTS],
    /// Keys whose first bucket is this one and that stand in their second.
    displaced: u32,
    unused: [u32; 3],
}

// SAFETY: integers only; zero is an empty bucket.
unsafe impl Zeroed for Bucket {}

impl Bucket {
    /// Bit `i` set: slot `i` holds `tag`.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{
                _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
                _mm_setzero_si128,
            };
            // SAFETY: SSE2, which every x86-64 CPU has; all of these work on registers alone.
            unsafe {
                let tags = _mm_set_epi64x(self.tags[1].cast_signed(), self.tags[0].cast_signed());
                let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag.cast_signed()));
                _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())).cast_unsigned()
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.matches_one_by_one(tag)
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn matches_one_by_one(&self, tag: u16) -> u32 {
        let tag_of = |slot: usize| (self.tags[slot / 4] >> (slot % 4 * 16)) as u16;
        (0..SLOTS).map(|slot| u32::from(tag_of(slot) == tag) << slot).sum()
    }

    fn put(&mut self, slot: usize, tag: u16, handle: u32) {
        let shift = slot % 4 * 16;
        let word = &mut self.tags[slot / 4];
        *word = *word & !(0xffff << shift) | u64::from(tag) << shift;
        self.handles[slot] = handle;
    }

    fn empty_slot(&self) -> Option<usize> {
        let free = self.matches(0);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }
}

/// How well the index does its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Slots in all.
    pub slots: u64,
    /// Keys in the index.
    pub keys: u64,
    /// Keys in their second bucket: one more cache line to probe.
    pub displaced: u64,
}

#[derive(Debug)]
pub(super) struct Index {
    buckets: Region<Bucket>,
    keys: u64,
    displaced: u64,
}

/// Where a hash sends a key.
#[derive(Clone, Copy)]
struct Home {
    tag: u16,
    first: usize,
    second: usize,
}

impl Index {
    pub(super) fn new(keys: usize, large_pages: bool) -> std::io::Result<Self> {
        let buckets = ((keys as f64 * SLOTS_PER_KEY) as usize).div_ceil(SLOTS).max(2);
        Ok(Self { buckets: Region::new(buckets, large_pages)?, keys: 0, displaced: 0 })
    }

    pub(super) fn stats(&self) -> IndexStats {
        let slots = (self.buckets.len() * SLOTS) as u64;
        IndexStats { slots, keys: self.keys, displaced: self.displaced }
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// The high half of the hash, scaled to the number of buckets (Lemire, "Fast random integer generation in an
    /// interval", 2019).
    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn tag(hash: u64) -> u16 {
        (hash as u16).max(1)
    }

    fn home(&self, hash: u64) -> Home {
        let first = self.first(hash);
        let mut second = self.first(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        if second == first {
            second = (first + 1) % self.buckets.len();
        }
        Home { tag: Self::tag(hash), first, second }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        self.buckets.prefetch(self.first(hash));
    }

    /// The first entry in the first bucket whose tag fits. Needs the exact comparison, and proves nothing by finding
    /// none: the key may be displaced.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: u64) -> Option<Handle> {
        let bucket = &self.buckets[self.first(hash)];
        let found = bucket.matches(Self::tag(hash));
        (found != 0).then(|| Handle(bucket.handles[found.trailing_zeros() as usize % SLOTS]))
    }

    /// The entry for which `is_it` holds, among all whose tags fit.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Handle) -> bool) -> Option<Handle> {
        self.position(hash, &mut is_it).map(|(bucket, slot)| Handle(self.buckets[bucket].handles[slot]))
    }

    #[inline]
    fn position(&self, hash: u64, is_it: &mut impl FnMut(Handle) -> bool) -> Option<(usize, usize)> {
        let first = self.first(hash);
        let bucket = &self.buckets[first];
        if let Some(slot) = Self::probe(bucket, Self::tag(hash), is_it) {
            return Some((first, slot));
        }
        if bucket.displaced == 0 {
            return None;
        }
        let Home { tag, second, .. } = self.home(hash);
        Self::probe(&self.buckets[second], tag, is_it).map(|slot| (second, slot))
    }

    #[inline]
    fn probe(bucket: &Bucket, tag: u16, is_it: &mut impl FnMut(Handle) -> bool) -> Option<usize> {
        let mut found = bucket.matches(tag);
        while found != 0 {
            let slot = found.trailing_zeros() as usize;
            if is_it(Handle(bucket.handles[slot])) {
                return Some(slot);
            }
            found &= found - 1;
        }
        None
    }

    /// Adds a key that is not there. `hash_of` gives the hash of a key that is, for moving it. `false`, and nothing
    /// changed, if neither bucket has room and none of their keys can move.
    #[must_use]
    pub(super) fn insert(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(Handle) -> u64) -> bool {
        let home = self.home(hash);
        let (bucket, slot) = if let Some(slot) = self.buckets[home.first].empty_slot() {
            (home.first, slot)
        } else if let Some(slot) = self.buckets[home.second].empty_slot() {
            (home.second, slot)
        } else if let Some(slot) = self.make_room(home.first, &hash_of) {
            (home.first, slot)
        } else if let Some(slot) = self.make_room(home.second, &hash_of) {
            (home.second, slot)
        } else {
            return false;
        };
        self.buckets[bucket].put(slot, home.tag, handle.0);
        self.keys += 1;
        if bucket == home.second {
            self.buckets[home.first].displaced += 1;
            self.displaced += 1;
        }
        true
    }

    /// Moves one key of a full bucket to its other bucket and returns the slot that it left.
    fn make_room(&mut self, bucket: usize, hash_of: &impl Fn(Handle) -> u64) -> Option<usize> {
        for slot in 0..SLOTS {
            let handle = Handle(self.buckets[bucket].handles[slot]);
            let home = self.home(hash_of(handle));
            let other = if bucket == home.first { home.second } else { home.first };
            if let Some(room) = self.buckets[other].empty_slot() {
                self.buckets[other].put(room, home.tag, handle.0);
                if other == home.second {
                    self.buckets[home.first].displaced += 1;
                    self.displaced += 1;
                } else {
                    self.buckets[home.first].displaced -= 1;
                    self.displaced -= 1;
                }
                return Some(slot);
            }
        }
        None
    }

    /// Takes a key out; `false` if it is not there.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle) -> bool {
        let Some((bucket, slot)) = self.position(hash, &mut |found| found == handle) else { return false };
        self.buckets[bucket].put(slot, 0, 0);
        self.keys -= 1;
        let first = self.first(hash);
        if bucket != first {
            self.buckets[first].displaced -= 1;
            self.displaced -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parallel_comparison_equals_one_by_one(tags in proptest::array::uniform8(0u16..4), tag in 0u16..4) {
            let mut bucket = Bucket { tags: [0; 2], handles: [0; SLOTS], displaced: 0, unused: [0; 3] };
            for (slot, tag) in tags.into_iter().enumerate() {
                bucket.put(slot, tag * 0x4001, slot as u32);
            }
            prop_assert_eq!(bucket.matches(tag * 0x4001), bucket.matches_one_by_one(tag * 0x4001));
            let expected: u32 = (0..SLOTS).map(|slot| u32::from(tags[slot] == tag) << slot).sum();
            prop_assert_eq!(bucket.matches(tag * 0x4001), expected);
        }
    }
}
