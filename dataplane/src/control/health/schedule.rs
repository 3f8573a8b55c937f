//! When each check is due.
//!
//! A check's times lie on a grid of its own, `phase + n × interval`, spread evenly over the checks. What makes one of
//! them late (jitter, a full house) does not move the next, so that nothing drifts.

use super::super::neighbors::Millis;

/// The times of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rhythm {
    interval: Millis,
    /// Less than the interval.
    phase: Millis,
    /// Most that a check is late on purpose.
    jitter: Millis,
    /// What the phase and all jitters come from.
    seed: u64,
}

impl Rhythm {
    /// `jitter` in percent of the interval, in milliseconds; `seed`: a number that others do not have.
    pub(super) fn new(interval: Millis, jitter: u8, seed: u64) -> Self {
        let interval = interval.max(1);
        let jitter = interval * Millis::from(jitter) / 100;
        Self { interval, phase: scatter(seed, u64::MAX) % interval, jitter, seed }
    }

    /// The next time after `now`.
    pub(super) fn next(&self, now: Millis) -> Millis {
        let beat = (now + self.interval).saturating_sub(self.phase) / self.interval;
        let late =
            |beat: u64| if self.jitter == 0 { 0 } else { scatter(self.seed, beat) % (self.jitter + 1) };
        self.phase + beat * self.interval + late(beat)
    }

    /// The next time after a check that was made out of turn: not so soon that it would tell nothing new.
    pub(super) fn next_but_not_at_once(&self, now: Millis) -> Millis {
        self.next(now + self.interval / 2)
    }
}

/// A number that looks random: the finaliser of SplitMix64.
fn scatter(seed: u64, step: u64) -> u64 {
    let mut word = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_never_drifts(interval in 10u64..100_000, jitter in 0u8..=50, seed in any::<u64>(), delays in proptest::collection::vec(0u64..20, 1..200)) {
            let rhythm = Rhythm::new(interval, jitter, seed);
            let mut now = 1_000_000;
            let mut due = rhythm.next(now);
            for (count, delay) in delays.iter().enumerate() {
                // Each is run a little late, as a busy thread would.
                now = due + (delay * interval / 100).min(interval / 4);
                let next = rhythm.next(now);
                prop_assert!(next > now);
                prop_assert!(next - due <= interval * 2 + interval * u64::from(jitter) / 100);
                let grid = (next - rhythm.phase) % interval;
                prop_assert!(grid <= interval * u64::from(jitter) / 100, "{count}: off the grid by {grid}");
                due = next;
            }
        }
    }

    #[test]
    fn every_beat_is_served_once() {
        for jitter in [0, 10, 50] {
            let rhythm = Rhythm::new(1000, jitter, 7);
            let (mut now, mut times) = (0, Vec::new());
            while times.len() < 100 {
                now = rhythm.next(now);
                times.push(now);
            }
            let beats: Vec<u64> = times.iter().map(|time| (time - rhythm.phase) / 1000).collect();
            assert!(beats.windows(2).all(|pair| pair[1] == pair[0] + 1), "{beats:?}");
        }
    }

    #[test]
    fn thousands_are_spread_evenly() {
        let mut tenths = [0u32; 10];
        for seed in 0..10_000 {
            tenths[(Rhythm::new(2000, 0, seed).next(0) - 1) as usize / 200] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_check_out_of_turn_is_not_followed_at_once() {
        for seed in 0..100 {
            let rhythm = Rhythm::new(2000, 10, seed);
            let next = rhythm.next_but_not_at_once(5_000_000);
            assert!((5_001_001..=5_003_200).contains(&next), "{next}");
        }
    }
}
