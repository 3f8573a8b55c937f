//! Weighted round-robin: each backend in turn, heavier ones more often, evenly interleaved.

use super::{Candidate, Cursor, Scheduler};

/// Most turns in a round; beyond it (coprime weights of several thousands) weights are scaled down to fit.
const MAX_ROUND: u64 = 65_536;

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
        let turns: Vec<i64> = usable
            .iter()
            .map(|c| {
                let exact = u64::from(c.weight) / divisor;
                let scaled = if total <= MAX_ROUND { exact } else { (exact * MAX_ROUND / total).max(1) };
                scaled.cast_signed()
            })
            .collect();
        let total: i64 = turns.iter().sum();
        // Smooth weighted round-robin: everyone earns its weight, the richest goes and pays the total. The first of
        // equals goes, so that equal weights give the order of the file.
        let mut credit = vec![0i64; turns.len()];
        let mut round = Vec::with_capacity(total as usize);
        for _ in 0..total {
            for (credit, turn) in credit.iter_mut().zip(&turns) {
                *credit += turn;
            }
            let richest = (0..credit.len()).rev().max_by_key(|&i| credit[i]).unwrap_or(0);
            credit[richest] -= total;
            round.push(usable[richest].slot);
        }
        Self { round: round.into() }
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
        let at = cursor.0 as usize % self.round.len();
        cursor.0 = (at + 1) as u32;
        Some(self.round[at])
    }
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
        assert_eq!(picks(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_to_pick() {
        assert_eq!(RoundRobin::new(&candidates(&[0])).pick(0, &mut Cursor::default()), None);
    }

    #[test]
    fn a_cursor_from_a_longer_round_is_taken_up() {
        let mut cursor = Cursor(1_000_000);
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
