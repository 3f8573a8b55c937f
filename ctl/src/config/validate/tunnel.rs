//! What belongs to the tunnels of `dsr`.

use super::not_a_host;
use crate::config::read::Reader;
use crate::config::{Config, Mode, Service, Tunnel};
use std::collections::HashMap;
use std::net::IpAddr;

pub(super) fn check(reader: &mut Reader, config: &Config) {
    for (index, service) in config.services.iter().enumerate() {
        let path = format!("service[{index}]");
        check_keys(reader, &path, service);
        check_sources(reader, &path, config, service);
        check_dscp(reader, &path, service);
    }
    check_shared_dscp(reader, config);
}

/// Keys without meaning where they are, and values that they cannot have.
fn check_keys(reader: &mut Reader, path: &str, service: &Service) {
    if service.tunnel != Tunnel::None && service.mode != Mode::Dsr {
        let problem =
            format!("tunnel = \"{}\" has no meaning with mode = \"{}\"", service.tunnel, service.mode);
        reader.error(&format!("{path}.tunnel"), problem, "remove it, or use mode = \"dsr\"");
    }
    if service.tunnel == Tunnel::L3dsr && !service.tunnel_sources.is_empty() {
        let problem =
            "tunnel sources have no meaning with tunnel = \"l3dsr\": packets keep the client's address";
        reader.error(&format!("{path}.tunnel_sources"), problem, "remove them");
    }
    if service.tunnel == Tunnel::None && !service.tunnel_sources.is_empty() {
        let problem = "tunnel sources have no meaning without a tunnel";
        reader.error(&format!("{path}.tunnel_sources"), problem, "remove them, or set tunnel");
    }
    for (key, there) in
        [("gue_port", service.gue_port.is_some()), ("gue_variant", service.gue_variant.is_some())]
    {
        if there && service.tunnel != Tunnel::Gue {
            let problem = format!("{key} has no meaning with tunnel = \"{}\"", service.tunnel);
            reader.error(&format!("{path}.{key}"), problem, "remove it, or use tunnel = \"gue\"");
        }
    }
    if service.gue_port == Some(0) {
        let remedy = "use the port that the backends listen on, usually 6080";
        reader.error(&format!("{path}.gue_port"), "0 is no port", remedy);
    }
    if let Some(variant) = service.gue_variant.filter(|variant| *variant > 1) {
        let problem = format!("GUE has no variant {variant}");
        let remedy = "use 1 for IP directly behind UDP, or 0 for a header between";
        reader.error(&format!("{path}.gue_variant"), problem, remedy);
    }
}

fn check_dscp(reader: &mut Reader, path: &str, service: &Service) {
    let key = format!("{path}.dscp");
    match service.dscp {
        Some(_) if service.tunnel != Tunnel::L3dsr => {
            let problem = format!("dscp has no meaning with tunnel = \"{}\"", service.tunnel);
            reader.error(&key, problem, "remove it, or use tunnel = \"l3dsr\"");
        }
        Some(dscp @ (0 | 64..)) => {
            reader.error(&key, format!("{dscp} is no DSCP that names a VIP"), "use 1 to 63");
        }
        None if service.tunnel == Tunnel::L3dsr => {
            let remedy = "add dscp = 1 to 63, the one that the backends map to the VIP";
            reader.error(&format!("{path}.tunnel"), "l3dsr needs a DSCP that names the VIP", remedy);
        }
        _ => (),
    }
    if service.tunnel == Tunnel::L3dsr && service.vip.count() > 1 {
        let problem =
            format!("with l3dsr a DSCP names one address, and {} is {}", service.vip, service.vip.count());
        reader.error(&format!("{path}.vip"), problem, "use a single address, or another tunnel");
    }
}

/// A backend knows the VIP by the DSCP alone.
fn check_shared_dscp(reader: &mut Reader, config: &Config) {
    let mut known: HashMap<(IpAddr, u8), &Service> = HashMap::new();
    for (index, service) in config.services.iter().enumerate() {
        let Some(dscp) = service.dscp.filter(|_| service.tunnel == Tunnel::L3dsr) else { continue };
        let mut clash = None;
        for backend in &service.backends {
            let other = known.entry((backend.address.ip, dscp)).or_insert(service);
            if other.vip != service.vip {
                clash = clash.or(Some((backend.address.ip, *other)));
            }
        }
        if let Some((backend, other)) = clash {
            let problem = format!(
                "DSCP {dscp} already stands for the VIP {} of service {:?} at the backend {backend}",
                other.vip, other.name
            );
            reader.error(
                &format!("service[{index}].dscp"),
                problem,
                "give each VIP of a backend its own DSCP",
            );
        }
    }
}

fn check_sources(reader: &mut Reader, path: &str, config: &Config, service: &Service) {
    let mut count = 0u128;
    for (index, source) in service.tunnel_sources.iter().enumerate() {
        let path = format!("{path}.tunnel_sources[{index}]");
        if let Some(what) = not_a_host(source.address()) {
            let problem = format!("{source} is or begins with {what}");
            reader.error(&path, problem, "use addresses that belong to the balancer");
        } else if let Some(other) =
            config.services.iter().find(|other| other.vip.covers(*source) || source.covers(other.vip))
        {
            let problem = format!("{source} overlaps the VIP {} of service {:?}", other.vip, other.name);
            reader.error(&path, problem, "use addresses of their own");
        }
        count = count.saturating_add(source.count());
    }
    if count > Service::MAX_TUNNEL_SOURCES as u128 {
        let problem = format!("{count} tunnel sources are too many");
        let remedy = format!("use at most {}, such as a /28", Service::MAX_TUNNEL_SOURCES);
        reader.error(&format!("{path}.tunnel_sources"), problem, remedy);
    }
}
