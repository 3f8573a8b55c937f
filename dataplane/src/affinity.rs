//! Affinity: a client finds the backend again that it had before, for as long as it comes back in time.
//!
//! A client is a prefix of the source address, and one client's connections may belong to several workers: owners go by
//! address and port. So each worker has a table of the clients that it gave a backend, which it alone writes and all read,
//! on their way to a new connection only. Where several remember a client the one of the lowest number is right, and the
//! others follow it: two workers that see a new client in the same instant may choose differently, and agree from then
//! on. With a scheduler that hashes they choose the same in any case, since what is hashed is the client's prefix.
//!
//! A client counts as known for a while after its last new connection, if its backend may still take some: with the
//! backend disabled, draining, down, of no weight, removed, or of a tier that is not in use, the scheduler decides anew.
//!
//! A table has a fixed size. In a full bucket the client goes that was away longest. Clients are told apart by 64 bits of a
//! hash that is keyed per boot; if two had the same, they would share a backend, which is no harm.

use crate::conn::Tick;
use crate::counters::MAX_BACKENDS;
use crate::flow::{FlowKey, Secret, V6Key};
use ctl::config::Prefix;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clients in a bucket: one cache line.
const WAYS: usize = 4;
/// Least and most buckets of one worker.
const BUCKETS: std::ops::RangeInclusive<usize> = 64..=1 << 18;

// A slot fits into 16 bits.
const _: () = assert!(MAX_BACKENDS <= 1 << 16);

/// A service's affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    /// Milliseconds since its last new connection after which a client is forgotten.
    pub timeout: Tick,
    /// Bits of an address that make a client.
    pub prefix_v4: u8,
    pub prefix_v6: u8,
}

impl Affinity {
    /// The client that `address` belongs to.
    pub fn client(&self, address: IpAddr) -> IpAddr {
        let length = if address.is_ipv4() { self.prefix_v4 } else { self.prefix_v6 };
        Prefix::new(address, length).map_or(address, Prefix::address)
    }
}

/// What a client of a service is known by; not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of a client of the service with number `service`.
    pub fn new(secret: &Secret, service: u32, client: IpAddr) -> Self {
        let client = match client {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let nobody = Ipv6Addr::from(u128::from(service));
        Self(V6Key::new(0, (client.into(), 0), (nobody.into(), 0)).hash(secret) | 1)
    }
}

/// One client. Written by one worker, read by all: the mark is taken away while the rest changes, and the rest has some
/// of its bits.
#[derive(Debug, Default)]
struct Cell {
    mark: AtomicU64,
    /// From the top: 16 bits of the mark, slot of the backend, and the tick of the last new connection.
    value: AtomicU64,
}

impl Cell {
    fn read(&self, mark: Mark) -> Option<(u32, Tick)> {
        if self.mark.load(Ordering::Acquire) != mark.0 {
            return None;
        }
        let value = self.value.load(Ordering::Acquire);
        let unchanged = self.mark.load(Ordering::Relaxed) == mark.0;
        (unchanged && value >> 48 == mark.0 >> 48).then_some((u32::from((value >> 32) as u16), value as Tick))
    }

    fn write(&self, mark: Mark, slot: u32, now: Tick) {
        if self.mark.load(Ordering::Relaxed) != mark.0 {
            self.mark.store(0, Ordering::Relaxed);
        }
        // Whoever sees this value sees at least that the old mark is gone.
        let value = mark.0 & 0xffff << 48 | u64::from(slot as u16) << 32 | u64::from(now);
        self.value.store(value, Ordering::Release);
        self.mark.store(mark.0, Ordering::Release);
    }

    /// Milliseconds since its client came; most of all if it has none.
    fn age(&self, now: Tick) -> i64 {
        match self.mark.load(Ordering::Relaxed) {
            0 => i64::MAX,
            _ => i64::from(now.wrapping_sub(self.value.load(Ordering::Relaxed) as Tick).cast_signed()),
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([Cell; WAYS]);

/// The clients that one worker knows.
#[derive(Debug)]
struct Table {
    buckets: Box<[Bucket]>,
}

impl Table {
    fn bucket(&self, mark: Mark) -> &Bucket {
        &self.buckets[(mark.0 >> 40) as usize & (self.buckets.len() - 1)]
    }
}

/// The clients that workers know.
#[derive(Debug)]
pub struct Clients {
    secret: Secret,
    /// By worker. Writer of each: that worker.
    tables: Box<[Table]>,
}

impl Clients {
    /// Tables for as many workers as there are, each for a quarter as many clients as it may have connections.
    pub fn new(workers: u8, max_connections: usize, secret: Secret) -> Arc<Self> {
        let buckets = (max_connections / (4 * WAYS)).next_power_of_two();
        let buckets = buckets.clamp(*BUCKETS.start(), *BUCKETS.end());
        let table = |_| Table { buckets: (0..buckets).map(|_| Bucket::default()).collect() };
        Arc::new(Self { secret, tables: (0..workers.max(1)).map(table).collect() })
    }

    /// Bytes of memory for each connection that a worker may have.
    pub const fn bytes_per_connection() -> u64 {
        (size_of::<Bucket>() / (4 * WAYS)) as u64
    }

    /// Of a client of the service with number `service`.
    pub fn mark(&self, service: u32, client: IpAddr) -> Mark {
        Mark::new(&self.secret, service, client)
    }

    /// The slot of the backend that the client has, if a worker gave it one within `timeout`.
    pub fn find(&self, mark: Mark, now: Tick, timeout: Tick) -> Option<u32> {
        let known = |table: &Table| table.bucket(mark).0.iter().find_map(|cell| cell.read(mark));
        // Workers' clocks are a little apart: what another one has just written may be of the future.
        let fresh = |seen: Tick| i64::from(now.wrapping_sub(seen).cast_signed()) <= i64::from(timeout);
        self.tables.iter().filter_map(known).find(|&(_, seen)| fresh(seen)).map(|(slot, _)| slot)
    }

    /// `worker` gave the client the backend in `slot`.
    pub fn note(&self, worker: u8, mark: Mark, slot: u32, now: Tick) {
        let Some(table) = self.tables.get(usize::from(worker)) else { return };
        let cells = &table.bucket(mark).0;
        let known = cells.iter().find(|cell| cell.mark.load(Ordering::Relaxed) == mark.0);
        if let Some(cell) = known.or_else(|| cells.iter().max_by_key(|cell| cell.age(now))) {
            cell.write(mark, slot, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clients(workers: u8) -> Arc<Clients> {
        Clients::new(workers, 0, Secret::new(std::array::from_fn(|i| (i * 73 + 11) as u8)))
    }

    fn mark(clients: &Clients, n: u32) -> Mark {
        clients.mark(1, IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn known_for_a_while() {
        let clients = clients(2);
        let one = mark(&clients, 1);
        assert_eq!(clients.find(one, 0, 1000), None);
        clients.note(1, one, 7, 5000);
        assert_eq!(clients.find(one, 6000, 1000), Some(7));
        assert_eq!(clients.find(one, 6001, 1000), None);
        // Seen from a worker whose clock is behind, and across the end of the clock.
        assert_eq!(clients.find(one, 4990, 1000), Some(7));
        clients.note(1, one, 8, u32::MAX - 10);
        assert_eq!(clients.find(one, 900, 1000), Some(8));
        assert_eq!(clients.find(one, 1000, 1000), None);
        let other = clients.mark(2, IpAddr::from(1u32.to_be_bytes()));
        assert_eq!(clients.find(other, 0, 1000), None, "another service");
    }

    #[test]
    fn workers_that_chose_differently_agree() {
        let clients = clients(3);
        let one = mark(&clients, 1);
        clients.note(2, one, 20, 0);
        clients.note(1, one, 10, 0);
        assert_eq!(clients.find(one, 1, 1000), Some(10));
        clients.note(2, one, 10, 900);
        // The first memory is over, the other one says the same.
        assert_eq!(clients.find(one, 1500, 1000), Some(10));
    }

    #[test]
    fn a_full_table_forgets_who_was_away_longest() {
        let clients = clients(1);
        for n in 0..10_000 {
            clients.note(0, mark(&clients, n), n, n);
        }
        let known =
            (0..10_000).filter(|&n| clients.find(mark(&clients, n), 10_000, 20_000).is_some()).count();
        assert_eq!(known, BUCKETS.start() * WAYS);
        let late = (9990..10_000).filter(|&n| clients.find(mark(&clients, n), 10_000, 20_000) == Some(n));
        assert_eq!(late.count(), 10);
    }

    #[test]
    fn prefixes_make_clients() {
        let affinity = Affinity { timeout: 0, prefix_v4: 24, prefix_v6: 64 };
        let client = |text: &str| affinity.client(text.parse().unwrap()).to_string();
        assert_eq!(client("198.51.100.77"), "198.51.100.0");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn readers_never_see_another_clients_backend() {
        let clients = clients(1);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200u32 {
                    for n in 0..1000 {
                        clients.note(0, mark(&clients, n), n, round);
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            while !stop.load(Ordering::Relaxed) {
                for n in 0..1000 {
                    assert!(clients.find(mark(&clients, n), 0, 1 << 30).is_none_or(|slot| slot == n));
                }
            }
        });
    }

    proptest! {
        #[test]
        fn what_is_noted_is_found(slots in proptest::collection::vec(0..MAX_BACKENDS as u32, 1..60)) {
            let clients = clients(1);
            for (n, &slot) in (0..).zip(&slots) {
                clients.note(0, mark(&clients, n), slot, 0);
            }
            let last = slots.len() as u32 - 1;
            prop_assert_eq!(clients.find(mark(&clients, last), 5, 10), slots.last().copied());
        }
    }
}
