//! Counters: written by one worker, read by anyone.
//!
//! Every field has exactly one writing thread, the worker that the block belongs to; the control thread reads with
//! relaxed loads. Hence no atomic read-modify-write: an addition is a load, an add and a store.

use crate::verdict::DropReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only ever called by the writing thread.
    #[inline(always)]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    /// Subtracts; only ever called by the writing thread.
    #[inline(always)]
    pub fn sub(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(by), Relaxed);
    }

    /// Replaces; only ever called by the writing thread.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often a figure was how large: one count for each power of two, so that counting is cheap enough for every loop.
#[derive(Debug, Default)]
pub struct Powers {
    /// By the number of bits that a figure takes; the last one has all that are larger.
    counts: [Counter; Self::LEN],
    sum: Counter,
}

impl Powers {
    pub const LEN: usize = 32;

    /// Counts a figure; only ever called by the writing thread.
    #[inline]
    pub fn count(&self, figure: u64) {
        let bits = (u64::BITS - figure.leading_zeros()) as usize;
        self.counts[bits.min(Self::LEN - 1)].add(1);
        self.sum.add(figure);
    }

    /// Largest figure of each count, and the count; that of the last is as good as infinite.
    pub fn read(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().enumerate().map(|(bits, count)| ((1 << bits) - 1, count.get()))
    }

    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// What one worker counts. Writer of every field: that worker. Two cache lines apart from anything else, so that the
/// adjacent-line prefetcher does not couple two workers.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    /// Accepted by a transmit ring: `forwarded + generated`.
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
    pub forwarded: Counter,
    pub consumed: Counter,
    pub punted: Counter,
    /// Level: packets that wait for a next hop.
    pub held: Counter,
    pub generated: Counter,
    /// Forwarded without a connection, because the table was full.
    pub stateless: Counter,
    /// ICMP errors passed on to an end of the connection that they are about.
    pub icmp_errors: Counter,
    /// Packets given to the worker that owns their connection.
    pub handoffs: Counter,
    /// Packets taken from other workers.
    pub handoffs_in: Counter,
    /// Packets given to a worker that has a TX queue for them.
    pub relayed: Counter,
    pub connections_total: Counter,
    /// Connections that gave way to others before their time.
    pub evictions: Counter,
    /// Datagrams in fragments that were forgotten before their time, to make room for others.
    pub fragment_evictions: Counter,
    /// Connections ended by resets, since a drain was over.
    pub resets: Counter,
    /// Resets and FINs of clients whose sequence number cannot be theirs: forwarded, and the connection kept.
    pub out_of_window: Counter,
    /// Messages to the control thread that found its queue full.
    pub events_lost: Counter,
    /// TSC cycles spent on loops that found packets, and in all.
    pub busy_cycles: Counter,
    pub total_cycles: Counter,
    /// Times that it slept because there was nothing to do.
    pub sleeps: Counter,
    /// Loops that found packets: how many each found, and how many TSC cycles had gone by since the one before.
    pub loop_packets: Powers,
    pub loop_cycles: Powers,
    /// Of the TSC.
    pub cycles_per_second: Counter,
    /// Generation of the snapshot that the worker uses.
    pub generation: Counter,
    /// Levels of both tables, refreshed about once a second.
    pub connections_active: Counter,
    pub index_slots: Counter,
    pub index_keys: Counter,
    pub index_displaced: Counter,
    pub table_bytes: Counter,
    pub drops: [Counter; DropReason::COUNT],
    /// By port.
    pub ports: [PortCounters; MAX_PORTS],
    /// By port.
    pub hosts: [HostCounters; MAX_PORTS],
    /// By backend slot.
    pub backends: Box<[BackendCounters]>,
}

/// Most backends, of all services together, removed ones that still have connections included.
pub const MAX_BACKENDS: usize = 65_536;

/// Most ports.
pub const MAX_PORTS: usize = 255;

/// What one worker counts for one port.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Packets that arrived by it here.
    pub rx_packets: Counter,
    /// Those of them that another worker had to decide.
    pub handoffs: Counter,
    /// Where it shares its device with other ports or has a tag, for the device counts them together; without tags.
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
}

/// What one worker counts for the host's interface of one port.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// Frames given to the kernel.
    pub punted: Counter,
    /// Frames that it did not get: over the limit, or the ring was full.
    pub limited: Counter,
    /// Frames sent for the kernel.
    pub sent: Counter,
}

/// What one worker counts for one backend: one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct BackendCounters {
    pub connections_total: Counter,
    /// Level: connections that are not over.
    pub connections_active: Counter,
    /// Level: entries of the connection table, those of connections that are over included.
    pub entries: Counter,
    /// From clients.
    pub packets_in: Counter,
    pub bytes_in: Counter,
    /// Towards clients.
    pub packets_out: Counter,
    pub bytes_out: Counter,
    /// SYNs of clients that went unanswered, or were answered by a reset.
    pub failures: Counter,
}

// No two workers, and no two backends, share a cache line.
const _: () = {
    assert!(align_of::<WorkerCounters>() == 128 && size_of::<WorkerCounters>().is_multiple_of(128));
    assert!(align_of::<BackendCounters>() == 64 && size_of::<BackendCounters>() == 64);
};

impl Default for WorkerCounters {
    fn default() -> Self {
        Self::with_backends(MAX_BACKENDS)
    }
}

impl WorkerCounters {
    /// Counters for `backends` slots.
    pub fn with_backends(backends: usize) -> Self {
        Self {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            forwarded: Counter::default(),
            consumed: Counter::default(),
            punted: Counter::default(),
            held: Counter::default(),
            generated: Counter::default(),
            stateless: Counter::default(),
            icmp_errors: Counter::default(),
            handoffs: Counter::default(),
            handoffs_in: Counter::default(),
            relayed: Counter::default(),
            connections_total: Counter::default(),
            evictions: Counter::default(),
            fragment_evictions: Counter::default(),
            resets: Counter::default(),
            out_of_window: Counter::default(),
            events_lost: Counter::default(),
            busy_cycles: Counter::default(),
            total_cycles: Counter::default(),
            sleeps: Counter::default(),
            loop_packets: Powers::default(),
            loop_cycles: Powers::default(),
            cycles_per_second: Counter::default(),
            generation: Counter::default(),
            connections_active: Counter::default(),
            index_slots: Counter::default(),
            index_keys: Counter::default(),
            index_displaced: Counter::default(),
            table_bytes: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
            ports: std::array::from_fn(|_| PortCounters::default()),
            hosts: std::array::from_fn(|_| HostCounters::default()),
            backends: (0..backends).map(|_| BackendCounters::default()).collect(),
        }
    }

    /// Counts a dropped packet.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Dropped packets, all reasons together.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fall_into_their_power() {
        let powers = Powers::default();
        for figure in [0, 1, 2, 3, 4, 32, 33, u64::MAX / 2] {
            powers.count(figure);
        }
        let found: Vec<_> = powers.read().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [(0, 1), (1, 1), (3, 2), (7, 1), (63, 2), ((1 << 31) - 1, 1)]);
    }
}
