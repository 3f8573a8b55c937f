//! What runs: the configuration in force together with what operators changed since, and the numbers that stay with
//! services and backends through every change.
//!
//! A [`Model`] is a value: a change makes a new one, and only when everything that follows from it could be built does
//! it take the place of the old.

use super::drain::Deadline;
use super::health::Health;
use super::slots::{Slots, Totals};
use crate::counters::MAX_BACKENDS;
use crate::scheduler::{Candidate, Scheduler};
use ctl::api::AdminState;
use ctl::config::{self, BackendAddress};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Services and backends.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// In the order of the configuration.
    pub services: Vec<Service>,
    pub slots: Slots,
}

/// A service as it runs.
#[derive(Debug, Clone)]
pub struct Service {
    /// Stays with the name.
    pub id: u32,
    /// As configured.
    pub config: config::Service,
    pub backends: Vec<Backend>,
    /// Counted for backends that are gone for good.
    pub carried: Totals,
    /// What new connections are given to, and the scheduler made of it.
    pub candidates: Vec<Candidate>,
    pub scheduler: Option<Arc<dyn Scheduler>>,
}

/// A backend as it runs.
#[derive(Debug, Clone)]
pub struct Backend {
    /// As configured.
    pub config: config::Backend,
    pub slot: u32,
    pub admin: Admin,
    /// What operators made of the configured weight.
    pub weight: u16,
    /// `None`: nothing checks it.
    pub health: Option<Health>,
    /// On the way to its weight.
    pub ramp: Option<Ramp>,
}

/// Slow start: how much of its weight a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    since: Instant,
    /// Of [`RAMP_STEPS`].
    step: u16,
}

/// Steps from nothing to the whole weight.
const RAMP_STEPS: u16 = 20;

impl Ramp {
    /// The step at `now`, when the whole way takes `time`; those of short ways are longer than their share.
    fn step_at(self, now: Instant, time: Duration) -> u16 {
        let passed = now.saturating_duration_since(self.since).as_millis();
        let steps = u128::from(RAMP_STEPS).min(time.as_millis() / 1000).max(1);
        let step = passed * steps / time.as_millis().max(1);
        // The first is not nothing: that would be no start at all.
        (step * u128::from(RAMP_STEPS) / steps).clamp(1, u128::from(RAMP_STEPS)) as u16
    }
}

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    Enabled,
    Disabled,
    /// Until its connections are gone; then disabled.
    Draining {
        deadline: Option<Deadline>,
    },
}

impl Admin {
    pub fn state(self) -> AdminState {
        match self {
            Self::Enabled => AdminState::Enabled,
            Self::Disabled => AdminState::Disabled,
            Self::Draining { .. } => AdminState::Draining,
        }
    }
}

impl Backend {
    /// Whether it would take new connections if it were up.
    pub fn is_wanted(&self) -> bool {
        self.admin == Admin::Enabled && self.weight > 0
    }

    /// Whether nothing is known against it.
    pub fn is_up(&self) -> bool {
        self.health.as_ref().is_none_or(Health::is_up)
    }

    /// Its share of new connections right now.
    pub fn share(&self) -> u16 {
        let step = self.ramp.map_or(RAMP_STEPS, |ramp| ramp.step);
        (u32::from(self.weight) * u32::from(step)).div_ceil(u32::from(RAMP_STEPS)) as u16
    }
}

/// Who of a service takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Those of a tier that are up.
    Healthy {
        tier: u8,
    },
    /// All of a tier, since too few are up.
    Panic {
        tier: u8,
    },
    Nobody,
}

impl Service {
    pub fn backend(&self, address: BackendAddress) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.config.address == address)
    }

    /// Who takes new connections: of the lowest tier that has enough backends up; if none has, all of the lowest.
    pub fn choice(&self) -> Choice {
        let threshold = self.config.health.as_ref().map_or(0, |health| u32::from(health.panic_threshold));
        // By tier: how many are up, and of how many.
        let mut tiers: BTreeMap<u8, (u32, u32)> = BTreeMap::new();
        for backend in self.backends.iter().filter(|backend| backend.is_wanted()) {
            let (up, all) = tiers.entry(backend.config.tier).or_default();
            *up += u32::from(backend.is_up());
            *all += 1;
        }
        let enough = tiers.iter().find(|(_, (up, all))| *up > 0 && up * 100 >= threshold * all);
        match (enough, tiers.keys().next()) {
            (Some((&tier, _)), _) => Choice::Healthy { tier },
            (None, Some(&tier)) if threshold > 0 => Choice::Panic { tier },
            _ => Choice::Nobody,
        }
    }

    /// Those that take new connections.
    fn chosen(&self) -> impl Iterator<Item = &Backend> {
        let choice = self.choice();
        self.backends.iter().filter(move |backend| {
            backend.is_wanted()
                && match choice {
                    Choice::Healthy { tier } => backend.config.tier == tier && backend.is_up(),
                    Choice::Panic { tier } => backend.config.tier == tier,
                    Choice::Nobody => false,
                }
        })
    }

    /// Those that take new connections, with their shares.
    pub fn eligible(&self) -> Vec<Candidate> {
        self.chosen()
            .map(|backend| Candidate {
                slot: backend.slot,
                address: backend.config.address.ip,
                port: backend.config.address.port.unwrap_or(0),
                weight: backend.share(),
            })
            .collect()
    }

    /// Backends that are up, of those that are wanted, and how many these are.
    pub fn up_of_wanted(&self) -> (usize, usize) {
        let wanted = self.backends.iter().filter(|backend| backend.is_wanted());
        wanted.fold((0, 0), |(up, all), backend| (up + usize::from(backend.is_up()), all + 1))
    }

    /// Begins and continues slow starts. Who joins others begins with little; who is as new as all the others, or is
    /// taken for want of better ones, has its weight at once.
    fn ramp(&mut self, now: Instant) {
        let Some(time) = self.config.slow_start.map(config::TimeSpan::as_duration) else {
            for backend in &mut self.backends {
                backend.ramp = None;
            }
            return;
        };
        let healthy = matches!(self.choice(), Choice::Healthy { .. });
        let before: HashSet<u32> = self.candidates.iter().map(|candidate| candidate.slot).collect();
        let chosen: HashSet<u32> = self.chosen().map(|backend| backend.slot).collect();
        let joins = healthy && before.iter().any(|slot| chosen.contains(slot));
        for backend in &mut self.backends {
            let newcomer = joins && chosen.contains(&backend.slot) && !before.contains(&backend.slot);
            let ramp = if newcomer { Some(Ramp { since: now, step: 1 }) } else { backend.ramp };
            backend.ramp = ramp
                .filter(|_| healthy && chosen.contains(&backend.slot))
                .map(|ramp| Ramp { step: ramp.step_at(now, time), ..ramp })
                .filter(|ramp| ramp.step < RAMP_STEPS);
        }
    }
}

impl Model {
    /// Brings slow starts up to date.
    pub fn ramp(&mut self, now: Instant) {
        for service in &mut self.services {
            service.ramp(now);
        }
    }

    /// Whether [`Model::ramp`] would change the weight of a backend that is on its way.
    pub fn has_to_ramp(&self, now: Instant) -> bool {
        self.services.iter().any(|service| {
            let time = service.config.slow_start.map(config::TimeSpan::as_duration);
            service
                .backends
                .iter()
                .filter_map(|backend| backend.ramp.zip(time))
                .any(|(ramp, time)| ramp.step_at(now, time) != ramp.step)
        })
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.config.name == name)
    }

    pub fn service_mut(&mut self, name: &str) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.config.name == name)
    }

    /// The model after `config` takes effect; `generation` will be the first without what it removes. Operators'
    /// changes survive for what remains; a weight gives way to the file's if that changed.
    ///
    /// # Errors
    /// The number of backends, connections of removed ones included, when there are no slots for them.
    pub fn with(&self, config: &[config::Service], generation: u32) -> Result<Self, usize> {
        let old: HashMap<&str, &Service> =
            self.services.iter().map(|service| (service.config.name.as_str(), service)).collect();
        let mut slots = self.slots.clone();
        // What goes makes room only once no connection is left, so this order costs nothing and keeps slots stable.
        let kept: HashSet<(&str, BackendAddress)> = config
            .iter()
            .flat_map(|service| service.backends.iter().map(|backend| (&*service.name, backend.address)))
            .collect();
        for service in &self.services {
            for backend in &service.backends {
                if !kept.contains(&(service.config.name.as_str(), backend.config.address)) {
                    let deadline = match backend.admin {
                        Admin::Draining { deadline } => deadline,
                        Admin::Enabled | Admin::Disabled => None,
                    };
                    slots.retire(backend.slot, generation, deadline);
                }
            }
        }
        let mut free_ids = free_ids(&self.services, config.len());
        let mut services = Vec::with_capacity(config.len());
        for wanted in config {
            let before = old.get(wanted.name.as_str()).copied();
            let known: HashMap<BackendAddress, &Backend> = before
                .iter()
                .flat_map(|service| service.backends.iter().map(|known| (known.config.address, known)))
                .collect();
            let mut backends = Vec::with_capacity(wanted.backends.len());
            for &backend in &wanted.backends {
                let known = known.get(&backend.address);
                let slot = match known {
                    Some(known) => known.slot,
                    None => slots.take(&wanted.name, backend.address).ok_or(MAX_BACKENDS)?,
                };
                let weight = known
                    .filter(|known| known.config.weight == backend.weight)
                    .map_or(backend.weight, |known| known.weight);
                let admin = known.map_or(Admin::Enabled, |known| known.admin);
                // Who served without a check, or came with the whole service, serves until a check says otherwise.
                let assumed = before.is_none_or(|before| known.is_some() && before.config.health.is_none());
                let health = wanted.health.as_ref().map(|_| {
                    known.and_then(|known| known.health.clone()).unwrap_or_else(|| Health::new(assumed))
                });
                let ramp = known.and_then(|known| known.ramp);
                backends.push(Backend { config: backend, slot, admin, weight, health, ramp });
            }
            services.push(Service {
                id: before.map_or_else(|| free_ids.pop_first().unwrap_or(u32::MAX), |before| before.id),
                config: wanted.clone(),
                backends,
                carried: before.map_or_else(Totals::default, |before| before.carried),
                candidates: before.map_or_else(Vec::new, |before| before.candidates.clone()),
                scheduler: before
                    .filter(|before| before.config.scheduler == wanted.scheduler)
                    .and_then(|before| before.scheduler.clone()),
            });
        }
        Ok(Self { services, slots })
    }
}

/// Numbers that no service has, at least `count` of them together with those in use.
fn free_ids(services: &[Service], count: usize) -> BTreeSet<u32> {
    let mut ids: BTreeSet<u32> = (0..(services.len() + count) as u32).collect();
    for service in services {
        ids.remove(&service.id);
    }
    ids
}

#[cfg(test)]
mod tests;
