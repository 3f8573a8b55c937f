//! Slots: the numbers by which workers know backends.
//!
//! A connection holds its backend's slot for as long as it lives, so a slot is given to another backend only when no
//! worker holds a connection to the one before and none can make one. Counters by slot only ever go up and are
//! written by workers alone, so a slot's next user subtracts what was counted before it.

use super::drain::Deadline;
use crate::counters::{BackendCounters, Counter, MAX_BACKENDS, WorkerCounters};
use crate::tunnel;
use ctl::config::BackendAddress;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sums over workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections_total: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
}

impl Totals {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_sub)
    }

    fn with(self, other: Self, change: fn(u64, u64) -> u64) -> Self {
        Self {
            connections_total: change(self.connections_total, other.connections_total),
            packets_in: change(self.packets_in, other.packets_in),
            bytes_in: change(self.bytes_in, other.bytes_in),
            packets_out: change(self.packets_out, other.packets_out),
            bytes_out: change(self.bytes_out, other.bytes_out),
        }
    }
}

/// Everything that was ever counted for `slot`.
fn counted(workers: &[Arc<WorkerCounters>], slot: u32) -> Totals {
    workers.iter().filter_map(|worker| worker.backends.get(slot as usize)).fold(
        Totals::default(),
        |sum, counters| {
            sum.plus(Totals {
                connections_total: counters.connections_total.get(),
                packets_in: counters.packets_in.get(),
                bytes_in: counters.bytes_in.get(),
                packets_out: counters.packets_out.get(),
                bytes_out: counters.bytes_out.get(),
            })
        },
    )
}

/// Entries of connection tables that name `slot`.
fn entries(workers: &[Arc<WorkerCounters>], slot: u32) -> u64 {
    workers
        .iter()
        .filter_map(|worker| worker.backends.get(slot as usize))
        .fold(0, |sum, counters| sum.wrapping_add(counters.entries.get()))
}

/// Connections to `slot` right now.
pub fn active(workers: &[Arc<WorkerCounters>], slot: u32) -> u64 {
    sum(workers, slot, |counters| &counters.connections_active)
}

/// One counter of `slot`, all workers together.
pub fn sum(workers: &[Arc<WorkerCounters>], slot: u32, counter: fn(&BackendCounters) -> &Counter) -> u64 {
    workers
        .iter()
        .filter_map(|worker| worker.backends.get(slot as usize))
        .fold(0, |sum, counters| sum.wrapping_add(counter(counters).get()))
}

/// Whose slot it is.
#[derive(Debug, Clone)]
pub struct Owner {
    pub service: Arc<str>,
    pub address: BackendAddress,
    /// The tunnel that leads to it; kept for the connections of a removed one.
    pub tunnel: Option<Arc<tunnel::Options>>,
    /// First generation of the configuration that lacks the backend; its connections go on.
    pub removed: Option<u32>,
    /// Of a drain that was under way when it was removed.
    pub deadline: Option<Deadline>,
    /// Its connections have to end.
    resetting: bool,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    owner: Option<Owner>,
    /// Counted before its owner got it.
    base: Totals,
}

/// All slots.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    all: Vec<Slot>,
    free: BTreeSet<u32>,
    /// Slots of removed backends.
    retired: BTreeMap<(Arc<str>, BackendAddress), u32>,
}

impl Slots {
    /// A slot for a backend: its old one if connections to it are still there. `None` if all are taken.
    pub fn take(&mut self, service: &str, address: BackendAddress) -> Option<u32> {
        let service: Arc<str> = service.into();
        if let Some(slot) = self.retired.remove(&(Arc::clone(&service), address)) {
            if let Some(owner) = &mut self.all[slot as usize].owner {
                (owner.removed, owner.deadline, owner.resetting) = (None, None, false);
            }
            return Some(slot);
        }
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None if self.all.len() == MAX_BACKENDS => return None,
            None => {
                self.all.push(Slot::default());
                (self.all.len() - 1) as u32
            }
        };
        self.all[slot as usize].owner =
            Some(Owner { service, address, tunnel: None, removed: None, deadline: None, resetting: false });
        Some(slot)
    }

    /// Notes the tunnel to the backend in `slot`.
    pub fn set_tunnel(&mut self, slot: u32, tunnel: Option<Arc<tunnel::Options>>) {
        if let Some(owner) = self.all.get_mut(slot as usize).and_then(|slot| slot.owner.as_mut()) {
            owner.tunnel = tunnel;
        }
    }

    /// The backend is not in the configuration from `generation` on; a drain that is under way goes on.
    pub fn retire(&mut self, slot: u32, generation: u32, deadline: Option<Deadline>) {
        if let Some(owner) = self.all.get_mut(slot as usize).and_then(|slot| slot.owner.as_mut()) {
            owner.removed = Some(generation);
            owner.deadline = deadline;
            self.retired.insert((Arc::clone(&owner.service), owner.address), slot);
        }
    }

    /// Frees the slots of removed backends that no worker has a connection to, given the generation that all workers
    /// have taken up. Returns what was counted for each, by the name of its service.
    pub fn reclaim(&mut self, workers: &[Arc<WorkerCounters>], generation: u64) -> Vec<(Arc<str>, Totals)> {
        let mut freed = Vec::new();
        let over: Vec<u32> = self
            .retired
            .values()
            .copied()
            .filter(|&slot| {
                let removed = self.owner(slot).and_then(|owner| owner.removed);
                removed.is_some_and(|removed| u64::from(removed) <= generation) && entries(workers, slot) == 0
            })
            .collect();
        for number in over {
            let now = counted(workers, number);
            let slot = &mut self.all[number as usize];
            if let Some(owner) = slot.owner.take() {
                self.retired.remove(&(Arc::clone(&owner.service), owner.address));
                freed.push((owner.service, now.minus(slot.base)));
            }
            slot.base = now;
            self.free.insert(number);
        }
        freed
    }

    /// What was counted for the slot's present owner.
    pub fn totals(&self, workers: &[Arc<WorkerCounters>], slot: u32) -> Totals {
        let base = self.all.get(slot as usize).map_or_else(Totals::default, |slot| slot.base);
        counted(workers, slot).minus(base)
    }

    pub fn owner(&self, slot: u32) -> Option<&Owner> {
        self.all.get(slot as usize)?.owner.as_ref()
    }

    /// Slots of removed backends whose connections go on.
    pub fn retired(&self) -> impl Iterator<Item = (u32, &Owner)> {
        self.retired.values().filter_map(|&slot| Some((slot, self.owner(slot)?)))
    }

    /// Likewise, writable.
    pub fn retired_mut(&mut self) -> impl Iterator<Item = (u32, &mut Owner)> {
        let owners = (0u32..).zip(&mut self.all).filter_map(|(slot, one)| Some((slot, one.owner.as_mut()?)));
        owners.filter(|(_, owner)| owner.removed.is_some())
    }

    /// Has the connections of the backend in `slot` end, or go on.
    pub fn set_resetting(&mut self, slot: u32, resetting: bool) {
        if let Some(owner) = self.all.get_mut(slot as usize).and_then(|slot| slot.owner.as_mut()) {
            owner.resetting = resetting;
        }
    }

    /// Slots whose connections have to end, in order.
    pub fn resetting(&self) -> Vec<u32> {
        let owners = (0u32..).zip(&self.all).filter_map(|(slot, one)| Some((slot, one.owner.as_ref()?)));
        owners.filter(|(_, owner)| owner.resetting).map(|(slot, _)| slot).collect()
    }

    /// Forgets about those that have none left, not even one that is over. Returns whether there were any.
    pub fn end_resets(&mut self, workers: &[Arc<WorkerCounters>]) -> bool {
        let mut any = false;
        for (slot, one) in (0u32..).zip(&mut self.all) {
            if let Some(owner) = one.owner.as_mut().filter(|owner| owner.resetting)
                && entries(workers, slot) == 0
            {
                owner.resetting = false;
                any = true;
            }
        }
        any
    }

    /// Slots ever used.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(n: u8) -> BackendAddress {
        BackendAddress::new([10, 0, 0, n].into(), Some(80))
    }

    fn workers() -> Vec<Arc<WorkerCounters>> {
        (0..2).map(|_| Arc::new(WorkerCounters::with_backends(64))).collect()
    }

    #[test]
    fn a_slot_waits_for_connections_and_for_every_worker() {
        let (mut slots, workers) = (Slots::default(), workers());
        let one = slots.take("web", address(1)).unwrap();
        workers[1].backends[one as usize].entries.add(1);
        workers[1].backends[one as usize].packets_in.add(10);
        slots.retire(one, 5, None);
        assert!(slots.reclaim(&workers, 4).is_empty());
        assert!(slots.reclaim(&workers, 5).is_empty(), "a connection is left");
        let two = slots.take("web", address(2)).unwrap();
        assert_ne!(one, two);
        workers[1].backends[one as usize].entries.sub(1);
        assert!(slots.reclaim(&workers, 4).is_empty(), "a worker may still make one");
        let freed = slots.reclaim(&workers, 5);
        assert_eq!(freed, [("web".into(), Totals { packets_in: 10, ..Totals::default() })]);
        assert_eq!(slots.take("mail", address(3)), Some(one));
        assert_eq!(slots.totals(&workers, one), Totals::default());
        workers[0].backends[one as usize].packets_in.add(3);
        assert_eq!(slots.totals(&workers, one).packets_in, 3);
    }

    #[test]
    fn one_that_comes_back_in_time_has_its_slot() {
        let (mut slots, workers) = (Slots::default(), workers());
        let one = slots.take("web", address(1)).unwrap();
        workers[0].backends[one as usize].entries.add(1);
        slots.retire(one, 2, None);
        assert_ne!(slots.take("mail", address(1)), Some(one));
        assert_eq!(slots.take("web", address(1)), Some(one));
        assert!(slots.retired().next().is_none());
    }

    #[test]
    fn there_are_only_so_many() {
        let mut slots = Slots::default();
        for n in 0..MAX_BACKENDS {
            let [.., a, b, c] = (n as u32).to_be_bytes();
            let address = BackendAddress::new([10, a, b, c].into(), None);
            assert_eq!(slots.take("web", address), Some(n as u32));
        }
        assert_eq!(slots.take("more", address(1)), None);
    }

    proptest! {
        /// No two backends share a slot, no connection's slot changes hands, and nothing that was counted gets lost.
        #[test]
        fn slots_have_one_owner(steps in proptest::collection::vec((0u8..4, 0u8..6), 1..200)) {
            let (mut slots, workers) = (Slots::default(), workers());
            let mut live: BTreeMap<u8, u32> = BTreeMap::new();
            let mut open: Vec<(u8, u32)> = Vec::new();
            let (mut counted, mut carried) = (0u64, 0u64);
            for (step, n) in steps {
                match step {
                    0 => {
                        if let std::collections::btree_map::Entry::Vacant(entry) = live.entry(n) {
                            entry.insert(slots.take("web", address(n)).unwrap());
                        }
                    }
                    1 => {
                        if let Some(slot) = live.remove(&n) {
                            slots.retire(slot, 1, None);
                        }
                    }
                    2 => {
                        if let Some(&slot) = live.get(&n) {
                            let counters = &workers[usize::from(n) % 2].backends[slot as usize];
                            counters.entries.add(1);
                            counters.connections_total.add(1);
                            open.push((n, slot));
                            counted += 1;
                        }
                    }
                    _ => {
                        if let Some((n, slot)) = open.pop() {
                            workers[usize::from(n) % 2].backends[slot as usize].entries.sub(1);
                        }
                    }
                }
                carried += slots.reclaim(&workers, 1).iter().map(|(_, totals)| totals.connections_total).sum::<u64>();
                let mut owned: Vec<u32> = live.values().copied().collect();
                owned.sort_unstable();
                owned.dedup();
                prop_assert_eq!(owned.len(), live.len());
                for &(n, slot) in &open {
                    prop_assert_eq!(slots.owner(slot).map(|owner| owner.address), Some(address(n)));
                }
                let held: u64 = (0..slots.len() as u32)
                    .filter(|&slot| slots.owner(slot).is_some())
                    .map(|slot| slots.totals(&workers, slot).connections_total)
                    .sum();
                prop_assert_eq!(held + carried, counted);
            }
        }
    }
}
