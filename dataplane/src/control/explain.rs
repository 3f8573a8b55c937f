//! What becomes of a packet: the answer of the worker that it concerns, with names and reasons.

use super::balancer::Balancer;
use super::model::{self, Choice};
use super::{api, objects, stats};
use crate::conn::Direction;
use crate::packet::{Packet, VecPacket};
use crate::pipeline::{Connection, Explanation, Fate, Question};
use crate::route::NextHop;
use crate::service;
use crate::steering::End;
use crate::verdict::DropReason;
use crate::wire::{ethernet, ipv4, ipv6, protocol, udp};
use ctl::api::{
    self as answer, ExplainOutcome, ExplainQuery, ExplainedBackend, ExplainedConnection, ExplainedHop,
    ExplainedPacket, ExplainedService, ExplainedTunnel, ExplainedWorker,
};
use ctl::config::{Affinity, HashField, Mode, Protocol, Scheduler};
use std::net::{IpAddr, SocketAddr};

/// What to ask the workers.
pub(super) fn question(query: &ExplainQuery) -> Question {
    let end = |end: SocketAddr| (end.ip(), end.port());
    Question {
        protocol: service::protocol_number(query.protocol),
        source: end(query.source),
        destination: end(query.destination),
    }
}

/// Of what the workers said, what counts: who has the connection, else who would make it.
pub(super) fn decisive(said: &[Explanation]) -> Option<&Explanation> {
    let has = said.iter().find(|one| matches!(one.fate, Fate::Known(_)));
    has.or_else(|| {
        let owner = match said.first()?.fate {
            Fate::New { owner, .. } | Fate::NoService { owner } | Fate::Punted { owner, .. } => owner,
            Fate::Known(_) | Fate::Delivered | Fate::Forged => 0,
        };
        said.iter().find(|one| one.worker == owner)
    })
}

/// The answer; `None` if no service and no connection takes the packet.
pub(super) fn explanation(
    balancer: &Balancer,
    query: &ExplainQuery,
    said: &Explanation,
) -> Option<answer::Explanation> {
    let mut told = answer::Explanation {
        protocol: query.protocol,
        source: query.source.to_string(),
        destination: query.destination.to_string(),
        outcome: ExplainOutcome::Dropped,
        drop_reason: None,
        service: None,
        worker: worker(balancer, said),
        connection: None,
        backend: None,
        next_hop: None,
        packet: None,
        notes: Vec::new(),
    };
    match said.fate {
        Fate::NoService { .. } => return None,
        Fate::Delivered => told.outcome = ExplainOutcome::Delivered,
        Fate::Punted { port, .. } => {
            told.outcome = ExplainOutcome::Punted;
            let name = balancer.port_name(port);
            let interface = objects::host(balancer, name).map(|host| host.interface).unwrap_or_default();
            told.notes.push(format!("to the host's kernel, by its interface {interface} for port {name}"));
        }
        Fate::Forged => dropped(&mut told, DropReason::IpSource),
        Fate::Known(connection) => known(balancer, &mut told, said, connection),
        Fate::New { service, pick, remembered, conflict, .. } => {
            new(balancer, &mut told, said, query, (service, pick, remembered, conflict));
        }
    }
    Some(told)
}

fn worker(balancer: &Balancer, said: &Explanation) -> ExplainedWorker {
    let cpu = balancer.links.iter().nth(usize::from(said.worker)).map_or(0, |link| link.cpu);
    let by = balancer.devices.first().map(|device| device.facts().steering.owner_by).unwrap_or_default();
    let why = match said.fate {
        Fate::Known(_) => "the connection is in its table".to_owned(),
        _ if balancer.links.len() == 1 => "it is the only one".to_owned(),
        _ => format!("by {}", by.as_str()),
    };
    ExplainedWorker { cpu, why }
}

fn dropped(told: &mut answer::Explanation, reason: DropReason) {
    told.outcome = ExplainOutcome::Dropped;
    told.drop_reason = Some(reason.name().to_owned());
    told.notes.push(reason.help().to_owned());
}

/// A packet of a connection that is there.
fn known(balancer: &Balancer, told: &mut answer::Explanation, said: &Explanation, connection: Connection) {
    let Connection { direction, client, vip, backend: slot, state, .. } = connection;
    told.connection = Some(ExplainedConnection {
        client: text(client),
        vip: text(vip),
        answer: direction == Direction::Reply,
        state: api::flow_state(state),
        idle_seconds: f64::from(connection.idle) / 1000.0,
        timeout_seconds: f64::from(connection.timeout) / 1000.0,
    });
    let Some(backend) = balancer.snapshot.backend(slot) else { return };
    let place = place(balancer, slot);
    told.service = place.map(|(service, _)| explained_service(service));
    told.backend = place.map(|(_, backend)| ExplainedBackend {
        why: "the connection was made to it".into(),
        stable: true,
        ..explained_backend(backend)
    });
    if place.is_none() {
        told.notes.push("the backend was removed; the connection goes on to its end".into());
    }
    let towards = match (direction, connection.one_way) {
        (Direction::Reply, _) => client.0,
        (Direction::Forward, true) => backend.address,
        (Direction::Forward, false) => connection.leaves.1.0,
    };
    let (from, to) = connection.leaves;
    let tunnel = (connection.one_way && direction == Direction::Forward).then_some(slot);
    leaves(balancer, told, said, towards, (text(from), text(to)), tunnel.map(|slot| (slot, from, to)));
}

/// A packet that would make a connection.
fn new(
    balancer: &Balancer,
    told: &mut answer::Explanation,
    said: &Explanation,
    query: &ExplainQuery,
    (index, pick, remembered, conflict): (u32, Option<u32>, bool, bool),
) {
    let Some(found) = balancer.snapshot.services().get(index as usize) else { return };
    let service = balancer.model.services.iter().find(|service| service.id == found.id);
    told.service = service.map(explained_service);
    let Some(slot) = pick else {
        dropped(told, DropReason::NoBackend);
        return;
    };
    let Some(backend) = balancer.snapshot.backend(slot) else { return };
    if let (Some(service), Some((_, backend))) = (service, place(balancer, slot)) {
        told.backend = Some(ExplainedBackend {
            why: if remembered {
                "source-ip affinity: its client was given it before, and comes back in time".into()
            } else {
                why(service)
            },
            stable: remembered || found.scheduler.uses_hash(),
            ..explained_backend(backend)
        });
    }
    if conflict {
        told.notes
            .push("the backend has a connection with the same ends, so another one will be tried".into());
    }
    if found.protocol == Protocol::Tcp && found.resets_unknown {
        told.notes.push("this is about a SYN: any other segment is reset, since no connection has it".into());
    }
    let client = (query.source.ip(), query.source.port());
    let target = (query.destination.ip(), query.destination.port());
    let to = (backend.address, backend.port.unwrap_or(target.1));
    let (from, to) = match found.mode {
        Mode::Dsr => (text(client), text(target)),
        Mode::Nat => match balancer.snapshot.hairpin(client.0, backend.address) {
            None => (text(client), text(to)),
            Some(own) => {
                told.notes.push(format!(
                    "the client is a backend on the same link, so the backend sees {own}, and a port that is chosen when \
                     the connection is made"
                ));
                (any_port(own), text(to))
            }
        },
        Mode::FullNat => {
            let locals = balancer.snapshot.local_addresses(slot);
            if locals.len() > 1 {
                told.notes.push(format!("{} local addresses take turns; the first is shown", locals.len()));
            }
            told.notes.push("the local port is chosen when the connection is made".into());
            if backend.address.is_ipv6() != target.0.is_ipv6() {
                let family = if backend.address.is_ipv6() { "IPv6" } else { "IPv4" };
                told.notes
                    .push(format!("it is translated to {family}, the family of the backend (RFC 7915)"));
            }
            let local = locals.first().map_or_else(|| "*".to_owned(), |local| any_port(*local));
            (local, text(to))
        }
    };
    if found.mode != Mode::Dsr && balancer.snapshot.next_hop(client.0).is_none() {
        told.notes.push(format!("there is no route back to {}", client.0));
        dropped(told, DropReason::NoRoute);
        return;
    }
    let tunnel = (found.mode == Mode::Dsr).then_some((slot, client, target));
    leaves(balancer, told, said, backend.address, (from, to), tunnel);
}

/// How it leaves: towards an address, with these ends, perhaps in the tunnel to a backend's slot.
fn leaves(
    balancer: &Balancer,
    told: &mut answer::Explanation,
    said: &Explanation,
    towards: IpAddr,
    (source, destination): (String, String),
    tunnel: Option<(u32, End, End)>,
) {
    let Some(hop) = balancer.snapshot.next_hop(towards) else {
        told.notes.push(format!("there is no route to {towards}"));
        dropped(told, DropReason::NoRoute);
        return;
    };
    let hop = explained_hop(balancer, hop);
    told.outcome = if hop.mac.is_some() { ExplainOutcome::Forwarded } else { ExplainOutcome::Held };
    if hop.mac.is_none() {
        told.notes.push(format!("it waits until {} has said its hardware address", hop.address));
    }
    let port = balancer
        .snapshot
        .next_hop(towards)
        .and_then(|hop| balancer.snapshot.ports().get(usize::from(hop.port)));
    told.packet = Some(ExplainedPacket {
        port: hop.port.clone(),
        vlan: balancer.config.ports.iter().find(|port| port.name == hop.port).and_then(|port| port.vlan),
        source_mac: port.map(|port| port.mac.to_string()).unwrap_or_default(),
        destination_mac: hop.mac.clone(),
        source,
        destination,
        tunnel: tunnel.and_then(|(slot, from, to)| around(balancer, told, said.hash, slot, (from, to))),
    });
    told.next_hop = Some(hop);
}

fn explained_hop(balancer: &Balancer, hop: NextHop) -> ExplainedHop {
    let row = balancer.neighbors.rows(balancer.now()).into_iter().find(|row| row.hop == hop);
    ExplainedHop {
        port: balancer.port_name(hop.port).to_owned(),
        address: hop.address.to_string(),
        mac: row.and_then(|row| row.mac).map(|mac| mac.to_string()),
        state: row.map(|row| row.state),
    }
}

/// The outer header of the tunnel to the backend in `slot`: that of a packet that is put into it.
fn around(
    balancer: &Balancer,
    told: &answer::Explanation,
    hash: u64,
    slot: u32,
    (from, to): (End, End),
) -> Option<ExplainedTunnel> {
    let tunnel = balancer.snapshot.tunnel(slot)?;
    let mut packet = VecPacket::new(&sample(from, to)?);
    tunnel.apply(&mut packet, hash).ok()?;
    let outer = packet.data().get(ethernet::LEN..)?;
    let (source, destination, number, behind): (IpAddr, IpAddr, u8, usize) = if outer.first()? >> 4 == 4 {
        let ip = ipv4::Ipv4::parse(outer, outer.len()).ok()?;
        (ip.source().into(), ip.destination().into(), ip.protocol(), ip.header_len())
    } else {
        let ip = ipv6::Ipv6::parse(outer, outer.len()).ok()?;
        (ip.source().into(), ip.destination().into(), ip.next_header(), ipv6::LEN)
    };
    let port = |at: usize| Some(u16::from_be_bytes(*outer.get(behind + at..)?.first_chunk()?));
    let (source, destination) = if number == protocol::UDP {
        (text((source, port(0)?)), text((destination, port(2)?)))
    } else {
        (source.to_string(), destination.to_string())
    };
    let kind = told.service.as_ref()?.tunnel;
    let dscp = tunnel.readdressing().map(|way| way.mark().dscp);
    Some(ExplainedTunnel { kind, source, destination, dscp, overhead_bytes: tunnel.overhead() as u64 })
}

/// A frame with an empty datagram.
fn sample(from: End, to: End) -> Option<Vec<u8>> {
    let mut frame = vec![0; ethernet::LEN + ipv6::LEN + udp::LEN];
    let packet = &mut frame[ethernet::LEN..];
    let header = match (from.0, to.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4::emit(packet, source, destination, protocol::UDP, 64, udp::LEN as u16).ok()?;
            ipv4::LEN
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6::emit(packet, source, destination, protocol::UDP, 64, udp::LEN as u16).ok()?;
            ipv6::LEN
        }
        _ => return None,
    };
    udp::emit(&mut packet[header..], from.1, to.1, 0).ok()?;
    frame.truncate(ethernet::LEN + header + udp::LEN);
    Some(frame)
}

/// Why the scheduler picks whom it picks.
fn why(service: &model::Service) -> String {
    let hash_of = || match (service.config.affinity, service.config.hashed()) {
        (Affinity::SourceIp, _) => "the client's address".to_owned(),
        (Affinity::None, fields) if fields.len() == HashField::ALL.len() => "the flow".to_owned(),
        (Affinity::None, fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
            names.join(", ")
        }
    };
    match service.config.scheduler {
        Scheduler::Maglev => {
            let of = hash_of();
            format!("Maglev: the hash of {of} names it, for as long as the same backends take connections")
        }
        Scheduler::SourceHash => {
            let of = hash_of();
            format!(
                "source-hash: the hash of {of} names it, for as long as the same backends take connections"
            )
        }
        Scheduler::RoundRobin => {
            "round-robin: it is next in this worker's round; every new connection of the service moves \
             that on"
                .into()
        }
        Scheduler::LeastConnections => {
            "least-connections: it has the fewest for its weight, those of all workers counted; every \
             connection that begins or ends changes that"
                .into()
        }
    }
}

fn explained_service(service: &model::Service) -> ExplainedService {
    ExplainedService {
        name: service.config.name.clone(),
        vip: service.config.vip,
        ports: service.config.ports,
        mode: service.config.mode,
        tunnel: service.config.tunnel,
        scheduler: service.config.scheduler,
        affinity: service.config.affinity,
        candidates: service.candidates.len() as u64,
        panic: matches!(service.choice(), Choice::Panic { .. }),
    }
}

fn explained_backend(backend: &model::Backend) -> ExplainedBackend {
    ExplainedBackend {
        address: backend.config.address.to_string(),
        admin: backend.admin.state(),
        health: stats::health_state(backend),
        weight: backend.share(),
        why: String::new(),
        stable: false,
    }
}

/// The service and the backend in `slot`, if they are configured.
fn place(balancer: &Balancer, slot: u32) -> Option<(&model::Service, &model::Backend)> {
    balancer.model.services.iter().find_map(|service| {
        service.backends.iter().find(|backend| backend.slot == slot).map(|backend| (service, backend))
    })
}

/// Why nothing takes the packet, and what is near: `why` and `remedy` of the refusal.
pub(super) fn nearest_miss(balancer: &Balancer, query: &ExplainQuery) -> (String, String) {
    let (address, port) = (query.destination.ip(), query.destination.port());
    let at: Vec<_> = balancer
        .model
        .services
        .iter()
        .map(|service| &service.config)
        .filter(|one| one.vip.contains(address))
        .collect();
    let list = "list the services with \"sluicectl service\"".to_owned();
    if at.is_empty() {
        if balancer.snapshot.is_local(address) {
            let why = format!(
                "{address} is an address of the balancer itself: it answers ARP, neighbour discovery and echo there"
            );
            return (why, list);
        }
        let others: Vec<&str> = balancer
            .model
            .services
            .iter()
            .map(|service| &service.config)
            .filter(|one| one.protocol == query.protocol && one.ports.contains(port))
            .map(|one| one.name.as_str())
            .take(3)
            .collect();
        let elsewhere = if others.is_empty() {
            String::new()
        } else {
            format!("; {} port {port} is served elsewhere, by {}", query.protocol, others.join(", "))
        };
        return (format!("no service has the address {address}{elsewhere}"), list);
    }
    let served = |wanted: bool| -> Vec<String> {
        let alike = at.iter().filter(|one| (one.protocol == query.protocol) == wanted);
        alike.map(|one| format!("{} {} (service {:?})", one.protocol, one.ports, one.name)).take(5).collect()
    };
    let (same, other) = (served(true), served(false));
    let there = if same.is_empty() { other } else { same };
    (
        format!(
            "VIP {address} exists, {} port {port} is not served; served there: {}",
            query.protocol,
            there.join(", ")
        ),
        "ask for one of these, or widen \"ports\" of a service".into(),
    )
}

fn text((address, port): End) -> String {
    SocketAddr::new(address, port).to_string()
}

fn any_port(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]:*") } else { format!("{address}:*") }
}
