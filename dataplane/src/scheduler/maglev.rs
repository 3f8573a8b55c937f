//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4), with weights.
//!
//! The paper lets backends take turns in filling the table from their own permutations. Here a backend of weight `w`
//! takes `w / w_max` turns a round, so that its share of the table is proportional to its weight, rounded to a slot (of
//! 65,537: 0.0015 % of the whole); the heaviest makes up for what the rounding of the others leaves.

use super::{Candidate, Cursor, MaglevParameters, Scheduler};
use crate::flow::stable_hash;
use std::net::IpAddr;

/// A filled table.
#[derive(Debug)]
pub struct Maglev {
    /// Position in `slots`, by hash.
    table: Box<[u16]>,
    slots: Box<[u32]>,
}

/// No backend has taken this position yet.
const EMPTY: u16 = u16::MAX;

impl Maglev {
    /// Fills the table; at most 65,534 candidates count.
    pub fn new(candidates: &[Candidate], parameters: MaglevParameters) -> Self {
        let mut order: Vec<&Candidate> =
            candidates.iter().filter(|c| c.weight > 0).take(usize::from(EMPTY)).collect();
        // The result must not depend on the order in the file, so that balancers agree.
        order.sort_by_key(|c| (c.address, c.port));
        if order.is_empty() {
            return Self { table: Box::default(), slots: Box::default() };
        }
        let size = u64::from(parameters.table_size.max(3));
        let mut turns: Vec<Permutation> =
            order.iter().map(|c| Permutation::new(c, parameters.seed, size)).collect();
        let heaviest = u64::from(order.iter().map(|c| c.weight).max().unwrap_or(1));
        // Half a turn ahead, so that shares are rounded, not cut.
        let mut credit = vec![heaviest / 2; order.len()];
        let mut table = vec![EMPTY; size as usize];
        let mut left = size;
        'fill: loop {
            for (i, candidate) in order.iter().enumerate() {
                credit[i] += u64::from(candidate.weight);
                if credit[i] < heaviest {
                    continue;
                }
                credit[i] -= heaviest;
                let position = turns[i].next_free(&table);
                table[position] = i as u16;
                left -= 1;
                if left == 0 {
                    break 'fill;
                }
            }
        }
        Self { table: table.into(), slots: order.iter().map(|c| c.slot).collect() }
    }
}

impl Scheduler for Maglev {
    fn uses_hash(&self) -> bool {
        true
    }

    fn pick(&self, hash: u64, _: &mut Cursor) -> Option<u32> {
        let position = (u128::from(hash) * self.table.len() as u128) >> 64;
        let index = *self.table.get(position as usize)?;
        self.slots.get(usize::from(index)).copied()
    }
}

/// A backend's own order of the table's positions: `offset + j * skip (mod size)`.
struct Permutation {
    position: u64,
    skip: u64,
    size: u64,
}

impl Permutation {
    fn new(candidate: &Candidate, seed: u64, size: u64) -> Self {
        let mut name = Vec::with_capacity(18);
        match candidate.address {
            IpAddr::V4(v4) => name.extend(v4.octets()),
            IpAddr::V6(v6) => name.extend(v6.octets()),
        }
        name.extend(candidate.port.to_be_bytes());
        Self {
            position: stable_hash(&name, seed) % size,
            skip: stable_hash(&name, !seed) % (size - 1) + 1,
            size,
        }
    }

    /// The first position in this order that nobody has; there is one.
    fn next_free(&mut self, table: &[u16]) -> usize {
        loop {
            let position = self.position as usize;
            self.position = (self.position + self.skip) % self.size;
            if table[position] == EMPTY {
                return position;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let backend = |(i, &weight): (usize, &u16)| Candidate {
            slot: i as u32,
            address: [10, 1, (i >> 8) as u8, i as u8].into(),
            port: 80,
            weight,
        };
        weights.iter().enumerate().map(backend).collect()
    }

    fn shares(maglev: &Maglev, backends: usize) -> Vec<usize> {
        let mut count = vec![0; backends];
        for &index in &maglev.table {
            count[maglev.slots[usize::from(index)] as usize] += 1;
        }
        count
    }

    proptest! {
        #[test]
        fn shares_are_proportional_to_weights(weights in proptest::collection::vec(0u16..=1000, 1..40)) {
            prop_assume!(weights.iter().any(|&w| w > 0));
            let maglev = Maglev::new(&candidates(&weights), MaglevParameters::default());
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (share, &weight) in shares(&maglev, weights.len()).iter().zip(&weights) {
                let exact = 65537.0 * f64::from(weight) / total;
                let rounding = 1.0 + weights.len() as f64 / 2.0;
                prop_assert!((*share as f64 - exact).abs() <= rounding, "share {share}, exact {exact}");
            }
        }

        #[test]
        fn order_in_the_file_does_not_matter(weights in proptest::collection::vec(1u16..100, 2..20), rotate in 1usize..19) {
            let mut list = candidates(&weights);
            let parameters = MaglevParameters { table_size: 1009, ..Default::default() };
            let one = Maglev::new(&list, parameters);
            let at = rotate % list.len();
            list.rotate_left(at);
            let other = Maglev::new(&list, parameters);
            for hash in (0..5000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                prop_assert_eq!(one.pick(hash, &mut Cursor::default()), other.pick(hash, &mut Cursor::default()));
            }
        }
    }

    #[test]
    fn removing_one_of_a_hundred_moves_few_others() {
        let all = candidates(&[100; 100]);
        let before = Maglev::new(&all, MaglevParameters::default());
        let after = Maglev::new(&all[1..], MaglevParameters::default());
        let moved = (0..before.table.len())
            .filter(|&i| {
                let was = before.slots[usize::from(before.table[i])];
                was != 0 && was != after.slots[usize::from(after.table[i])]
            })
            .count();
        assert!(moved * 100 <= before.table.len() * 2, "{moved} of {} moved", before.table.len());
    }

    #[test]
    fn output_is_part_of_the_interface() {
        // Balancers of different versions serve the same VIP side by side: this table must never change.
        let maglev = Maglev::new(&candidates(&[1, 2, 3]), MaglevParameters { seed: 7, table_size: 13 });
        let picks: Vec<u16> = maglev.table.to_vec();
        assert_eq!(picks, GOLDEN);
    }

    const GOLDEN: [u16; 13] = [2, 2, 1, 1, 2, 2, 1, 1, 0, 0, 2, 1, 2];

    #[test]
    fn nobody_to_pick() {
        for list in [candidates(&[]), candidates(&[0, 0])] {
            let maglev = Maglev::new(&list, MaglevParameters::default());
            assert_eq!(maglev.pick(123, &mut Cursor::default()), None);
        }
    }
}
