//! Keys of `[[service]]` that say how connections spread over backends

use super::duplicates;
use crate::config::read::Reader;
use crate::config::{Affinity, Scheduler, Service, TimeSpan};

const LEAST_TIMEOUT: TimeSpan = TimeSpan::from_secs(1);
const MOST_TIMEOUT: TimeSpan = TimeSpan::from_secs(24 * 3600);

pub(super) fn check(reader: &mut Reader, path: &str, service: &Service) {
    check_fields(reader, &format!("{path}.hash_fields"), service);
    check_affinity(reader, path, service);
}

fn check_fields(reader: &mut Reader, path: &str, service: &Service) {
    if !reader.origin.has(path) {
        return;
    }
    if service.hash_fields.is_empty() {
        reader.error(path, "without a field all flows are one", "name fields, or remove it for the default");
    } else if matches!(service.scheduler, Scheduler::RoundRobin | Scheduler::LeastConnections) {
        let problem = format!("hash fields have no meaning with scheduler = \"{}\"", service.scheduler);
        reader.error(path, problem, "remove them, or use scheduler = \"maglev\"");
    } else if service.affinity != Affinity::None {
        let problem = format!("hash fields have no meaning with affinity = \"{}\"", service.affinity);
        reader.error(path, problem, "remove one of both: affinity hashes the client's prefix");
    }
    duplicates(&service.hash_fields, |_, index| {
        let problem = format!("{} is named twice", service.hash_fields[index]);
        reader.error(&format!("{path}[{index}]"), problem, "name each field once");
    });
}

fn check_affinity(reader: &mut Reader, path: &str, service: &Service) {
    let keys = [
        ("affinity_timeout", service.affinity_timeout.is_some()),
        ("affinity_prefix_v4", service.affinity_prefix_v4.is_some()),
        ("affinity_prefix_v6", service.affinity_prefix_v6.is_some()),
    ];
    if service.affinity == Affinity::None {
        for (key, _) in keys.into_iter().filter(|(_, given)| *given) {
            let problem = format!("{key} has no meaning with affinity = \"none\"");
            reader.error(&format!("{path}.{key}"), problem, "remove it, or use affinity = \"source-ip\"");
        }
    }
    if let Some(timeout) = service.affinity_timeout {
        let path = format!("{path}.affinity_timeout");
        if timeout < LEAST_TIMEOUT {
            reader.error(&path, format!("{timeout} is too short"), format!("use at least {LEAST_TIMEOUT}"));
        } else if timeout > MOST_TIMEOUT {
            reader.error(&path, format!("{timeout} is too long"), format!("use at most {MOST_TIMEOUT}"));
        }
    }
    let prefixes = [
        ("affinity_prefix_v4", service.affinity_prefix_v4, 32),
        ("affinity_prefix_v6", service.affinity_prefix_v6, 128),
    ];
    for (key, length, most) in prefixes {
        if let Some(length) = length.filter(|length| !(1..=most).contains(length)) {
            let problem = format!("{length} is no prefix length of clients");
            reader.error(&format!("{path}.{key}"), problem, format!("use a number from 1 to {most}"));
        }
    }
}
