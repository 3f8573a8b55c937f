//! Steering: which worker owns a connection, so that both of its directions meet in one table.
//!
//! Pure functions of addresses and ports, the same on every worker. Correctness never depends on what a NIC does: a packet
//! that arrives elsewhere is handed to its owner. Where it is known how the ports spread packets, the owner is the worker
//! that they deliver to, and hand-off is rare:
//!
//! | steering | the ports hash | connections by `nat` | by `full-nat` | by `dsr` |
//! | --- | --- | --- | --- | --- |
//! | keyed | anything | secret hash of the client's end | the same; the local port alone names the owner of an answer | the same as `nat` |
//! | one end | the outer end, whichever way a packet goes | that hash of the client's end | the same; that hash of the local end names the owner of an answer | the same as `nat` |
//! | both ends | source and destination | as keyed | that hash of the request, and that of the answer | that hash of the request |
//!
//! With `full-nat` a worker chooses the local port, and takes one for which the answer's owner is itself.
//!
//! A symmetric hash helps nowhere here: `nat` and `full-nat` change addresses between the two directions, and of `dsr` only
//! one direction comes by.
//!
//! A known hash with a known key would let clients aim at one worker, so the keys that ports are given are random. The
//! hash is linear under any key: who could see which worker takes a flow could find others for it. Nobody outside can.

pub mod deal;
mod ports;
pub mod toeplitz;

pub use ports::LocalPorts;

use crate::flow::Secret;
use crate::wire::fragment::Fragment;
use ctl::config::{Mode, Ports, Runtime};
use std::net::IpAddr;
use toeplitz::Toeplitz;

/// One end of a flow.
pub type End = (IpAddr, u16);

/// How ports spread packets over workers: hash of the headers, and the worker behind each of its values.
#[derive(Debug, Clone)]
pub struct Spread {
    toeplitz: Toeplitz,
    /// By hash, modulo their number, which is a power of two.
    workers: Box<[u8]>,
}

impl Spread {
    /// Packets go by the hash under `key` to `workers`; `None` if that says too little, or if no choice of a port would
    /// bring packets to some of them.
    pub fn new(key: &[u8], workers: Vec<u8>) -> Option<Self> {
        let toeplitz = Toeplitz::new(key)?;
        let useful = workers.len().is_power_of_two() && toeplitz.ports_reach_all(workers.len().ilog2());
        useful.then(|| Self { toeplitz, workers: workers.into() })
    }

    #[inline]
    fn worker(&self, hash: u32) -> u8 {
        self.workers[hash as usize & (self.workers.len() - 1)]
    }

    /// The worker that a port delivers to which hashes one end of a packet.
    pub fn by_one_end(&self, end: End) -> u8 {
        self.worker(self.toeplitz.one_end(end))
    }

    /// The worker that a port delivers to which hashes both ends.
    pub fn by_both_ends(&self, source: End, destination: End) -> u8 {
        self.worker(self.toeplitz.both_ends(source, destination))
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Keyed,
    OneEnd(Spread),
    BothEnds(Spread),
}

/// The owners of all connections.
#[derive(Debug, Clone)]
pub struct Steering {
    workers: u8,
    secret: Secret,
    kind: Kind,
    /// The local ports of `full-nat`.
    local: Ports,
}

impl Steering {
    /// Owners by a secret hash: for ports of which nothing is known.
    pub fn keyed(workers: u8, secret: Secret) -> Self {
        let local = Runtime::DEFAULT_LOCAL_PORTS;
        Self { workers: workers.max(1), secret, kind: Kind::Keyed, local }
    }

    /// Owners for ports that hash the outer end of packets: the source of what comes from clients, the destination of what
    /// comes from backends.
    pub fn one_end(workers: u8, secret: Secret, spread: Spread) -> Self {
        Self { kind: Kind::OneEnd(spread), ..Self::keyed(workers, secret) }
    }

    /// Owners for ports that hash both ends of packets.
    pub fn both_ends(workers: u8, secret: Secret, spread: Spread) -> Self {
        Self { kind: Kind::BothEnds(spread), ..Self::keyed(workers, secret) }
    }

    /// The same, with these local ports for `full-nat`.
    #[must_use]
    pub fn with_local_ports(self, local: Ports) -> Self {
        Self { local, ..self }
    }

    /// Whether `full-nat` may use `port` as a local port.
    pub fn is_local_port(&self, port: u16) -> bool {
        self.local.contains(port)
    }

    /// How many workers there are.
    pub fn workers(&self) -> u8 {
        self.workers
    }

    /// Who owns the connection of a packet from a client to a service of that mode.
    #[inline]
    pub fn owner_of_request(&self, mode: Mode, client: End, service: End) -> u8 {
        match &self.kind {
            _ if self.workers == 1 => 0,
            Kind::OneEnd(spread) => spread.by_one_end(client),
            Kind::BothEnds(spread) if mode != Mode::Nat => spread.by_both_ends(client, service),
            Kind::Keyed | Kind::BothEnds(_) => self.keyed_owner(client),
        }
    }

    /// Who owns the connection of a packet that goes from a backend to a client, as with `nat`.
    #[inline]
    pub fn owner_of_answer(&self, client: End) -> u8 {
        match &self.kind {
            _ if self.workers == 1 => 0,
            Kind::OneEnd(spread) => spread.by_one_end(client),
            Kind::Keyed | Kind::BothEnds(_) => self.keyed_owner(client),
        }
    }

    /// Who keeps track of the datagram that a fragment belongs to.
    pub fn home_of_datagram(&self, fragment: &Fragment) -> u8 {
        let &Fragment { source, destination, identification, .. } = fragment;
        let hash = self.secret.mix_datagram(source, destination, identification);
        // The high bits choose places in the worker's table.
        (((hash & 0xffff_ffff) * u64::from(self.workers)) >> 32) as u8
    }

    fn keyed_owner(&self, (address, port): End) -> u8 {
        let hash = self.secret.mix_endpoint(address, port);
        (((hash >> 32) * u64::from(self.workers)) >> 32) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes without a pattern.
    const KEY: [u8; 52] = {
        let (mut key, mut state) = ([0; 52], 1u32);
        let mut at = 0;
        while at < key.len() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            key[at] = (state >> 24) as u8;
            at += 1;
        }
        key
    };

    fn spread(workers: u8) -> Spread {
        Spread::new(&KEY, (0..128).map(|n| n % workers).collect()).unwrap()
    }

    pub(super) fn every(workers: u8) -> [Steering; 3] {
        let secret = Secret::new([7; 48]);
        [
            Steering::keyed(workers, secret),
            Steering::one_end(workers, secret, spread(workers)),
            Steering::both_ends(workers, secret, spread(workers)),
        ]
    }

    proptest! {
        /// What nat stands on: the request names the owner by the client, the answer by the same client.
        #[test]
        fn both_directions_of_nat_name_one_worker(
            workers in 1u8..=64, v6: bool, bytes: [u8; 16], port: u16, vip: [u8; 4], vport: u16,
        ) {
            let [a, b, c, d, ..] = bytes;
            let address: IpAddr = if v6 { bytes.into() } else { [a, b, c, d].into() };
            for steering in every(workers) {
                let owner = steering.owner_of_request(Mode::Nat, (address, port), (vip.into(), vport));
                prop_assert_eq!(owner, steering.owner_of_answer((address, port)));
                prop_assert!(owner < workers);
            }
        }
    }

    #[test]
    fn every_worker_gets_its_share() {
        for steering in every(5) {
            for mode in Mode::ALL {
                let mut counts = [0; 5];
                for n in 0..50_000u32 {
                    let client = (IpAddr::from((0xc633_6400 + n % 200).to_be_bytes()), (1024 + n / 7) as u16);
                    let owner = steering.owner_of_request(*mode, client, ([192, 0, 2, 1].into(), 80));
                    counts[usize::from(owner)] += 1;
                }
                // 128 entries for 5 workers: 26 or 25 of them each.
                assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{mode} {counts:?}");
            }
        }
    }

    #[test]
    fn a_table_that_is_no_power_of_two_is_not_understood() {
        assert!(Spread::new(&KEY, vec![0; 96]).is_none());
        assert!(Spread::new(&KEY, vec![]).is_none());
        assert!(Spread::new(&KEY[..20], vec![0; 64]).is_none());
        // Under this key all ports have one hash.
        assert!(Spread::new(&[0; 52], vec![0; 64]).is_none());
    }
}
