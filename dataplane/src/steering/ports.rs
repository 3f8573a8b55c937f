//! The local ports of `full-nat`: a worker chooses those to which the answers come back to it.
//!
//! No worker asks another: whatever the steering, a local address and port belongs to one worker (for answers from one
//! backend), so a port that is free in the worker's own table is free.

use super::toeplitz::Toeplitz;
use super::{End, Kind, Spread, Steering};
use std::net::IpAddr;

/// Ports of a worker in turn, each once, from a given one on and then round. Where the hash names the owner, about one port
/// in as many as there are workers is its own, and every worker has some (`Toeplitz::ports_reach_all`).
#[derive(Debug)]
pub struct LocalPorts<'a> {
    first: u16,
    count: u32,
    /// The next to look at, counted from `first`.
    at: u32,
    /// Ports that may still be looked at.
    left: u32,
    worker: u8,
    workers: u8,
    owner: Owner<'a>,
}

/// How the owner of a port is found.
#[derive(Debug)]
enum Owner<'a> {
    /// By the port itself.
    Port,
    /// By what the port adds to the hash of the rest.
    Hash { spread: &'a Spread, rest: u32, add: fn(&Toeplitz, bool, u16) -> u32, ipv6: bool },
}

impl Steering {
    /// Who owns the connection of a packet from `backend` to a local address and port.
    #[inline]
    pub fn owner_of_local(&self, backend: End, local: End) -> u8 {
        match &self.kind {
            _ if self.workers == 1 => 0,
            Kind::Keyed => (local.1 % u16::from(self.workers)) as u8,
            Kind::OneEnd(spread) => spread.by_one_end(local),
            Kind::BothEnds(spread) => spread.by_both_ends(backend, local),
        }
    }

    /// The ports of `local`, from `start` on and round, to which answers from `backend` are `worker`'s.
    pub fn local_ports(&self, worker: u8, backend: End, local: IpAddr, start: u16) -> LocalPorts<'_> {
        let ipv6 = local.is_ipv6();
        let owner = match &self.kind {
            Kind::Keyed => Owner::Port,
            Kind::OneEnd(spread) => Owner::Hash {
                spread,
                rest: spread.toeplitz.one_end((local, 0)),
                add: Toeplitz::port_of_one_end,
                ipv6,
            },
            Kind::BothEnds(spread) => Owner::Hash {
                spread,
                rest: spread.toeplitz.both_ends(backend, (local, 0)),
                add: Toeplitz::destination_port_of_both_ends,
                ipv6,
            },
        };
        let (first, count) = (self.local.first(), u32::from(self.local.count()));
        LocalPorts {
            first,
            count,
            at: u32::from(start.saturating_sub(first)) % count,
            left: count,
            worker,
            workers: self.workers,
            owner: if self.workers == 1 { Owner::Port } else { owner },
        }
    }
}

impl Iterator for LocalPorts<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        while self.left > 0 {
            let port = self.first + self.at as u16;
            let (owned, step) = match &self.owner {
                Owner::Port => {
                    let workers = u32::from(self.workers);
                    let ahead = (u32::from(self.worker) + workers - u32::from(port) % workers) % workers;
                    (ahead == 0, ahead.max(1))
                }
                Owner::Hash { spread, rest, add, ipv6 } => {
                    (spread.worker(rest ^ add(&spread.toeplitz, *ipv6, port)) == self.worker, 1)
                }
            };
            let step = step.min(self.left).min(self.count - self.at);
            self.left -= step;
            self.at = (self.at + step) % self.count;
            if owned {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::every;
    use super::*;
    use ctl::config::Ports;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const BACKEND: End = (IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 11)), 8080);

    proptest! {
        #[test]
        fn answers_come_back_to_the_worker_that_chose_the_port(
            workers in 1u8..=16, number in 0u8..16, start: u16, v6: bool, backend: [u8; 16], local: [u8; 16], bport: u16,
        ) {
            let worker = number % workers;
            let address = |bytes: [u8; 16]| -> IpAddr {
                let [a, b, c, d, ..] = bytes;
                if v6 { bytes.into() } else { [a, b, c, d].into() }
            };
            let (backend, local) = ((address(backend), bport), address(local));
            for steering in every(workers) {
                let mut seen = HashSet::new();
                for port in steering.local_ports(worker, backend, local, start).take(64) {
                    prop_assert_eq!(steering.owner_of_local(backend, (local, port)), worker);
                    prop_assert!((1024..=64_511).contains(&port));
                    prop_assert!(seen.insert(port), "{} twice", port);
                }
                prop_assert_eq!(seen.len(), 64);
            }
        }
    }

    #[test]
    fn a_worker_finds_every_port_of_its_own_when_there_are_few() {
        for steering in every(2) {
            let steering = steering.with_local_ports(Ports::new(5000, 5019).unwrap());
            for start in [0, 5000, 5007, 5019, 60_000] {
                let of = |worker| -> Vec<u16> {
                    steering.local_ports(worker, BACKEND, [10, 1, 0, 1].into(), start).collect()
                };
                let all: HashSet<u16> = of(0).into_iter().chain(of(1)).collect();
                assert_eq!((all.len(), of(0).len() + of(1).len()), (20, 20), "{steering:?}");
            }
        }
    }

    #[test]
    fn one_worker_has_all_ports_in_turn() {
        let steering = every(1)[0].clone();
        let ports: Vec<u16> =
            steering.local_ports(0, BACKEND, [10, 1, 0, 1].into(), 64_510).take(4).collect();
        assert_eq!(ports, [64_510, 64_511, 1024, 1025]);
    }
}
