//! The objects of the API, as they are right now.

use super::balancer::Balancer;
use super::device::Facts;
use super::health::Verdict;
use super::model::{self, Admin, Choice};
use super::slots::Owner;
use super::stats::{self, Reader, Sum};
use super::steering;
use crate::counters::{Counter, HostCounters};
use ctl::api::{AdminState, Backend, HealthState, Link, Neighbor, Port, PortHost, Service, Status, Worker};
use ctl::config::{Affinity, TimeSpan};

/// `GET /v1/status`
pub(super) fn status(balancer: &Balancer) -> Status {
    let reader = Reader::new(balancer);
    let services = &balancer.model.services;
    let backends = || services.iter().flat_map(|service| &service.backends);
    let facts = facts(balancer);
    let mut notices = balancer.notices.clone();
    for (port, facts) in balancer.config.ports.iter().zip(&facts) {
        notices.extend(facts.notices.iter().map(|notice| format!("port {}: {notice}", port.name)));
    }
    notices.extend(balancer.history.trial_remaining().map(|rest| {
        format!(
            "the configuration is rolled back in {} s unless \"sluicectl config confirm\" comes",
            rest.as_secs()
        )
    }));
    let hosts = balancer.config.ports.iter().filter_map(|port| Some((port, host(balancer, &port.name)?)));
    notices.extend(hosts.filter(|(_, host)| !host.present).map(|(port, host)| {
        format!(
            "port {}: the host's interface {} is not there; see \"sluicectl events\"",
            port.name, host.interface
        )
    }));
    notices.extend(panicking(balancer));
    notices.extend(idle(balancer));
    let in_force = balancer.config.origin.file();
    if std::path::Path::new(in_force) != balancer.config_file {
        let started = balancer.config_file.display();
        notices.push(format!("{in_force} is in force, but SIGHUP and a restart will read {started}"));
    }
    let connections_max = balancer.config.runtime.max_connections;
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        dpdk_version: balancer.engine.clone(),
        pid: std::process::id(),
        uptime_seconds: balancer.started.elapsed().as_secs_f64(),
        generation: balancer.links.acknowledged(),
        config_file: in_force.to_owned(),
        workers: balancer.links.len() as u64,
        ports: balancer.config.ports.len() as u64,
        ports_up: facts.iter().filter(|facts| facts.link == Link::Up).count() as u64,
        services: services.len() as u64,
        services_down: services.iter().filter(|service| service.candidates.is_empty()).count() as u64,
        backends: backends().count() as u64,
        backends_up: backends().filter(|backend| backend.admin == Admin::Enabled && backend.is_up()).count()
            as u64,
        connections_active: reader.sum(|worker| &worker.connections_active),
        connections_max: u64::from(connections_max) * balancer.links.len() as u64,
        rx_packets: reader.sum(|worker| &worker.rx_packets),
        tx_packets: reader.sum(|worker| &worker.tx_packets),
        dropped_packets: reader.dropped(),
        notices,
    }
}

/// One line for each service that turns clients away.
pub(super) fn idle(balancer: &Balancer) -> impl Iterator<Item = String> {
    let services = balancer.model.services.iter().filter(|service| service.candidates.is_empty());
    services.map(|service| {
        format!(
            "service {:?}: no backend takes new connections; enable one, give one a weight above 0, or see why they are down",
            service.config.name
        )
    })
}

/// One line for each service that uses backends that are down, since too few are up.
pub(super) fn panicking(balancer: &Balancer) -> impl Iterator<Item = String> {
    let services = balancer.model.services.iter();
    services.filter(|service| matches!(service.choice(), Choice::Panic { .. })).map(|service| {
        let (up, all) = service.up_of_wanted();
        let threshold = service.config.health.as_ref().map_or(0, |health| health.panic_threshold);
        format!(
            "service {:?}: {up} of {all} backends are up, less than panic_threshold = {threshold} %, so all are used",
            service.config.name
        )
    })
}

/// `GET /v1/services`
pub(super) fn services(balancer: &Balancer) -> Vec<Service> {
    let reader = Reader::new(balancer);
    balancer.model.services.iter().map(|one| service(balancer, &reader, one)).collect()
}

/// `GET /v1/services/{name}`
pub(super) fn service(balancer: &Balancer, reader: &Reader, service: &model::Service) -> Service {
    let Sum { active, totals } = reader.service(balancer, service);
    Service {
        name: service.config.name.clone(),
        vip: service.config.vip,
        ports: service.config.ports,
        protocol: service.config.protocol,
        mode: service.config.mode,
        tunnel: service.config.tunnel,
        scheduler: service.config.scheduler,
        hash_fields: match service.config.affinity {
            Affinity::None => service.config.hashed().to_vec(),
            Affinity::SourceIp => Vec::new(),
        },
        affinity: service.config.affinity,
        affinity_timeout_seconds: service.config.affinity_span().map(TimeSpan::as_secs_f64),
        connections_active: active,
        connections_total: totals.connections_total,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
        panic: matches!(service.choice(), Choice::Panic { .. }),
        backends: backends_of(balancer, reader, service),
    }
}

/// The backends of `service`, and behind them those that are gone from the configuration and still have connections.
pub(super) fn backends_of(balancer: &Balancer, reader: &Reader, service: &model::Service) -> Vec<Backend> {
    let listed = service.backends.iter().map(|one| backend(balancer, reader, service, one));
    let going = balancer.model.slots.retired().filter(|(_, owner)| *owner.service == *service.config.name);
    let going = going.map(|(slot, owner)| removed(balancer, reader, slot, owner));
    listed.chain(going.filter(|one| one.connections_active > 0)).collect()
}

/// A backend that is gone from the configuration.
fn removed(balancer: &Balancer, reader: &Reader, slot: u32, owner: &Owner) -> Backend {
    let Sum { active, totals } = reader.slot(balancer, slot);
    Backend {
        service: owner.service.to_string(),
        address: owner.address.to_string(),
        admin: AdminState::Draining,
        removed: true,
        health: HealthState::Up,
        health_checked: false,
        health_detail: "unchecked".into(),
        health_since_seconds: None,
        health_check_seconds: None,
        weight: 0,
        slow_start_weight: None,
        tier: 0,
        connections_active: active,
        connections_total: totals.connections_total,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
        drain_remaining_seconds: owner.deadline.map(|deadline| deadline.remaining_seconds()),
    }
}

/// One backend of `service`.
pub(super) fn backend(
    balancer: &Balancer,
    reader: &Reader,
    service: &model::Service,
    backend: &model::Backend,
) -> Backend {
    let Sum { active, totals } = reader.backend(balancer, backend);
    let drain_remaining_seconds = match backend.admin {
        Admin::Draining { deadline: Some(deadline) } => Some(deadline.remaining_seconds()),
        _ => None,
    };
    let decided = backend
        .health
        .as_ref()
        .filter(|health| matches!(health.standing.verdict, Verdict::Up | Verdict::Down));
    Backend {
        service: service.config.name.clone(),
        address: backend.config.address.to_string(),
        admin: backend.admin.state(),
        removed: false,
        health: stats::health_state(backend),
        health_checked: backend.health.is_some(),
        health_detail: stats::health_detail(backend),
        health_since_seconds: decided.map(|health| health.since.elapsed().as_secs_f64()),
        health_check_seconds: backend
            .health
            .as_ref()
            .and_then(|health| health.took.map(|took| took.as_secs_f64())),
        weight: backend.weight,
        slow_start_weight: backend.ramp.map(|_| backend.share()),
        tier: backend.config.tier,
        connections_active: active,
        connections_total: totals.connections_total,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
        drain_remaining_seconds,
    }
}

/// `GET /v1/workers`
pub(super) fn workers(balancer: &Balancer) -> Vec<Worker> {
    let connections_max = u64::from(balancer.config.runtime.max_connections);
    let worker = |link: &super::publish::Link| {
        let counters = &link.counters;
        let (keys, displaced) = (counters.index_keys.get(), counters.index_displaced.get());
        Worker {
            cpu: link.cpu,
            generation: counters.generation.get(),
            busy_ratio: link.busy_ratio(),
            rx_packets: counters.rx_packets.get(),
            tx_packets: counters.tx_packets.get(),
            forwarded_packets: counters.forwarded.get(),
            consumed_packets: counters.consumed.get(),
            punted_packets: counters.punted.get(),
            held_packets: counters.held.get(),
            generated_packets: counters.generated.get(),
            dropped_packets: counters.dropped_total(),
            connections_active: counters.connections_active.get(),
            connections_max,
            connections_total: counters.connections_total.get(),
            table_load_ratio: keys as f64 / counters.index_slots.get().max(1) as f64,
            // A key is in its first bucket or its second.
            table_probe_mean: 1.0 + displaced as f64 / keys.max(1) as f64,
            table_probe_max: if displaced > 0 { 2 } else { 1 },
            evictions: counters.evictions.get(),
            resets: counters.resets.get(),
            handoffs: counters.handoffs.get(),
            handoffs_in: counters.handoffs_in.get(),
            relayed_packets: counters.relayed.get(),
            sleeps: counters.sleeps.get(),
            memory_bytes: counters.table_bytes.get(),
        }
    };
    balancer.links.iter().map(worker).collect()
}

/// What is known of each port, what its packets have shown so far included.
fn facts(balancer: &Balancer) -> Vec<Facts> {
    let workers = balancer.links.counters();
    let with_counts = |(id, mut facts): (usize, Facts)| {
        let counters = || workers.iter().filter_map(|worker| worker.ports.get(id));
        let steering = &mut facts.steering;
        steering.rx_packets_by_worker = counters().map(|port| port.rx_packets.get()).collect();
        steering.rx_packets = steering.rx_packets_by_worker.iter().sum();
        steering.handoff_packets = counters().map(|port| port.handoffs.get()).sum();
        steering.handoff_ratio = steering.handoff_packets as f64 / steering.rx_packets.max(1) as f64;
        facts.notices.extend(steering::contradiction(
            facts.rss.in_use,
            facts.queues.rx_queues,
            &facts.steering,
        ));
        facts
    };
    let facts = balancer.devices.iter().map(|device| device.facts());
    facts.enumerate().map(with_counts).collect()
}

/// `GET /v1/ports`
pub(super) fn ports(balancer: &Balancer) -> Vec<Port> {
    let devices = balancer.devices.iter().zip(facts(balancer));
    let ports = balancer.config.ports.iter().zip(devices).zip(balancer.snapshot.ports()).enumerate();
    let parent = |port: &ctl::config::Port| {
        let name = port.parent.as_ref()?;
        balancer.config.ports.iter().find(|other| other.name == *name)
    };
    ports
        .map(|(id, ((config, (device, facts)), port))| Port {
            name: config.name.clone(),
            device: parent(config).unwrap_or(config).device.clone(),
            parent: config.parent.clone(),
            vlan: config.vlan,
            driver: facts.driver,
            mac: port.mac.to_string(),
            link: facts.link,
            link_mbps: facts.link_mbps,
            mtu_bytes: port.mtu,
            addresses: port.addresses.clone(),
            numa_node: facts.numa_node,
            queues: facts.queues,
            rss: facts.rss,
            steering: facts.steering,
            offloads: facts.offloads,
            notices: facts.notices,
            host: host(balancer, &config.name),
            counters: stats::port_counters(balancer, id, config, &**device),
        })
        .collect()
}

/// The host's interface for the port of that name.
pub(super) fn host(balancer: &Balancer, name: &str) -> Option<PortHost> {
    let id = balancer.config.ports.iter().position(|port| port.name == name)?;
    let config = &balancer.config.ports[id];
    let (interface, rate) = (config.host_interface.clone()?, config.rate_to_host()?);
    let workers = balancer.links.counters();
    let sum = |counter: fn(&HostCounters) -> &Counter| -> u64 {
        workers.iter().filter_map(|worker| worker.hosts.get(id)).map(|host| counter(host).get()).sum()
    };
    let (present, refused_packets) = balancer.hosts.state(id);
    Some(PortHost {
        interface,
        present,
        rate,
        punted_packets: sum(|host| &host.punted),
        limited_packets: sum(|host| &host.limited),
        refused_packets,
        sent_packets: sum(|host| &host.sent),
    })
}

/// `GET /v1/neighbors`
pub(super) fn neighbors(balancer: &Balancer) -> Vec<Neighbor> {
    let rows = balancer.neighbors.rows(balancer.now());
    rows.into_iter()
        .map(|row| Neighbor {
            port: balancer.port_name(row.hop.port).to_owned(),
            address: row.hop.address,
            mac: row.mac.map(|mac| mac.to_string()),
            state: row.state,
            age_seconds: row.age as f64 / 1000.0,
        })
        .collect()
}
