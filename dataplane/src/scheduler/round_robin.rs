//! Weighted round-robin: each backend in turn, heavier ones more often, evenly interleaved.

use super::{Candidate, Cursor, Scheduler};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Most turns in a round; beyond it (coprime weights of several thousands) weights are rounded to fit: a share is off by
/// less than two connections of a million.
const MAX_ROUND: u64 = 262_144;

/// A whole round, laid out at build time; workers step through it from different starts.
#[derive(Debug)]
pub struct RoundRobin {
    round: Box<[u32]>,
}

impl RoundRobin {
    pub fn new(candidates: &[Candidate]) -> Self {
        let usable: Vec<&Candidate> = candidates.iter().filter(|c| c.weight > 0).collect();
        let divisor = usable.iter().fold(0, |d, c| gcd(d, u64::from(c.weight))).max(1);
        let total: u64 = usable.iter().map(|c| u64::from(c.weight) / divisor).sum();
        let turns: Vec<u64> = usable
            .iter()
            .map(|c| {
                let exact = u64::from(c.weight) / divisor;
                if total <= MAX_ROUND { exact } else { ((exact * MAX_ROUND + total / 2) / total).max(1) }
            })
            .collect();
        Self { round: interleave(&turns).into_iter().map(|index| usable[index].slot).collect() }
    }
}

impl Scheduler for RoundRobin {
    fn uses_hash(&self) -> bool {
        false
    }

    fn pick(&self, _: u64, cursor: &mut Cursor) -> Option<u32> {
        if self.round.is_empty() {
            return None;
        }
        let at = cursor.at as usize % self.round.len();
        cursor.at = (at + 1) as u32;
        Some(self.round[at])
    }
}

/// A round in which each has its `turns`, evenly spread: turn `k` of `n` is due in the middle of the `k`th of `n` parts of
/// the round. Of those due at the same time those with fewer turns go first, so that the many do not come in a burst, then
/// the first in the file.
fn interleave(turns: &[u64]) -> Vec<usize> {
    /// When turn `done` of `turns` is due, in half turns of the round, compared as a fraction.
    #[derive(PartialEq, Eq)]
    struct Due {
        done: u64,
        turns: u64,
        index: usize,
    }

    impl Ord for Due {
        fn cmp(&self, other: &Self) -> Ordering {
            let (one, another) = ((2 * self.done + 1) * other.turns, (2 * other.done + 1) * self.turns);
            one.cmp(&another).then(self.turns.cmp(&other.turns)).then(self.index.cmp(&other.index))
        }
    }

    impl PartialOrd for Due {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    let first = |(index, &turns): (usize, &u64)| Reverse(Due { done: 0, turns, index });
    let mut due: BinaryHeap<Reverse<Due>> = turns.iter().enumerate().map(first).collect();
    let mut round = Vec::with_capacity(turns.iter().sum::<u64>() as usize);
    while let Some(Reverse(Due { done, turns, index })) = due.pop() {
        round.push(index);
        if done + 1 < turns {
            due.push(Reverse(Due { done: done + 1, turns, index }));
        }
    }
    round
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let backend = |(i, &weight): (usize, &u16)| Candidate {
            slot: i as u32,
            address: [10, 1, 0, i as u8].into(),
            port: 80,
            weight,
        };
        weights.iter().enumerate().map(backend).collect()
    }

    fn picks(weights: &[u16], n: usize) -> Vec<u32> {
        let scheduler = RoundRobin::new(&candidates(weights));
        let mut cursor = Cursor::default();
        (0..n).map(|_| scheduler.pick(0, &mut cursor).unwrap()).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(picks(&[100, 100, 100], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn heavy_ones_do_not_come_in_bursts() {
        assert_eq!(picks(&[5, 1, 1], 7), [0, 0, 1, 2, 0, 0, 0]);
        assert_eq!(picks(&[4, 2, 2], 8), [0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn nobody_to_pick() {
        assert_eq!(RoundRobin::new(&candidates(&[0])).pick(0, &mut Cursor::default()), None);
    }

    #[test]
    fn a_cursor_from_a_longer_round_is_taken_up() {
        let mut cursor = Cursor::at(1_000_000);
        assert!(RoundRobin::new(&candidates(&[1, 1])).pick(0, &mut cursor).is_some());
    }

    proptest! {
        #[test]
        fn shares_hold(weights in proptest::collection::vec(1u16..=100, 1..8)) {
            let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
            let mut count = vec![0usize; weights.len()];
            for slot in picks(&weights, total * 3) {
                count[slot as usize] += 1;
            }
            for (count, weight) in count.iter().zip(&weights) {
                prop_assert_eq!(*count, usize::from(*weight) * 3);
            }
        }

        #[test]
        fn large_coprime_weights_stay_close(a in 30_000u16..=65_535, b in 30_000u16..=65_535) {
            let n = 200_000;
            let first = picks(&[a, b], n).iter().filter(|&&slot| slot == 0).count() as f64 / n as f64;
            let exact = f64::from(a) / (f64::from(a) + f64::from(b));
            prop_assert!((first - exact).abs() < 0.001);
        }
    }
}
