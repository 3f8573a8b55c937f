//! What an apply changes, in words.

use ctl::config::{BackendAddress, Config, Service};
use std::collections::HashMap;

/// One line for each change.
pub(super) fn between(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    for (before, after) in before.ports.iter().zip(&after.ports) {
        if before.addresses != after.addresses {
            changes.push(format!("port {:?}: addresses changed", after.name));
        }
    }
    if before.routes != after.routes {
        changes.push("routes changed".to_owned());
    }
    let old: HashMap<&str, &Service> =
        before.services.iter().map(|service| (service.name.as_str(), service)).collect();
    let mut gone = old.clone();
    for service in &after.services {
        match gone.remove(service.name.as_str()) {
            None => changes.push(format!(
                "service {:?} added with {}",
                service.name,
                count(service.backends.len(), "backend")
            )),
            Some(before) => in_service(before, service, &mut changes),
        }
    }
    for service in before.services.iter().filter(|service| gone.contains_key(service.name.as_str())) {
        changes.push(format!("service {:?} removed", service.name));
    }
    changes
}

fn in_service(before: &Service, after: &Service, changes: &mut Vec<String>) {
    let name = &after.name;
    let without_backends = |service: &Service| Service { backends: Vec::new(), ..service.clone() };
    if without_backends(before) != without_backends(after) {
        changes.push(format!("service {name:?}: settings changed"));
    }
    let mut old: HashMap<BackendAddress, _> =
        before.backends.iter().map(|backend| (backend.address, backend)).collect();
    for backend in &after.backends {
        let address = backend.address;
        match old.remove(&address) {
            None => changes.push(format!("service {name:?}: backend {address} added")),
            Some(before) if before.weight != backend.weight => {
                let (from, to) = (before.weight, backend.weight);
                changes.push(format!("service {name:?}: backend {address} weight {from} to {to}"));
            }
            Some(before) if before.tier != backend.tier => {
                let (from, to) = (before.tier, backend.tier);
                changes.push(format!("service {name:?}: backend {address} tier {from} to {to}"));
            }
            Some(_) => {}
        }
    }
    for backend in before.backends.iter().filter(|backend| old.contains_key(&backend.address)) {
        changes.push(format!("service {name:?}: backend {} removed", backend.address));
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
