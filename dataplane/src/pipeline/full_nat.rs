//! The local end of a connection by `full-nat`: the address and port that the backend sees in place of the client's.
//!
//! The worker takes ports whose answers come back to it (`steering`), so no other worker has an entry with the same key of
//! answers: what is free in this table is free. One local port serves as many connections as there are backends, for the
//! backend is part of the key.
//!
//! Ports are taken in turn. The entry of a connection that is over stays in the table until its timeout, as long as the
//! backend remembers the connection too, and keeps its port from being taken: that is its quarantine.

use super::Shared;
use crate::conn::Table;
use crate::flow::{FlowKey, Secret};
use crate::rewrite::Rewrite;
use crate::steering::End;
use std::net::IpAddr;

/// Ports tried for one connection, of all local addresses together: the first is free unless the addresses are used up.
const PROBES: usize = 64;
/// Ports tried of one address before the next one's turn, if there are others.
const PROBES_EACH: usize = 16;
/// Places where the search goes on; addresses beyond that many share them.
const CURSORS: usize = 1024;

/// Where this worker's search for ports stands.
#[derive(Debug)]
pub(super) struct LocalEnds {
    /// The address whose turn it is, modulo their number.
    next_address: usize,
    /// By address: the port to begin with.
    cursors: Box<[u16]>,
}

impl LocalEnds {
    /// Begins anywhere: the connections of an earlier run may not be over for the backends.
    pub(super) fn new(secret: &Secret) -> Self {
        let anywhere = |n: usize| secret.mix_endpoint([0, 0, 0, 0].into(), n as u16) as u16;
        Self { next_address: 0, cursors: (0..CURSORS).map(anywhere).collect() }
    }

    fn cursor(&mut self, address: IpAddr) -> &mut u16 {
        let bits = match address {
            IpAddr::V4(v4) => u32::from(v4),
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
            }
        };
        &mut self.cursors[bits as usize % CURSORS]
    }
}

/// The key of the answers from `backend` to one of the local `addresses`, for a new connection; `None` if no port that was
/// tried is free. `peer` is the other family's table, where answers from that backend may be expected too.
#[inline(never)]
pub(super) fn answers<K: Rewrite>(
    table: &Table<K>,
    peer: Option<&Table<K::Peer>>,
    shared: &mut Shared,
    addresses: &[IpAddr],
    protocol: u8,
    backend: End,
) -> Option<K> {
    let (worker, steering, ends) = (shared.worker, &shared.steering, &mut shared.local_ends);
    let each = if addresses.len() > 1 { PROBES_EACH } else { PROBES };
    let first = ends.next_address;
    ends.next_address = first.wrapping_add(1);
    for n in 0..addresses.len().min(PROBES / each) {
        let local = addresses[first.wrapping_add(n) % addresses.len()];
        let cursor = ends.cursor(local);
        for port in steering.local_ports(worker, backend, local, *cursor).take(each) {
            *cursor = port.wrapping_add(1);
            let key = K::new(protocol, backend, (local, port));
            let taken = |peer: &Table<K::Peer>| {
                let key = K::Peer::new(protocol, backend, (local, port));
                peer.find(peer.hash(&key), &key).is_some()
            };
            if table.find(table.hash(&key), &key).is_none() && !peer.is_some_and(taken) {
                return Some(key);
            }
        }
    }
    None
}
