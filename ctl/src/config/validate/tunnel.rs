//! What belongs to the tunnels of `dsr`.

use super::not_a_host;
use crate::config::read::Reader;
use crate::config::{Config, Mode, Service, Tunnel};

pub(super) fn check(reader: &mut Reader, config: &Config) {
    for (index, service) in config.services.iter().enumerate() {
        let path = format!("service[{index}]");
        check_keys(reader, &path, service);
        check_sources(reader, &path, config, service);
    }
}

/// Keys without meaning where they are, and values that they cannot have.
fn check_keys(reader: &mut Reader, path: &str, service: &Service) {
    if service.tunnel != Tunnel::None && service.mode != Mode::Dsr {
        let problem =
            format!("tunnel = \"{}\" has no meaning with mode = \"{}\"", service.tunnel, service.mode);
        reader.error(&format!("{path}.tunnel"), problem, "remove it, or use mode = \"dsr\"");
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
