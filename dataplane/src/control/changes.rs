//! What an apply changes, in words.

use ctl::config::{BackendAddress, Config, Service};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One line for each change.
pub(super) fn between(before: &Config, after: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    for (before, after) in before.ports.iter().zip(&after.ports) {
        if before.addresses != after.addresses {
            changes.push(format!("port {:?}: addresses changed", after.name));
        }
        if let (Some(from), Some(to)) = (before.rate_to_host(), after.rate_to_host())
            && from != to
        {
            changes.push(format!("port {:?}: host_rate {from} to {to}", after.name));
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
        changes
            .extend(settings(before, after).into_iter().map(|change| format!("service {name:?}: {change}")));
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

/// Which keys differ, each with what it was and what it is.
fn settings(before: &Service, after: &Service) -> Vec<String> {
    let flat = |service: &Service| {
        let mut keys = BTreeMap::new();
        let value = serde_json::to_value(Service { backends: Vec::new(), ..service.clone() });
        flatten("", &value.unwrap_or_default(), &mut keys);
        keys
    };
    let (old, new) = (flat(before), flat(after));
    let none = || "nothing".to_owned();
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| {
            let (from, to) = (old.get(key).cloned(), new.get(key).cloned());
            format!("{key} {} to {}", from.unwrap_or_else(none), to.unwrap_or_else(none))
        })
        .collect()
}

/// Tables become keys with points; a list is one value.
fn flatten(path: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, keys);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        value => {
            keys.insert(path.to_owned(), value.to_string());
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
