//! Drains: backends on their way out, their deadlines, and what becomes of the connections that are left then.
//!
//! A backend that an operator drains, or that is gone from the configuration, gets no new connections and keeps its old
//! ones. At the deadline, if there is one, they go on or are reset, as the operator asked.

use super::balancer::Balancer;
use super::events::About;
use super::model::Admin;
use super::slots;
use ctl::api::{DrainEnd, EventKind};
use std::time::Instant;

/// The end of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    pub at: Instant,
    pub then: DrainEnd,
    /// It passed, and that was said.
    pub late: bool,
}

impl Deadline {
    pub fn new(at: Instant, then: DrainEnd) -> Self {
        Self { at, then, late: false }
    }

    pub fn remaining_seconds(&self) -> f64 {
        self.at.saturating_duration_since(Instant::now()).as_secs_f64()
    }

    /// Whether it has just passed.
    fn strikes(&mut self, now: Instant) -> bool {
        let strikes = !self.late && self.at <= now;
        self.late |= strikes;
        strikes
    }
}

impl Balancer {
    /// Ends the drains that are done, and does what was asked for those that are late.
    pub(super) fn review_drains(&mut self) {
        let counters = self.links.counters();
        let settled = self.is_acknowledged(self.generation());
        let now = Instant::now();
        // Slots whose deadline struck, with what is left.
        let mut late = Vec::new();
        for service in &mut self.model.services {
            for backend in &mut service.backends {
                let Admin::Draining { deadline } = &mut backend.admin else { continue };
                let left = slots::active(&counters, backend.slot);
                let (address, name) = (backend.config.address, &service.config.name);
                if settled && left == 0 {
                    let message = format!("backend {address} of service {name:?} is drained");
                    self.events.record(EventKind::DrainEnded, About::backend(name, address), message);
                    backend.admin = Admin::Disabled;
                } else if let Some(deadline) = deadline.as_mut().filter(|_| left > 0)
                    && deadline.strikes(now)
                {
                    late.push((backend.slot, name.clone(), address, left, deadline.then));
                }
            }
        }
        for (slot, owner) in self.model.slots.retired_mut() {
            let left = slots::active(&counters, slot);
            if let Some(deadline) = owner.deadline.as_mut().filter(|_| left > 0)
                && deadline.strikes(now)
            {
                late.push((slot, owner.service.to_string(), owner.address, left, deadline.then));
            }
        }
        for (slot, name, address, left, then) in late {
            let what = match then {
                DrainEnd::Reset => "which are reset now",
                DrainEnd::Keep => "which go on",
            };
            let message = format!(
                "backend {address} of service {name:?} still has {left} connections at its deadline, {what}"
            );
            self.events.record(EventKind::DrainLate, About::backend(&name, address), message);
            if then == DrainEnd::Reset {
                self.model.slots.set_resetting(slot, true);
                self.changed = true;
            }
        }
        // Nothing is left to be reset.
        self.changed |= settled && self.model.slots.end_resets(&counters);
    }
}
