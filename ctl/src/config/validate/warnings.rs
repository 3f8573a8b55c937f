//! What works but is probably not meant, and what only the machine can tell.

use crate::config::{Config, ConfigError, ConfigWarning, Machine, Mode, Service, Tunnel};

/// Maglev shares are within 1 % of the weights when there are this many entries for each backend.
const MAGLEV_ENTRIES_PER_BACKEND: usize = 100;

struct Warnings<'c> {
    config: &'c Config,
    list: Vec<ConfigWarning>,
}

impl Warnings<'_> {
    fn add(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.list.push(ConfigWarning(ConfigError::at(&self.config.origin, path, problem, remedy)));
    }
}

pub(super) fn warnings(config: &Config) -> Vec<ConfigWarning> {
    let mut warnings = Warnings { config, list: Vec::new() };
    for error in missing_cpus(config, Machine::current()) {
        warnings.list.push(ConfigWarning(error));
    }
    let runtime = &config.runtime;
    // On a machine with one CPU there is no choice.
    if Machine::current().online.len() > 1 {
        for (index, cpu) in runtime.workers.iter().enumerate() {
            if runtime.control_cpus.contains(cpu) {
                let problem = format!("CPU {cpu} is a worker's and in control_cpus as well");
                let remedy = "keep them apart: whatever else runs there delays packets";
                warnings.add(&format!("runtime.workers[{index}]"), problem, remedy);
            }
        }
    }
    if config.services.is_empty() {
        warnings.add("service", "there is no [[service]]", "add one, or nothing is balanced");
    }
    for (index, service) in config.services.iter().enumerate() {
        service_warnings(&mut warnings, &format!("service[{index}]"), service);
    }
    warnings.list.sort_by_key(|warning| warning.0.line);
    warnings.list
}

fn service_warnings(warnings: &mut Warnings<'_>, path: &str, service: &Service) {
    let config = warnings.config;
    if service.backends.iter().all(|backend| backend.weight == 0) {
        let problem = format!(
            "every backend of service {:?} has weight 0, so it takes no new connection",
            service.name
        );
        warnings.add(&format!("{path}.backend"), problem, "give one a weight above 0");
    }
    if service.backends.len() * MAGLEV_ENTRIES_PER_BACKEND > config.runtime.maglev_table_size as usize {
        let problem = format!(
            "{} backends are many for a Maglev table of {}: shares will be uneven",
            service.backends.len(),
            config.runtime.maglev_table_size
        );
        let remedy = format!("use a prime above {}", service.backends.len() * MAGLEV_ENTRIES_PER_BACKEND);
        warnings.add("runtime.maglev_table_size", problem, remedy);
    }
    for (index, backend) in service.backends.iter().enumerate() {
        let path = format!("{path}.backend[{index}].address");
        let ip = backend.address.ip;
        let on_link =
            || config.ports.iter().flat_map(|port| &port.addresses).any(|own| own.subnet().contains(ip));
        let own = config.ports.iter().find(|port| port.addresses.iter().any(|own| own.address() == ip));
        if let Some(port) = own {
            let problem = format!("{ip} is the balancer's own address on port {:?}", port.name);
            warnings.add(&path, problem, "use the address of a server: nothing listens there");
        } else if service.mode == Mode::Dsr && service.tunnel == Tunnel::None && !on_link() {
            let problem =
                format!("{ip} is on no port's subnet, and dsr without a tunnel ends at the first router");
            warnings.add(&path, problem, "add an address on its subnet to a [[port]], or use a tunnel");
        } else if !on_link() && !config.routes.iter().any(|route| route.to.contains(ip)) {
            let problem =
                format!("nothing leads to {ip}: it is on no port's subnet and no [[route]] covers it");
            warnings.add(&path, problem, "add a [[route]], or an address on its subnet to a [[port]]");
        }
    }
}

/// CPUs that are named and do not exist.
pub(super) fn missing_cpus(config: &Config, machine: &Machine) -> Vec<ConfigError> {
    let runtime = &config.runtime;
    let mut errors = Vec::new();
    for (key, cpus) in [("workers", &runtime.workers), ("control_cpus", &runtime.control_cpus)] {
        for (index, cpu) in cpus.iter().enumerate().filter(|(_, cpu)| !machine.online.contains(cpu)) {
            let path = format!("runtime.{key}[{index}]");
            let problem = format!("this machine has no CPU {cpu}");
            let last = machine.online.last().copied().unwrap_or(0);
            let remedy = format!("use one of its {} CPUs, 0 to {last}", machine.online.len());
            errors.push(ConfigError::at(&config.origin, &path, problem, remedy));
        }
    }
    errors
}
