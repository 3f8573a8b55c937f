//! The highest rate without loss, by bisection (RFC 2544 section 26.1), and what rates over time say.

use serde::Serialize;

/// Halves the span between a rate that passed and one that did not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    passed: f64,
    failed: f64,
    /// Ends when the span is this share of the upper end.
    resolution: f64,
    /// The next to try, unless the middle.
    first: Option<f64>,
}

impl Search {
    /// Between nothing and `highest`, which is tried first.
    pub(crate) fn new(highest: f64, resolution: f64) -> Self {
        Self { passed: 0.0, failed: highest, resolution, first: Some(highest) }
    }

    /// The next rate to try; `None` when it is found.
    pub(crate) fn next(&self) -> Option<f64> {
        if self.first.is_some() {
            return self.first;
        }
        let open = self.failed - self.passed > self.failed * self.resolution;
        open.then_some(f64::midpoint(self.passed, self.failed))
    }

    /// What came of the rate that [`Search::next`] named.
    pub(crate) fn tell(&mut self, rate: f64, passed: bool) {
        self.first = None;
        if passed {
            self.passed = self.passed.max(rate);
            self.failed = self.failed.max(rate);
        } else {
            self.failed = rate;
        }
    }

    /// The highest rate that passed.
    pub(crate) fn found(&self) -> f64 {
        self.passed
    }
}

/// Rates of several windows that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct State {
    pub(crate) packets_per_second: f64,
    pub(crate) windows: usize,
}

/// A step from one rate to the next by more than this factor is another state of the link, not its noise.
const STEP: f64 = 1.25;

/// The stable states that rates of windows show, slowest first: each with its median.
pub(crate) fn states(rates: &[f64]) -> Vec<State> {
    let mut rates: Vec<f64> = rates.iter().copied().filter(|rate| *rate > 0.0).collect();
    rates.sort_by(f64::total_cmp);
    rates
        .chunk_by(|a, b| b / a < STEP)
        .map(|chunk| State { packets_per_second: median(chunk), windows: chunk.len() })
        .collect()
}

/// The middle of sorted or unsorted values; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len.is_multiple_of(2) => f64::midpoint(values[len / 2 - 1], values[len / 2]),
        len => values[len / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A device that loses packets above a rate: it is found to within the resolution, from below.
        #[test]
        fn the_edge_is_found(edge in 0.02f64..1.5) {
            let mut search = Search::new(1.0, 0.01);
            let mut trials = 0;
            while let Some(rate) = search.next() {
                search.tell(rate, rate <= edge);
                trials += 1;
                prop_assert!(trials < 20);
            }
            let expected = edge.min(1.0);
            prop_assert!(search.found() <= expected && search.found() >= expected * 0.98, "{}", search.found());
        }
    }

    #[test]
    fn a_device_that_never_passes_is_not_found() {
        let mut search = Search::new(1e6, 0.01);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            search.tell(rate, false);
            trials += 1;
            if trials > 60 {
                break;
            }
        }
        assert!(search.found() < 1.0);
    }

    #[test]
    fn two_states_are_told_apart_and_noise_is_not() {
        let states = states(&[8.1, 18.0, 7.9, 18.5, 17.5, 8.0]);
        assert_eq!(
            states,
            [State { packets_per_second: 8.0, windows: 3 }, State { packets_per_second: 18.0, windows: 3 }]
        );
        assert_eq!(super::states(&[10.0, 11.0, 12.0, 13.0]).len(), 1);
        assert_eq!(super::states(&[]), []);
    }
}
