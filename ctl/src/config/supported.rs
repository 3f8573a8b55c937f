//! What a build can do. The model describes more, so that a file for another build is understood and
//! refused in words.

use super::error::ConfigError;
use super::{Affinity, Config, HealthType, Mode, Protocol, Scheduler, Tunnel};
use std::fmt::Display;

/// What the data plane of this build can do. Take away from [`Supported::ALL`] what it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supported {
    pub protocols: &'static [Protocol],
    pub modes: &'static [Mode],
    pub tunnels: &'static [Tunnel],
    pub schedulers: &'static [Scheduler],
    pub affinities: &'static [Affinity],
    pub health_types: &'static [HealthType],
    /// VIPs that are prefixes.
    pub vip_prefixes: bool,
    /// Ports that are ranges or `*`.
    pub port_ranges: bool,
    /// Backends in tiers other than 0.
    pub tiers: bool,
    /// The listener of `runtime.metrics`.
    pub metrics: bool,
}

impl Supported {
    /// Everything that the model can describe.
    pub const ALL: Self = Self {
        protocols: Protocol::ALL,
        modes: Mode::ALL,
        tunnels: Tunnel::ALL,
        schedulers: Scheduler::ALL,
        affinities: Affinity::ALL,
        health_types: HealthType::ALL,
        vip_prefixes: true,
        port_ranges: true,
        tiers: true,
        metrics: true,
    };
}

/// What a configuration asks for that this build cannot do: one error each, none if it can be used.
pub fn unsupported(config: &Config, supported: &Supported) -> Vec<ConfigError> {
    let mut check = Check { config, errors: Vec::new() };
    if config.runtime.metrics.is_some() && !supported.metrics {
        check.refuse(
            "runtime.metrics",
            "a metrics listener",
            "remove it; \"/metrics\" is on the control socket",
        );
    }
    for (index, service) in config.services.iter().enumerate() {
        let path = |key: &str| format!("service[{index}].{key}");
        check.word(&path("protocol"), &service.protocol, supported.protocols);
        check.word(&path("mode"), &service.mode, supported.modes);
        check.word(&path("tunnel"), &service.tunnel, supported.tunnels);
        check.word(&path("scheduler"), &service.scheduler, supported.schedulers);
        check.word(&path("affinity"), &service.affinity, supported.affinities);
        if !service.vip.is_host() && !supported.vip_prefixes {
            check.refuse(&path("vip"), &format!("vip = \"{}\", a prefix,", service.vip), "use one address");
        }
        if service.ports.single().is_none() && !supported.port_ranges {
            check.refuse(&path("ports"), &format!("ports = \"{}\", a range,", service.ports), "use one port");
        }
        if let Some(health) = &service.health {
            if supported.health_types.is_empty() {
                let remedy = "remove [service.health]; its backends then count as up";
                check.refuse(&path("health"), "health checking", remedy);
            } else {
                check.word(&path("health.type"), &health.kind, supported.health_types);
            }
        }
        for (backend_index, backend) in service.backends.iter().enumerate() {
            if backend.tier != 0 && !supported.tiers {
                let path = path(&format!("backend[{backend_index}].tier"));
                check.refuse(&path, &format!("tier = {}", backend.tier), "use 0, or remove it");
            }
        }
    }
    check.errors.sort_by_key(|error| error.line);
    check.errors
}

struct Check<'c> {
    config: &'c Config,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    fn word<T: Display + PartialEq>(&mut self, path: &str, value: &T, supported: &[T]) {
        if !supported.contains(value) {
            let key = path.rsplit('.').next().unwrap_or(path);
            let words: Vec<String> = supported.iter().map(T::to_string).collect();
            let remedy = match words.as_slice() {
                [] => "remove it".to_owned(),
                [one] => format!("use {one}"),
                [first @ .., last] => format!("use {} or {last}", first.join(", ")),
            };
            self.refuse(path, &format!("{key} = \"{value}\""), &remedy);
        }
    }

    fn refuse(&mut self, path: &str, what: &str, remedy: &str) {
        let problem = format!("{what} is not available in this build");
        self.errors.push(ConfigError::at(&self.config.origin, path, problem, remedy));
    }
}
