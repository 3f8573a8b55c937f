//! Up or down: what the outcomes of checks make of a backend.

/// What is known of a backend that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not checked yet, and used until it is: all of its service is new, so there is nobody better.
    Assumed,
    /// Not checked yet, and not used until it is: the others of its service are known.
    Untested,
    Up,
    Down,
}

impl Verdict {
    /// Whether it may take new connections.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Assumed | Self::Up)
    }
}

/// Where a backend stands. The first outcome decides by itself; after that it takes `rise` passed checks in a row to
/// come up and `fall` failed ones to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub verdict: Verdict,
    /// Outcomes in a row that speak against the verdict.
    against: u16,
}

impl Standing {
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, against: 0 }
    }

    /// Takes an outcome into account. Returns whether the verdict is another now.
    pub fn hear(&mut self, passed: bool, rise: u16, fall: u16) -> bool {
        let (agrees, wanted) = match self.verdict {
            Verdict::Up => (passed, fall),
            Verdict::Down => (!passed, rise),
            Verdict::Assumed | Verdict::Untested => (false, 1),
        };
        if agrees {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        if self.against < wanted {
            return false;
        }
        *self = Self::new(if passed { Verdict::Up } else { Verdict::Down });
        true
    }

    /// Forgets outcomes that were not enough for another verdict: the check is another now.
    pub fn start_over(&mut self) {
        self.against = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_outcome_decides() {
        for (from, passed, to) in [
            (Verdict::Assumed, true, Verdict::Up),
            (Verdict::Assumed, false, Verdict::Down),
            (Verdict::Untested, true, Verdict::Up),
            (Verdict::Untested, false, Verdict::Down),
        ] {
            let mut standing = Standing::new(from);
            assert!(standing.hear(passed, 5, 5));
            assert_eq!(standing.verdict, to);
        }
        assert!(Verdict::Assumed.is_up() && !Verdict::Untested.is_up());
    }

    #[test]
    fn flapping_changes_nothing() {
        let mut standing = Standing::new(Verdict::Up);
        for passed in [false, false, true, false, false, true, false, false] {
            assert!(!standing.hear(passed, 2, 3));
        }
        assert!(standing.hear(false, 2, 3));
        for passed in [true, false, true, false, true] {
            assert!(!standing.hear(passed, 2, 3));
        }
        assert!(standing.hear(true, 2, 3));
    }

    proptest! {
        /// The model reads the whole history: the verdict is that of the last run which was long enough.
        #[test]
        fn a_run_decides(outcomes in proptest::collection::vec(any::<bool>(), 0..60), rise in 1u16..5, fall in 1u16..5) {
            let mut standing = Standing::new(Verdict::Untested);
            let mut changes = 0;
            for (at, &passed) in outcomes.iter().enumerate() {
                let before = standing.verdict;
                let changed = standing.hear(passed, rise, fall);
                prop_assert_eq!(changed, before != standing.verdict);
                changes += u32::from(changed);
                let history = &outcomes[..=at];
                let mut wanted = if history[0] { Verdict::Up } else { Verdict::Down };
                for end in 1..=history.len() {
                    let last = history[end - 1];
                    let run = history[..end].iter().rev().take_while(|&&one| one == last).count();
                    let needed = if last { rise } else { fall };
                    if run >= usize::from(needed) {
                        wanted = if last { Verdict::Up } else { Verdict::Down };
                    }
                }
                prop_assert_eq!(standing.verdict, wanted);
            }
            prop_assert!(changes as usize <= outcomes.len());
        }
    }
}
