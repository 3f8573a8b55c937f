//! Datagrams of which fragments have come: where they go, and which parts were there already.
//!
//! A table of fixed size, by a keyed hash. Each datagram is remembered by its whole name, for a few seconds, and forgotten
//! when all of it has passed, so that a sender may use its identifier again. Where there is no room the oldest nearby gives
//! way: what is complete in milliseconds outlives a flood.

use crate::conn::Tick;
use crate::flow::Secret;
use crate::io::BURST;
use crate::verdict::DropReason;
use crate::wire::fragment::{Fragment, MOST_UNITS, UNIT};
use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr};

/// Datagrams remembered at once.
const CAPACITY: usize = 2048;
/// Among so many places a datagram chooses.
const WAYS: usize = 8;
/// How long a datagram is remembered, in milliseconds.
pub(super) const LIFETIME: Tick = 5000;
/// Words of the map of one datagram's parts.
const WORDS: usize = MOST_UNITS.div_ceil(64);

/// Position in the table.
pub(super) type Place = u16;

/// Where the fragments of a datagram go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Not known: the first fragment, which has the ports, is not there yet.
    Unknown,
    /// To the worker that owns the connection.
    Owner(u8),
    /// To the connection with these ports.
    Flow { protocol: u8, ports: (u16, u16) },
    /// Nowhere, for this reason.
    Dropped(DropReason),
}

/// What tells datagrams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    source: IpAddr,
    destination: IpAddr,
    identification: u32,
    /// IPv4 alone: RFC 8200 section 4.5 does without.
    protocol: u8,
}

#[derive(Debug, Clone, Copy)]
struct Datagram {
    name: Name,
    /// When its first part came; `used` says whether there is one.
    since: Tick,
    used: bool,
    /// Some of it waits for the first fragment.
    waiting: bool,
    course: Course,
    /// Units that have passed.
    passed: u16,
    /// Units up to the end of the last fragment; 0 as long as that has not passed.
    end: u16,
    /// Units up to the furthest that passed.
    furthest: u16,
}

const NOBODY: Name = Name {
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    identification: 0,
    protocol: 0,
};

const UNUSED: Datagram = Datagram {
    name: NOBODY,
    since: 0,
    used: false,
    waiting: false,
    course: Course::Unknown,
    passed: 0,
    end: 0,
    furthest: 0,
};

/// One worker's datagrams.
#[derive(Debug)]
pub(super) struct Datagrams {
    secret: Secret,
    known: Box<[Datagram]>,
    /// By place: a bit for each unit that has not passed.
    missing: Box<[[u64; WORDS]]>,
    /// Whose course has become known while parts of them wait.
    released: ArrayVec<Place, BURST>,
}

fn name(fragment: &Fragment) -> Name {
    let &Fragment { source, destination, identification, protocol, .. } = fragment;
    Name { source, destination, identification, protocol: if source.is_ipv4() { protocol } else { 0 } }
}

impl Datagrams {
    pub(super) fn new(secret: Secret) -> Self {
        Self {
            secret,
            known: vec![UNUSED; CAPACITY].into(),
            missing: vec![[u64::MAX; WORDS]; CAPACITY].into(),
            released: ArrayVec::new(),
        }
    }

    fn bucket(&self, fragment: &Fragment) -> std::ops::Range<usize> {
        let buckets = (CAPACITY / WAYS) as u64;
        let Fragment { source, destination, identification, .. } = *fragment;
        let hash = self.secret.mix_datagram(source, destination, identification);
        let start = (((hash >> 32) * buckets) >> 32) as usize * WAYS;
        start..start + WAYS
    }

    /// Where the datagram of `fragment` is remembered.
    pub(super) fn find(&self, fragment: &Fragment, now: Tick) -> Option<Place> {
        let name = name(fragment);
        let mut bucket = self.bucket(fragment);
        bucket
            .find(|&at| {
                let datagram = &self.known[at];
                datagram.used && datagram.name == name && now.wrapping_sub(datagram.since) < LIFETIME
            })
            .map(|at| at as Place)
    }

    /// Remembers the datagram of `fragment`, which is not yet. Returns where, and whether another one gave way.
    pub(super) fn enter(&mut self, fragment: &Fragment, now: Tick) -> (Place, bool) {
        let age = |datagram: &Datagram| {
            let age = now.wrapping_sub(datagram.since);
            if datagram.used && age < LIFETIME { age } else { Tick::MAX }
        };
        let bucket = self.bucket(fragment);
        let start = bucket.start;
        let at = bucket.max_by_key(|&at| age(&self.known[at])).unwrap_or(start);
        let gave_way = age(&self.known[at]) != Tick::MAX;
        self.known[at] = Datagram { name: name(fragment), since: now, used: true, ..UNUSED };
        self.missing[at].fill(u64::MAX);
        (at as Place, gave_way)
    }

    pub(super) fn course(&self, place: Place) -> Course {
        self.known[usize::from(place)].course
    }

    /// Its first fragment has come: what waits for it may go on.
    pub(super) fn set_course(&mut self, place: Place, course: Course) {
        let datagram = &mut self.known[usize::from(place)];
        datagram.course = course;
        if std::mem::take(&mut datagram.waiting) {
            // No more first fragments in a burst than packets.
            let _ = self.released.try_push(place);
        }
    }

    pub(super) fn set_waiting(&mut self, place: Place) {
        self.known[usize::from(place)].waiting = true;
    }

    /// A part passes, once. What overlaps with another is none of it, and neither is what comes after: RFC 8200
    /// section 4.5 has the whole datagram discarded.
    pub(super) fn pass(&mut self, place: Place, fragment: &Fragment) -> Result<(), DropReason> {
        let datagram = &mut self.known[usize::from(place)];
        let (start, end) = (fragment.offset / UNIT, (fragment.offset + fragment.len).div_ceil(UNIT));
        let missing = &mut self.missing[usize::from(place)];
        let fresh: usize =
            words(start, end).map(|(at, mask)| (missing[at] & mask).count_ones() as usize).sum();
        if fresh == 0 {
            // A copy, made on the way.
            return Err(DropReason::FragmentOverlap);
        }
        let (known, last) = (usize::from(datagram.end), !fragment.more);
        let beyond = known > 0 && (end > known || last) || last && usize::from(datagram.furthest) > end;
        if fresh < end - start || beyond {
            datagram.course = Course::Dropped(DropReason::FragmentOverlap);
            return Err(DropReason::FragmentOverlap);
        }
        for (at, mask) in words(start, end) {
            missing[at] &= !mask;
        }
        datagram.passed += fresh as u16;
        datagram.furthest = datagram.furthest.max(end as u16);
        if last {
            datagram.end = end as u16;
        }
        if datagram.passed == datagram.end {
            datagram.used = false;
        }
        Ok(())
    }

    /// Places of datagrams whose course has become known.
    pub(super) fn take_released(&mut self) -> ArrayVec<Place, BURST> {
        std::mem::take(&mut self.released)
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}

/// The words, and the bits in them, for the units from `start` up to `end`.
fn words(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (start / 64..end.div_ceil(64)).map(move |at| {
        let from = start.max(at * 64) - at * 64;
        let to = end.min(at * 64 + 64) - at * 64;
        (at, u64::MAX >> (64 - (to - from)) << from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(identification: u32, offset: usize, len: usize, more: bool) -> Fragment {
        let ends: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        Fragment {
            source: ends[0],
            destination: ends[1],
            identification,
            protocol: 17,
            offset,
            len,
            more,
            l4: 20,
        }
    }

    fn datagrams() -> Datagrams {
        Datagrams::new(Secret::new(std::array::from_fn(|i| (i * 31 + 7) as u8)))
    }

    proptest! {
        /// Against a set of bytes: what passes never overlaps, and a whole datagram is forgotten.
        #[test]
        fn parts_pass_once(parts in proptest::collection::vec((0usize..60, 1usize..20, any::<bool>()), 1..40)) {
            let mut store = datagrams();
            let (place, _) = store.enter(&fragment(1, 0, 8, true), 0);
            store.set_course(place, Course::Owner(1));
            let (mut passed, mut end, mut poisoned) = (std::collections::BTreeSet::new(), None, false);
            for (start, len, last) in parts {
                let one = fragment(1, start * 8, len * 8, !last);
                let result = store.pass(place, &one);
                let units: Vec<usize> = (start..start + len).collect();
                let known = units.iter().filter(|unit| passed.contains(*unit)).count();
                let beyond = end.is_some_and(|end| start + len > end || last)
                    || last && passed.last().is_some_and(|&top| top >= start + len);
                prop_assert_eq!(result.is_ok(), known == 0 && !beyond);
                poisoned |= known < len && result.is_err();
                prop_assert_eq!(store.course(place) == Course::Owner(1), !poisoned);
                if poisoned {
                    break;
                }
                if result.is_ok() {
                    passed.extend(units);
                    end = end.or(last.then_some(start + len));
                }
                let whole = end.is_some_and(|end| passed.len() == end);
                prop_assert_eq!(store.find(&one, 0).is_none(), whole);
                if whole {
                    break;
                }
            }
        }

        #[test]
        fn words_cover_exactly(start in 0usize..MOST_UNITS, len in 1usize..300) {
            let end = (start + len).min(MOST_UNITS);
            let mut units = Vec::new();
            for (at, mask) in words(start, end) {
                prop_assert!(at < WORDS);
                units.extend((0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| at * 64 + bit));
            }
            prop_assert_eq!(units, (start..end).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_oldest_gives_way_and_time_does() {
        let mut store = datagrams();
        let many = 10 * CAPACITY as u32;
        let mut gave_way = 0;
        for id in 0..many {
            let one = fragment(id, 0, 8, true);
            assert!(store.find(&one, id / 100).is_none());
            gave_way += u32::from(store.enter(&one, id / 100).1);
        }
        let now = many / 100;
        let alive = (0..many).filter(|&id| store.find(&fragment(id, 8, 8, true), now).is_some()).count();
        assert_eq!(gave_way, many - CAPACITY as u32);
        assert_eq!(alive, CAPACITY);
        // The youngest are all there.
        let young =
            (many - 200..many).filter(|&id| store.find(&fragment(id, 8, 8, true), now).is_some()).count();
        assert!(young > 190, "{young}");
        assert!((0..many).all(|id| store.find(&fragment(id, 8, 8, true), now + LIFETIME).is_none()));
    }

    #[test]
    fn what_waits_is_released_once() {
        let mut store = datagrams();
        let (place, _) = store.enter(&fragment(1, 8, 8, true), 0);
        store.set_waiting(place);
        assert!(!store.has_released());
        store.set_course(place, Course::Owner(0));
        assert_eq!(store.take_released()[..], [place]);
        store.set_course(place, Course::Owner(0));
        assert!(!store.has_released());
    }
}
