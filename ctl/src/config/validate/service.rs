//! `[[service]]` and what is in it

use super::{bad_name, duplicates, health, not_a_host, on_line, spread};
use crate::config::read::Reader;
use crate::config::{Backend, Config, Mode, Protocol, Service, TimeSpan, Tunnel, UnknownConnections};
use std::collections::HashSet;

/// A table of 65537 entries cannot give shares to more than this.
const MAX_BACKENDS: usize = 16_384;

const MAX_SLOW_START: TimeSpan = TimeSpan::from_secs(24 * 3600);

pub(super) fn check(reader: &mut Reader, index: usize, service: &Service) {
    let path = format!("service[{index}]");
    if let Some(problem) = bad_name(&service.name) {
        reader.error(&format!("{path}.name"), problem, "use a short name such as \"web\"");
    }
    if let Some(what) = not_a_host(service.vip.address()) {
        let problem = format!("{} is or begins with {what}", service.vip);
        reader.error(&format!("{path}.vip"), problem, "use an address that clients can reach");
    }
    if service.mss.is_some() && service.protocol != Protocol::Tcp {
        let problem = format!("mss has no meaning with protocol = \"{}\"", service.protocol);
        reader.error(&format!("{path}.mss"), problem, "remove it");
    }
    check_unknown(reader, &path, service);
    check_local_addresses(reader, &path, service);
    spread::check(reader, &path, service);
    check_times(reader, &path, service);
    if service.backends.len() > MAX_BACKENDS {
        let problem = format!("{} backends are too many for one service", service.backends.len());
        reader.error(&format!("{path}.backend"), problem, format!("use at most {MAX_BACKENDS}"));
    }
    for (backend_index, backend) in service.backends.iter().enumerate() {
        check_backend(reader, &format!("{path}.backend[{backend_index}]"), service, backend);
    }
    // Without a port of its own a backend of a one-port service gets that port: the same place.
    let places = service
        .backends
        .iter()
        .map(|backend| (backend.address.ip, backend.address.port.or(service.ports.single())));
    duplicates(places, |first, index| {
        let address = service.backends[index].address;
        let line = on_line(reader, &format!("{path}.backend[{first}].address"));
        let problem = format!("service {:?} has the backend {address} already{line}", service.name);
        reader.error(
            &format!("{path}.backend[{index}].address"),
            problem,
            "remove one; use weight for a larger share",
        );
    });
}

fn check_unknown(reader: &mut Reader, path: &str, service: &Service) {
    let path = format!("{path}.unknown_connections");
    match service.unknown_connections {
        Some(_) if service.protocol != Protocol::Tcp => {
            let problem =
                format!("unknown_connections has no meaning with protocol = \"{}\"", service.protocol);
            reader.error(&path, problem, "remove it; a datagram always goes to a backend");
        }
        Some(UnknownConnections::Adopt) if service.mode == Mode::FullNat => {
            let problem =
                "full-nat cannot adopt connections: the backend knows them by a local port that is forgotten";
            reader.error(&path, problem, "remove it, or use \"reset\"");
        }
        _ => (),
    }
}

fn check_local_addresses(reader: &mut Reader, path: &str, service: &Service) {
    if service.local_addresses.is_empty() {
        return;
    }
    let path = format!("{path}.local_addresses");
    if service.mode != Mode::FullNat {
        let problem = format!("local addresses have no meaning with mode = \"{}\"", service.mode);
        reader.error(&path, problem, "remove them, or use mode = \"full-nat\"");
    }
    for (index, address) in service.local_addresses.iter().enumerate() {
        if let Some(what) = not_a_host(*address) {
            let problem = format!("{address} is {what}");
            reader.error(&format!("{path}[{index}]"), problem, "use an address that backends can answer to");
        }
    }
    duplicates(&service.local_addresses, |_, index| {
        let problem = format!("{} is named twice", service.local_addresses[index]);
        reader.error(&format!("{path}[{index}]"), problem, "name each address once");
    });
}

fn check_times(reader: &mut Reader, path: &str, service: &Service) {
    let timeouts = &service.timeouts;
    let all = [
        ("syn", timeouts.syn),
        ("established", timeouts.established),
        ("fin", timeouts.fin),
        ("udp", timeouts.udp),
    ];
    for (key, timeout) in all {
        if timeout < TimeSpan::from_secs(1) {
            let problem = format!("{timeout} is too short");
            reader.error(&format!("{path}.timeouts.{key}"), problem, "use at least 1s");
        }
    }
    if service.slow_start.is_some_and(|time| time > MAX_SLOW_START) {
        let remedy = format!("use at most {MAX_SLOW_START}");
        reader.error(&format!("{path}.slow_start"), "a backend would take for ever", remedy);
    }
    let Some(health) = &service.health else { return };
    for (key, time) in [("interval", health.interval), ("timeout", health.timeout)] {
        if time < TimeSpan::from_millis(10) {
            reader.error(
                &format!("{path}.health.{key}"),
                format!("{time} is too short"),
                "use at least 10ms",
            );
        }
    }
    if health.timeout > health.interval {
        let problem = format!("{} is longer than the interval of {}", health.timeout, health.interval);
        let remedy = "use at most the interval: checks would pile up";
        // Whichever of the two is written out is the one that can be changed.
        let written = reader.origin.has(&format!("{path}.health.timeout"));
        let key = if written { "timeout" } else { "interval" };
        reader.error(&format!("{path}.health.{key}"), problem, remedy);
    }
    health::check(reader, path, service, health);
    for (key, count) in [("rise", health.rise), ("fall", health.fall)] {
        if count == 0 {
            reader.error(&format!("{path}.health.{key}"), "0 checks decide nothing", "use at least 1");
        }
    }
}

fn check_backend(reader: &mut Reader, path: &str, service: &Service, backend: &Backend) {
    let path = format!("{path}.address");
    let address = backend.address;
    if let Some(what) = not_a_host(address.ip) {
        reader.error(&path, format!("{} is {what}", address.ip), "use the address of a server");
        return;
    }
    // A tunnel carries either family over either, unless it is none.
    let tunnelled = service.mode == Mode::Dsr && !matches!(service.tunnel, Tunnel::None | Tunnel::L3dsr);
    if address.ip.is_ipv6() != service.vip.is_ipv6() && service.mode != Mode::FullNat && !tunnelled {
        let family = if service.vip.is_ipv6() { "an IPv6" } else { "an IPv4" };
        let problem = format!("{} and the VIP {} are of different families", address.ip, service.vip);
        let remedy = format!(
            "use {family} address, or mode = \"full-nat\"; {} keeps the family of a packet",
            service.mode
        );
        reader.error(&path, problem, remedy);
    } else if service.vip.contains(address.ip) {
        let problem =
            format!("{} is the VIP of service {:?}, so packets would come back", address.ip, service.name);
        let remedy = "use the server's own address; with mode = \"dsr\" it holds the VIP besides";
        reader.error(&path, problem, remedy);
    }
    if service.mode == Mode::Dsr
        && let Some(port) = address.port
        && service.ports.single() != Some(port)
    {
        let problem = format!("dsr cannot translate ports {} to {port}", service.ports);
        reader.error(
            &path,
            problem,
            format!("write \"{}\" and let the server listen on ports {}", address.ip, service.ports),
        );
    }
}

/// Names are unique, also those that were not written.
pub(super) fn check_names(reader: &mut Reader, config: &Config) {
    let services = &config.services;
    // Two services without names that are the same thing are told so by the overlap.
    let mut unnamed = HashSet::new();
    for (index, service) in services.iter().enumerate() {
        if !reader.origin.has(&format!("service[{index}].name")) {
            unnamed.insert(service.name.as_str());
        }
    }
    duplicates(services.iter().map(|service| &service.name), |first, index| {
        let name = &services[index].name;
        let named = |at: usize| reader.origin.has(&format!("service[{at}].name"));
        if unnamed.contains(name.as_str()) && !named(first) && !named(index) {
            return;
        }
        let line = on_line(reader, &format!("service[{first}].name"));
        let problem = format!("the service {name:?} exists already{line}");
        reader.error(&format!("service[{index}].name"), problem, "give each service its own name");
    });
}
