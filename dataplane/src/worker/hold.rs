//! Packets that wait: for a next hop's hardware address, or for the first fragment of their datagram.

use crate::conn::Tick;
use std::collections::VecDeque;

/// Most packets that wait, for all together.
const CAPACITY: usize = 256;
/// Most packets that wait for one: enough for the first packets of a burst of new connections to a next hop, and for all
/// fragments of a datagram.
const PER_KEY: usize = 64;

struct Held<K, P> {
    key: K,
    since: Tick,
    packet: P,
}

/// A bounded queue, oldest first.
pub(super) struct Hold<K, P>(VecDeque<Held<K, P>>);

impl<K: PartialEq, P> Hold<K, P> {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(CAPACITY))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps a packet; `false`, and the packet is gone, if too many wait already.
    #[must_use]
    pub(super) fn push(&mut self, key: K, now: Tick, packet: P) -> bool {
        if self.0.len() == CAPACITY || self.0.iter().filter(|held| held.key == key).count() >= PER_KEY {
            return false;
        }
        self.0.push_back(Held { key, since: now, packet });
        true
    }

    /// The packet that has waited longest for `key`.
    pub(super) fn take(&mut self, key: &K) -> Option<P> {
        let at = self.0.iter().position(|held| held.key == *key)?;
        self.0.remove(at).map(|held| held.packet)
    }

    /// The packet that has waited longest, if that is `limit` milliseconds or more.
    pub(super) fn pop_older(&mut self, now: Tick, limit: Tick) -> Option<P> {
        let oldest = self.0.front()?;
        (now.wrapping_sub(oldest.since) >= limit).then(|| self.0.pop_front().map(|held| held.packet))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::NextHop;

    fn hop(n: u8) -> NextHop {
        NextHop { port: 0, address: [10, 0, 0, n].into() }
    }

    #[test]
    fn keeps_order_and_bounds() {
        let mut hold = Hold::new();
        for n in 0..PER_KEY {
            assert!(hold.push(hop(1), 0, n));
        }
        assert!(!hold.push(hop(1), 0, 99));
        assert!(hold.push(hop(2), 5, 1000));
        assert_eq!(hold.take(&hop(1)), Some(0));
        assert_eq!(hold.take(&hop(1)), Some(1));
        assert_eq!(hold.take(&hop(3)), None);
        assert_eq!(hold.pop_older(999, 1000), None);
        assert_eq!(hold.pop_older(1000, 1000), Some(2));
        let total = (3..=255u8).find(|&n| !hold.push(hop(n), 0, 0)).map(|_| hold.len());
        assert_eq!(total, Some(CAPACITY));
    }
}
