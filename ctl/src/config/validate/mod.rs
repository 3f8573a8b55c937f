//! What single values cannot show: names used twice, overlaps, families, what can be reached.

mod health;
mod host;
mod network;
mod overlap;
mod runtime;
mod service;
mod spread;
mod tunnel;
mod vlan;
mod warnings;

use super::Config;
use super::decode::Decoded;
use super::read::Reader;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Notes every error of what could be decoded.
pub(super) fn validate(reader: &mut Reader, decoded: &Decoded) {
    let config = &decoded.config;
    runtime::check(reader, config);
    network::check_ports(reader, config);
    vlan::check(reader, config, decoded.ports_complete);
    host::check(reader, config);
    if config.ports.is_empty() && decoded.ports_complete {
        reader.error("port", "there is no [[port]]", "add one with a name, a device and addresses");
    }
    network::check_routes(reader, config, decoded.ports_complete);
    for (index, service) in config.services.iter().enumerate() {
        service::check(reader, index, service);
    }
    tunnel::check(reader, config);
    service::check_names(reader, config);
    overlap::check(reader, config);
}

/// Calls `report` with the indices of the first and of each later item that has the same key.
fn duplicates<K: Hash + Eq>(keys: impl IntoIterator<Item = K>, mut report: impl FnMut(usize, usize)) {
    let mut seen = HashMap::new();
    for (index, key) in keys.into_iter().enumerate() {
        if let Some(&first) = seen.get(&key) {
            report(first, index);
        } else {
            seen.insert(key, index);
        }
    }
}

/// `" on line 7"`, or nothing when the line is not known.
fn on_line(reader: &Reader, path: &str) -> String {
    reader.origin.line(path).map_or_else(String::new, |line| format!(" on line {line}"))
}

/// Why an address cannot be that of a host, if so.
fn not_a_host(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        Some("the broadcast address")
    } else if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        Some("an IPv4-mapped address")
    } else {
        None
    }
}

/// Names appear in URLs, metrics and shells. What is wrong with one, if anything.
fn bad_name(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.is_empty() {
        Some("the name is empty")
    } else if name.len() > LONGEST {
        Some("the name is longer than 64 characters")
    } else if !name.bytes().all(plain) {
        Some("the name has other characters than letters, digits and - _ . :")
    } else {
        None
    }
}

impl Config {
    /// What works but is probably not meant.
    pub fn warnings(&self) -> Vec<super::ConfigWarning> {
        warnings::warnings(self)
    }

    /// What the daemon must refuse on this machine, although the file is right: CPUs that it does not have.
    pub fn check_machine(&self, machine: &super::Machine) -> Vec<super::ConfigError> {
        warnings::missing_cpus(self, machine)
    }
}
