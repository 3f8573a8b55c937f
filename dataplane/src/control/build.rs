//! From the model to what workers read.

use super::locals;
use super::model::{Model, Service};
use crate::affinity::Affinity;
use crate::conn::Timeouts;
use crate::pipeline::MAX_SERVICES;
use crate::route::NextHop;
use crate::scheduler::{self, Candidate, HashFields, MaglevParameters};
use crate::service;
use crate::snapshot::{Backend, Parts, Port, Snapshot};
use crate::tunnel::{self, GueForm, Mark};
use crate::wire::ethernet::Mac;
use ctl::config::{
    Config, ConfigError, ConfigWarning, HealthType, Mode, Prefix, Protocol, Scheduler, Supported, Tunnel,
    UnknownConnections, unsupported,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// What the data plane can do.
const SUPPORTED: Supported = Supported {
    protocols: Protocol::ALL,
    modes: Mode::ALL,
    tunnels: Tunnel::ALL,
    schedulers: Scheduler::ALL,
    affinities: ctl::config::Affinity::ALL,
    health_types: HealthType::ALL,
    ..Supported::ALL
};

/// Least time for a half-closed connection in milliseconds: the other half may be silent for as long as it computes
/// (RFC 5382 REQ-5: transitory states, 4 minutes).
const HALF_CLOSED: u32 = 240_000;

/// What is right in `config` and still deserves a word.
pub(super) fn warnings(config: &Config) -> Vec<ConfigWarning> {
    config.warnings()
}

/// What `config` asks for that the data plane cannot do, whatever the machine.
pub(super) fn refusals(config: &Config) -> Vec<ConfigError> {
    let mut errors = unsupported(config, &SUPPORTED);
    errors.extend(locals::refusals(config));
    if config.services.len() > MAX_SERVICES {
        let problem = format!("{} services are too many", config.services.len());
        errors.push(ConfigError::at(
            &config.origin,
            "service",
            problem,
            format!("use at most {MAX_SERVICES}"),
        ));
    }
    if config.ports.len() > usize::from(u8::MAX) {
        let problem = format!("{} ports are too many", config.ports.len());
        errors.push(ConfigError::at(&config.origin, "port", problem, "use at most 255"));
    }
    errors
}

/// What differs from the configuration in force and can only be changed by a restart.
pub(super) fn needs_restart(running: &Config, wanted: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut fixed = |path: &str, same: bool, now: String| {
        if !same {
            let problem = format!("this cannot change while sluiced runs (now {now})");
            let remedy = "restart sluiced with this file, or put the value back";
            errors.push(ConfigError::at(&wanted.origin, path, problem, remedy));
        }
    };
    let (a, b) = (&running.runtime, &wanted.runtime);
    fixed("runtime.workers", a.workers == b.workers, format!("{:?}", a.workers));
    fixed("runtime.control_cpus", a.control_cpus == b.control_cpus, format!("{:?}", a.control_cpus));
    fixed("runtime.socket", a.socket == b.socket, format!("\"{}\"", a.socket.display()));
    let group =
        a.socket_group.as_deref().map_or_else(|| "the daemon's".to_owned(), |name| format!("\"{name}\""));
    fixed("runtime.socket_group", a.socket_group == b.socket_group, group);
    fixed("runtime.hugepages", a.hugepages == b.hugepages, a.hugepages.to_string());
    fixed("runtime.memory", a.memory == b.memory, format!("\"{}\"", a.memory));
    fixed("runtime.max_connections", a.max_connections == b.max_connections, a.max_connections.to_string());
    fixed("runtime.poll", a.poll == b.poll, format!("\"{}\"", a.poll));
    fixed("runtime.steering", a.steering == b.steering, format!("\"{}\"", a.steering));
    fixed("runtime.local_ports", a.local_ports == b.local_ports, format!("\"{}\"", a.local_ports));
    fixed("runtime.eal_args", a.eal_args == b.eal_args, format!("{:?}", a.eal_args));
    let listener = a.metrics.map_or_else(|| "none".to_owned(), |address| format!("\"{address}\""));
    fixed("runtime.metrics", a.metrics == b.metrics, listener);
    fixed("runtime.status_page", a.status_page == b.status_page, a.status_page.to_string());
    let (size, seed) = (a.maglev_table_size, a.maglev_seed);
    fixed("runtime.maglev_table_size", size == b.maglev_table_size, size.to_string());
    fixed("runtime.maglev_seed", seed == b.maglev_seed, seed.to_string());
    let count = running.ports.len();
    fixed("port", count == wanted.ports.len(), format!("{count} ports"));
    for (index, (a, b)) in running.ports.iter().zip(&wanted.ports).enumerate() {
        let path = |key: &str| format!("port[{index}].{key}");
        fixed(&path("name"), a.name == b.name, format!("\"{}\"", a.name));
        fixed(&path("device"), a.device == b.device, format!("\"{}\"", a.device));
        let parent = a.parent.as_ref().map_or_else(|| "none".to_owned(), |parent| format!("{parent:?}"));
        fixed(&path("parent"), a.parent == b.parent, parent);
        let vlan = a.vlan.map_or_else(|| "none".to_owned(), |vlan| vlan.to_string());
        fixed(&path("vlan"), a.vlan == b.vlan, vlan);
        fixed(&path("mtu"), a.mtu == b.mtu, a.mtu.to_string());
        let number = |value: Option<u16>| value.map_or_else(|| "the default".to_owned(), |n| n.to_string());
        fixed(&path("rx_descriptors"), a.rx_descriptors == b.rx_descriptors, number(a.rx_descriptors));
        fixed(&path("tx_descriptors"), a.tx_descriptors == b.tx_descriptors, number(a.tx_descriptors));
        let interface =
            a.host_interface.as_ref().map_or_else(|| "none".to_owned(), |name| format!("\"{name}\""));
        fixed(&path("host_interface"), a.host_interface == b.host_interface, interface);
    }
    errors.sort_by_key(|error| error.line);
    errors
}

/// Maglev's parameters as configured.
pub(super) fn maglev(config: &Config) -> MaglevParameters {
    MaglevParameters { seed: config.runtime.maglev_seed, table_size: config.runtime.maglev_table_size }
}

/// Schedulers that were made ahead of time, by service: with many backends that takes long.
#[derive(Debug, Default)]
pub(super) struct Ahead(HashMap<String, (Vec<Candidate>, Arc<dyn scheduler::Scheduler>)>);

impl Ahead {
    /// Makes those that `model` needs and does not have.
    pub(super) fn make(mut model: Model, parameters: MaglevParameters) -> Self {
        model.ramp(Instant::now());
        let mut made = HashMap::new();
        for service in &mut model.services {
            if service.scheduler.is_none() || service.candidates != service.eligible() {
                let scheduler = schedule(service, parameters);
                made.insert(
                    service.config.name.clone(),
                    (std::mem::take(&mut service.candidates), scheduler),
                );
            }
        }
        Self(made)
    }

    /// Gives `model` those that fit. What has changed since is made when the snapshot is built.
    pub(super) fn lend(self, model: &mut Model) {
        let mut made = self.0;
        for service in &mut model.services {
            let Some((candidates, scheduler)) = made.remove(&service.config.name) else { continue };
            if candidates == service.eligible() {
                (service.candidates, service.scheduler) = (candidates, Some(scheduler));
            }
        }
    }
}

/// Builds what workers read; `ports` are the hardware address and the largest packet of each, `former` is what they read now. Brings
/// the schedulers in `model` up to date; those whose backends are the same stay.
pub(super) fn snapshot(
    generation: u32,
    model: &mut Model,
    config: &Config,
    ports: &[(Mac, u16)],
    former: &Snapshot,
) -> Snapshot {
    let parameters = maglev(config);
    let mut backends: Vec<Option<Backend>> = vec![None; model.slots.len()];
    let mut tunnels = vec![None; model.slots.len()];
    let mut services = Vec::with_capacity(model.services.len());
    for (index, service) in model.services.iter_mut().enumerate() {
        let timeouts = timeouts(service.config.timeouts);
        let tunnel = tunnel(&service.config);
        let scheduler = schedule(service, parameters);
        let serving: HashSet<u32> = service
            .candidates
            .iter()
            .filter(|candidate| candidate.weight > 0)
            .map(|candidate| candidate.slot)
            .collect();
        for backend in &service.backends {
            model.slots.set_tunnel(backend.slot, tunnel.clone());
            tunnels[backend.slot as usize].clone_from(&tunnel);
            backends[backend.slot as usize] = Some(Backend {
                address: backend.config.address.ip,
                port: backend.config.address.port,
                service: index as u32,
                timeouts,
                removed: false,
                serving: serving.contains(&backend.slot),
            });
        }
        services.push(service::Service {
            id: service.id,
            protocol: service.config.protocol,
            vip: service.config.vip,
            ports: service.config.ports,
            mode: service.config.mode,
            timeouts,
            hash_fields: HashFields::new(service.config.hashed()),
            affinity: affinity(&service.config),
            mss: service.config.mss,
            resets_unknown: service.config.on_unknown() == UnknownConnections::Reset,
            scheduler,
        });
    }
    for (slot, owner) in model.slots.retired() {
        tunnels[slot as usize].clone_from(&owner.tunnel);
        backends[slot as usize] = Some(Backend {
            address: owner.address.ip,
            port: owner.address.port,
            service: u32::MAX,
            timeouts: Timeouts::default(),
            removed: true,
            serving: false,
        });
    }
    let ports = config
        .ports
        .iter()
        .zip(ports)
        .map(|(port, &(mac, mtu))| Port {
            mac,
            mtu: port.mtu.min(mtu),
            addresses: port.addresses.clone(),
            host: port.rate_to_host(),
        })
        .collect();
    let routes = config.routes.iter().map(|route| (route.to, route.via)).collect();
    let local_addresses = locals::by_slot(model, config, former);
    let resetting = model.slots.resetting();
    let crossings = crossings(former, &backends);
    Snapshot::new(Parts {
        generation,
        services,
        backends,
        tunnels,
        ports,
        routes,
        local_addresses,
        resetting,
        crossings,
    })
}

/// The crossings of the `former` snapshot whose backends have kept their slots: connections may be left of them.
fn crossings(former: &Snapshot, backends: &[Option<Backend>]) -> Vec<(u32, Prefix)> {
    let kept = |slot: u32| {
        let now = backends.get(slot as usize).and_then(Option::as_ref);
        now.zip(former.backend(slot)).is_some_and(|(now, before)| now.address == before.address)
    };
    former.crossings().iter().copied().filter(|&(slot, _)| kept(slot)).collect()
}

/// The tunnel of a service.
fn tunnel(config: &ctl::config::Service) -> Option<Arc<tunnel::Options>> {
    let gue = GueForm {
        port: config.gue_port.unwrap_or(ctl::config::Service::DEFAULT_GUE_PORT),
        direct: config.gue_variant != Some(0),
    };
    let sources: Vec<_> = config
        .tunnel_sources
        .iter()
        .flat_map(|prefix| prefix.addresses())
        .take(ctl::config::Service::MAX_TUNNEL_SOURCES)
        .collect();
    if config.tunnel == Tunnel::None {
        return None;
    }
    let options = tunnel::Options::new(config.tunnel, gue, config.vip.is_ipv6(), &sources);
    Some(Arc::new(match config.dscp {
        Some(dscp) => options.with_mark(Mark { dscp, vip: config.vip.address() }),
        None => options,
    }))
}

/// The service's scheduler, made anew only if its backends changed.
fn schedule(service: &mut Service, parameters: MaglevParameters) -> Arc<dyn scheduler::Scheduler> {
    let candidates = service.eligible();
    if let (Some(scheduler), true) = (&service.scheduler, service.candidates == candidates) {
        return Arc::clone(scheduler);
    }
    let scheduler = scheduler::build(service.config.scheduler, &candidates, parameters);
    service.candidates = candidates;
    service.scheduler = Some(Arc::clone(&scheduler));
    scheduler
}

/// The affinity of a service, as workers see it.
fn affinity(config: &ctl::config::Service) -> Option<Affinity> {
    let timeout = config.affinity_span()?.as_millis().min(Timeouts::MAX.as_millis() as u64) as u32;
    Some(Affinity {
        timeout,
        prefix_v4: config.affinity_prefix_v4.unwrap_or(ctl::config::Service::DEFAULT_AFFINITY_PREFIX_V4),
        prefix_v6: config.affinity_prefix_v6.unwrap_or(ctl::config::Service::DEFAULT_AFFINITY_PREFIX_V6),
    })
}

/// The configured timeouts, in the milliseconds and states of the connection table.
fn timeouts(config: ctl::config::Timeouts) -> Timeouts {
    let most = Timeouts::MAX.as_millis() as u64;
    let milliseconds = |span: ctl::config::TimeSpan| span.as_millis().min(most) as u32;
    let fin = milliseconds(config.fin);
    Timeouts {
        half_open: milliseconds(config.syn),
        established: milliseconds(config.established),
        half_closed: fin.max(HALF_CLOSED),
        closing: fin,
        udp: milliseconds(config.udp),
    }
}

/// The next hops that the configuration needs: gateways, and what leads to the backends.
pub(super) fn needed_hops(snapshot: &Snapshot, config: &Config) -> HashSet<NextHop> {
    let gateways = config.routes.iter().map(|route| route.via);
    let backends = snapshot.backends().iter().flatten().filter(|backend| !backend.removed);
    gateways
        .chain(backends.map(|backend| backend.address))
        .filter(|&address| !snapshot.is_local(address))
        .filter_map(|address| snapshot.next_hop(address))
        .take(super::neighbors::CAPACITY / 2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::Admin;

    const TEXT: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.1.0.1/24"]
[[service]]
name = "web"
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
backend = [{ address = "10.1.0.11:80" }, { address = "10.1.0.12:80", weight = 50 }, { address = "10.1.0.13:80", tier = 1 }]
[[service]]
name = "mail"
vip = "192.0.2.10"
ports = "25"
protocol = "tcp"
mode = "nat"
backend = [{ address = "10.1.0.11:25" }]
"#;

    fn built(model: &Model, text: &str, generation: u32) -> (Model, Snapshot) {
        let config = Config::parse(text, "test").unwrap();
        let mut model = model.with(&config.services, generation).unwrap();
        let links = [(Mac([2; 6]), 1400)];
        let snapshot = snapshot(generation, &mut model, &config, &links, &Snapshot::default());
        (model, snapshot)
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let (one, _) = built(&Model::default(), TEXT, 1);
        let (two, snapshot) = built(&one, &TEXT.replace("weight = 50", "weight = 51"), 2);
        let scheduler = |model: &Model, at: usize| model.services[at].scheduler.clone().unwrap();
        assert!(!Arc::ptr_eq(&scheduler(&one, 0), &scheduler(&two, 0)));
        assert!(Arc::ptr_eq(&scheduler(&one, 1), &scheduler(&two, 1)));
        assert_eq!(snapshot.ports()[0].mtu, 1400);
    }

    #[test]
    fn numbers_stay_and_removed_backends_keep_their_slots() {
        let (one, _) = built(&Model::default(), TEXT, 1);
        let (ids, slots) = (
            one.services.iter().map(|service| service.id).collect::<Vec<_>>(),
            one.services[0].backends.iter().map(|backend| backend.slot).collect::<Vec<_>>(),
        );
        let mail_first = format!(
            "{}[[service]]\nname = \"first\"\nvip = \"192.0.2.11\"\nports = \"25\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             backend = [{{ address = \"10.1.0.11:25\" }}]\n",
            TEXT.replace("{ address = \"10.1.0.11:80\" }, ", "")
        );
        let (two, snapshot) = built(&one, &mail_first, 2);
        assert_eq!((two.services[0].id, two.services[1].id), (ids[0], ids[1]));
        assert!(!ids.contains(&two.services[2].id));
        assert_eq!(two.services[0].backends[0].slot, slots[1]);
        assert!(snapshot.backend(slots[0]).is_some_and(|backend| backend.removed));
        assert!(!snapshot.backend(slots[1]).unwrap().removed);
        assert_ne!(two.services[2].backends[0].slot, slots[0]);
    }

    #[test]
    fn tunnels_are_those_of_the_service_and_stay_with_removed_backends() {
        let text = TEXT.replacen("mode = \"nat\"", "mode = \"dsr\"\ntunnel = \"gre\"", 1);
        let (one, snapshot) = built(&Model::default(), &text, 1);
        let slot = one.services[0].backends[0].slot;
        let mail = one.services[1].backends[0].slot;
        let tunnel = snapshot.tunnel(slot).unwrap();
        // The port's own address, since no other is given.
        assert_eq!((tunnel.overhead(), tunnel.sources()), (24, &["10.1.0.1".parse().unwrap()][..]));
        assert_eq!(snapshot.tunnel(mail), None);
        let other = text
            .replace("{ address = \"10.1.0.11:80\" }, ", "")
            .replace("\"gre\"", "\"ipip\"\ntunnel_sources = [\"10.1.0.64/30\"]");
        let (two, snapshot) = built(&one, &other, 2);
        assert_eq!(snapshot.tunnel(slot).unwrap().overhead(), 24);
        let kept = snapshot.tunnel(two.services[0].backends[0].slot).unwrap();
        assert_eq!((kept.overhead(), kept.sources().len()), (20, 4));
        assert!(snapshot.is_local("10.1.0.67".parse().unwrap()));
    }

    #[test]
    fn connections_between_families_are_looked_for_as_long_as_there_may_be_some() {
        let v4 = "10.0.0.1".parse().unwrap();
        let (_, plain) = built(&Model::default(), TEXT, 1);
        assert!(!plain.translates() && !plain.crosses("192.0.2.10".parse().unwrap()));
        let text = TEXT
            .replacen("mode = \"nat\"", "mode = \"full-nat\"", 1)
            .replace("[\"10.1.0.1/24\"]", "[\"10.1.0.1/24\", \"2001:db8::1/64\"]")
            .replace("address = \"10.1.0.12:80\"", "address = \"[2001:db8::12]:80\"");
        let (one, first) = built(&Model::default(), &text, 1);
        let slot = one.services[0].backends[1].slot;
        assert_eq!(first.crossings(), [(slot, "192.0.2.10/32".parse().unwrap())]);
        assert!(first.translates() && first.crosses("192.0.2.10".parse().unwrap()) && !first.crosses(v4));
        // The backend is gone, its connections are not.
        let config = Config::parse(TEXT, "test").unwrap();
        let mut model = one.with(&config.services, 2).unwrap();
        let links = [(Mac([2; 6]), 1400)];
        let second = snapshot(2, &mut model, &config, &links, &first);
        assert!(second.backend(slot).unwrap().removed);
        assert_eq!(second.crossings(), first.crossings());
        assert_eq!(second.local_addresses(slot), first.local_addresses(slot));
    }

    #[test]
    fn the_lowest_tier_with_anyone_in_it_serves() {
        let (mut model, _) = built(&Model::default(), TEXT, 1);
        let service = &mut model.services[0];
        let eligible = |service: &Service| {
            service.eligible().iter().map(|one| one.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(eligible(service), ["10.1.0.11", "10.1.0.12"]);
        service.backends[0].admin = Admin::Disabled;
        assert_eq!(eligible(service), ["10.1.0.12"]);
        service.backends[1].weight = 0;
        assert_eq!(eligible(service), ["10.1.0.13"]);
        service.backends[2].admin = Admin::Draining { deadline: None };
        assert!(service.eligible().is_empty());
    }
}
