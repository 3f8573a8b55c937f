//! What runs: the configuration in force together with what operators changed since, and the numbers that stay with
//! services and backends through every change.
//!
//! A [`Model`] is a value: a change makes a new one, and only when everything that follows from it could be built does
//! it take the place of the old.

use super::slots::{Slots, Totals};
use crate::counters::MAX_BACKENDS;
use crate::scheduler::{Candidate, Scheduler};
use ctl::api::AdminState;
use ctl::config::{self, BackendAddress};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

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
}

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    Enabled,
    Disabled,
    /// Until its connections are gone; then disabled.
    Draining {
        deadline: Option<Instant>,
        /// The deadline passed, and that was said.
        late: bool,
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
    /// Whether it takes new connections.
    pub fn is_eligible(&self) -> bool {
        self.admin == Admin::Enabled && self.weight > 0
    }
}

impl Service {
    pub fn backend(&self, address: BackendAddress) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.config.address == address)
    }

    /// Those that take new connections: of the lowest tier that has any.
    pub fn eligible(&self) -> Vec<Candidate> {
        let eligible = || self.backends.iter().filter(|backend| backend.is_eligible());
        let tier = eligible().map(|backend| backend.config.tier).min();
        eligible()
            .filter(|backend| Some(backend.config.tier) == tier)
            .map(|backend| Candidate {
                slot: backend.slot,
                address: backend.config.address.ip,
                port: backend.config.address.port.unwrap_or(0),
                weight: backend.weight,
            })
            .collect()
    }
}

impl Model {
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
                    slots.retire(backend.slot, generation);
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
                backends.push(Backend { config: backend, slot, admin, weight });
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
