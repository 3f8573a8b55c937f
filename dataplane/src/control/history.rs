//! Configurations that were in force before, and whether the one in force still waits to be confirmed.

use super::overrides::Override;
use ctl::config::Config;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Configurations kept; the oldest goes first.
const KEPT: usize = 16;

/// What takes the place of a configuration when it is rolled back.
#[derive(Debug, Clone)]
pub struct Past {
    pub config: Config,
    /// What operators had changed at run time and the newer configuration gave up.
    pub given_up: Vec<Override>,
}

/// A configuration that goes by itself unless somebody wants it.
#[derive(Debug, Clone, Copy)]
struct Trial {
    end: Instant,
    serial: u64,
}

/// Newest last.
#[derive(Debug, Default)]
pub struct History {
    past: VecDeque<Past>,
    trial: Option<Trial>,
    serial: u64,
}

impl History {
    /// Another configuration took the place of `past`.
    pub fn push(&mut self, past: Past) {
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back(past);
        self.trial = None;
    }

    /// What was in force before.
    pub fn last(&self) -> Option<&Past> {
        self.past.back()
    }

    /// It is in force again.
    pub fn pop(&mut self) {
        self.past.pop_back();
        self.trial = None;
    }

    /// What is in force goes after `time` unless it is confirmed. Returns the number of this trial.
    pub fn begin_trial(&mut self, time: Duration) -> u64 {
        self.serial += 1;
        self.trial = Some(Trial { end: Instant::now() + time, serial: self.serial });
        self.serial
    }

    /// What is in force stays. `false` if it was not on trial.
    pub fn confirm(&mut self) -> bool {
        self.trial.take().is_some()
    }

    /// Whether that trial goes on.
    pub fn is_on_trial(&self, serial: u64) -> bool {
        self.trial.is_some_and(|trial| trial.serial == serial)
    }

    /// Time until what is in force goes, if it is on trial.
    pub fn trial_remaining(&self) -> Option<Duration> {
        self.trial.map(|trial| trial.end.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(seed: u64) -> Past {
        let text = format!("[runtime]\nmaglev_seed = {seed}\n{}", include_str!("history/minimal.toml"));
        Past { config: Config::parse(&text, "test").unwrap(), given_up: Vec::new() }
    }

    #[test]
    fn it_is_bounded_and_goes_back_in_order() {
        let mut history = History::default();
        for seed in 0..40 {
            history.push(past(seed));
        }
        let mut seeds = Vec::new();
        while let Some(last) = history.last() {
            seeds.push(last.config.runtime.maglev_seed);
            history.pop();
        }
        assert_eq!(seeds, (24..40).rev().collect::<Vec<u64>>());
    }

    #[test]
    fn a_trial_ends_once() {
        let mut history = History::default();
        assert!(!history.confirm());
        history.push(past(1));
        let first = history.begin_trial(Duration::from_mins(1));
        assert!(history.is_on_trial(first) && history.trial_remaining().is_some());
        assert!(history.confirm() && !history.confirm() && !history.is_on_trial(first));
        let second = history.begin_trial(Duration::from_mins(1));
        assert!(!history.is_on_trial(first) && history.is_on_trial(second));
        history.pop();
        assert_eq!(history.trial_remaining(), None);
    }
}
