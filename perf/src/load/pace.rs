//! How fast packets are offered.

/// Packets that may be made up for after a pause: more at once than a ring takes would be lost there.
const CATCH_UP: u64 = 128;

/// A rate, kept by the clock: so many packets since the start, none early.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Packets a cycle, in units of 2^-64.
    step: u128,
    start: u64,
    issued: u64,
}

impl Pace {
    /// `rate` packets a second from cycle `start` on, at `hertz` cycles a second.
    pub(crate) fn new(rate: f64, hertz: u64, start: u64) -> Self {
        Self { step: (rate / hertz as f64 * 2f64.powi(64)) as u128, start, issued: 0 }
    }

    /// Packets that are due at cycle `now`; they count as issued once [`Pace::issue`] says so. What is late by more than
    /// the catch-up is forgone.
    #[inline(always)]
    pub(crate) fn due(&mut self, now: u64) -> u64 {
        let total = ((u128::from(now.saturating_sub(self.start)) * self.step) >> 64) as u64;
        let due = total.saturating_sub(self.issued);
        if due > CATCH_UP {
            self.issued = total - CATCH_UP;
            return CATCH_UP;
        }
        due
    }

    #[inline(always)]
    pub(crate) fn issue(&mut self, packets: u64) {
        self.issued += packets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_early_and_never_more_than_one_behind(
            rate in 1000.0f64..2e7, start: u32, steps in proptest::collection::vec(1u64..5_000, 1..200)
        ) {
            let hertz = 2_500_000_000;
            let mut pace = Pace::new(rate, hertz, u64::from(start));
            let (mut now, mut issued) = (u64::from(start), 0);
            for step in steps {
                now += step;
                let due = pace.due(now);
                pace.issue(due);
                issued += due;
                let exact = (now - u64::from(start)) as f64 * rate / hertz as f64;
                prop_assert!(issued as f64 <= exact + 1e-6 && issued as f64 > exact - 1.000001, "{issued} {exact}");
            }
        }
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(1e6, 1_000_000_000, 0);
        assert_eq!(pace.due(1_000_000_000), CATCH_UP);
        pace.issue(CATCH_UP);
        assert_eq!(pace.due(1_000_000_000), 0);
        assert_eq!(pace.due(1_000_001_000), 1);
    }

    #[test]
    fn what_was_not_issued_stays_due() {
        let mut pace = Pace::new(1e6, 1_000_000, 0);
        assert_eq!(pace.due(10), 10);
        pace.issue(4);
        assert_eq!(pace.due(11), 7);
    }
}
