//! What operators changed at run time and the configuration does not say: weights, and backends that are out.

use super::model::{Admin, Backend, Model};
use ctl::api::AdminState;
use ctl::config::BackendAddress;
use std::fmt;

/// One backend that is not as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub service: String,
    pub address: BackendAddress,
    /// What it is, and what the configuration says, if these differ.
    pub weight: Option<(u16, u16)>,
    /// Unless it is enabled.
    pub admin: Option<Admin>,
}

impl Override {
    fn of(service: &str, backend: &Backend) -> Option<Self> {
        let own = backend.config.weight;
        let weight = (backend.weight != own).then_some((backend.weight, own));
        let admin = (backend.admin != Admin::Enabled).then_some(backend.admin);
        (weight.is_some() || admin.is_some()).then(|| Self {
            service: service.to_owned(),
            address: backend.config.address,
            weight,
            admin,
        })
    }

    /// What of it `model` lacks.
    fn missing_from(&self, model: &Model) -> Option<Self> {
        let backend = model.service(&self.service).and_then(|service| service.backend(self.address));
        let Some(backend) = backend else { return Some(self.clone()) };
        let weight = self.weight.filter(|(now, _)| backend.weight != *now);
        let admin = self.admin.filter(|admin| backend.admin.state() != admin.state());
        (weight.is_some() || admin.is_some()).then(|| Self { weight, admin, ..self.clone() })
    }

    /// Makes it so again.
    pub fn restore(&self, model: &mut Model) {
        let service = model.service_mut(&self.service);
        let mut backends = service.into_iter().flat_map(|service| &mut service.backends);
        if let Some(backend) = backends.find(|backend| backend.config.address == self.address) {
            backend.weight = self.weight.map_or(backend.weight, |(now, _)| now);
            backend.admin = self.admin.unwrap_or(backend.admin);
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {:?}: backend {} is", self.service, self.address)?;
        if let Some(admin) = self.admin.map(Admin::state).filter(|state| *state != AdminState::Enabled) {
            write!(f, " {}", admin.as_str())?;
        }
        if let Some((now, file)) = self.weight {
            let and = if self.admin.is_some() { " and" } else { "" };
            write!(f, "{and} of weight {now}, not {file}")?;
        }
        f.write_str(" (changed at run time)")
    }
}

/// All of them.
pub fn all(model: &Model) -> Vec<Override> {
    let backends = model
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (&service.config.name, backend)));
    backends.filter_map(|(name, backend)| Override::of(name, backend)).collect()
}

/// Those of `before` that `after` does not have.
pub fn given_up(before: &Model, after: &Model) -> Vec<Override> {
    all(before).iter().filter_map(|one| one.missing_from(after)).collect()
}

/// In words.
pub fn words(overrides: &[Override]) -> Vec<String> {
    overrides.iter().map(ToString::to_string).collect()
}
