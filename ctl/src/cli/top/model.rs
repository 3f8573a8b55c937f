//! What happens between two readings of the daemon: rates, without a terminal or a clock.

use crate::api::{AdminState, BackendStats, HealthState, Link, Port, PortStats, Stats, Status, Worker};
use crate::cli::output::Tone;
use serde::Serialize;
use std::collections::HashMap;

/// All that the daemon was asked at one time.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) status: Status,
    pub(super) stats: Stats,
    pub(super) workers: Vec<Worker>,
    pub(super) ports: Vec<Port>,
}

/// A reading, and the rates since the one before. A rate is `None` where nothing is there to compare with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) uptime_seconds: f64,
    pub(super) generation: u64,
    /// Between the two readings; `None` for the first one of a run of the daemon.
    pub(super) interval_seconds: Option<f64>,
    pub(super) total: Total,
    pub(super) services: Vec<ServiceRow>,
    pub(super) backends: Vec<BackendRow>,
    pub(super) workers: Vec<WorkerRow>,
    pub(super) drops: Vec<DropRow>,
    pub(super) ports: Vec<PortRow>,
}

/// Packets per second, each way, as the balancer counts them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Total {
    pub(super) services: u64,
    pub(super) services_down: u64,
    pub(super) backends: u64,
    pub(super) backends_up: u64,
    pub(super) connections_active: u64,
    pub(super) connections_max: u64,
    pub(super) connections_per_second: Option<f64>,
    pub(super) rx_packets_per_second: Option<f64>,
    pub(super) rx_bits_per_second: Option<f64>,
    pub(super) tx_packets_per_second: Option<f64>,
    pub(super) tx_bits_per_second: Option<f64>,
    pub(super) drops_per_second: Option<f64>,
    /// Of the busiest worker.
    pub(super) busy_ratio_max: f64,
}

/// What a service or a backend carries; `in` is from clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Traffic {
    pub(super) connections_active: u64,
    pub(super) connections_per_second: Option<f64>,
    pub(super) packets_in_per_second: Option<f64>,
    pub(super) bits_in_per_second: Option<f64>,
    pub(super) packets_out_per_second: Option<f64>,
    pub(super) bits_out_per_second: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ServiceRow {
    pub(super) name: String,
    /// `tcp 192.0.2.10:80`
    pub(super) endpoint: String,
    pub(super) backends: u64,
    /// Enabled and up.
    pub(super) backends_up: u64,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BackendRow {
    pub(super) service: String,
    pub(super) address: String,
    pub(super) admin: AdminState,
    pub(super) health: HealthState,
    pub(super) health_checked: bool,
    pub(super) health_detail: String,
    pub(super) weight: u16,
    pub(super) tier: u8,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

impl BackendRow {
    /// In words, what an operator wants of it first: `up`, `down`, `draining`, `disabled, down`.
    pub(super) fn state(&self) -> (String, Tone) {
        match (self.admin, self.health) {
            (AdminState::Enabled, HealthState::Up) if !self.health_checked => {
                ("unchecked".into(), Tone::Good)
            }
            (AdminState::Enabled, HealthState::Up) => ("up".into(), Tone::Good),
            (AdminState::Enabled, HealthState::Down) => ("down".into(), Tone::Bad),
            (admin, HealthState::Up) => (admin.as_str().into(), Tone::Care),
            (admin, HealthState::Down) => (format!("{}, down", admin.as_str()), Tone::Care),
        }
    }

    /// Why it is down.
    pub(super) fn reason(&self) -> &str {
        if self.health == HealthState::Down { &self.health_detail } else { "" }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct WorkerRow {
    pub(super) cpu: u16,
    pub(super) busy_ratio: f64,
    pub(super) rx_packets_per_second: Option<f64>,
    pub(super) tx_packets_per_second: Option<f64>,
    pub(super) drops_per_second: Option<f64>,
    pub(super) connections_active: u64,
    pub(super) connections_per_second: Option<f64>,
    pub(super) table_load_ratio: f64,
    /// To other workers.
    pub(super) handoffs_per_second: Option<f64>,
    pub(super) handoffs_in_per_second: Option<f64>,
    pub(super) evictions_per_second: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DropRow {
    pub(super) reason: String,
    pub(super) packets: u64,
    pub(super) packets_per_second: Option<f64>,
    /// Of all packets received since the reading before.
    pub(super) received_ratio: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PortRow {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) rx_packets_per_second: Option<f64>,
    pub(super) rx_bits_per_second: Option<f64>,
    pub(super) tx_packets_per_second: Option<f64>,
    pub(super) tx_bits_per_second: Option<f64>,
    /// Lost because the ring was full, or for want of a buffer.
    pub(super) missed_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
}

/// The time between two readings of one run of the daemon.
#[derive(Debug, Clone, Copy)]
struct Span(Option<f64>);

impl Span {
    fn between(before: Option<&Reading>, now: &Reading) -> Self {
        Self(before.and_then(|before| {
            let seconds = now.stats.uptime_seconds - before.stats.uptime_seconds;
            (before.status.pid == now.status.pid && seconds > 0.0).then_some(seconds)
        }))
    }

    /// `None` also where a counter went back: what it counted was replaced by something of the same name.
    fn rate(self, before: Option<u64>, now: u64) -> Option<f64> {
        Some(now.checked_sub(before?)? as f64 / self.0?)
    }

    fn bits(self, before: Option<u64>, now: u64) -> Option<f64> {
        self.rate(before, now).map(|bytes| bytes * 8.0)
    }
}

/// Connections, packets and bytes of a service or a backend.
#[derive(Debug, Clone, Copy)]
struct Counted {
    active: u64,
    total: u64,
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
}

impl Counted {
    fn traffic(self, before: Option<Self>, span: Span) -> Traffic {
        let of = |value: fn(&Self) -> u64| (before.as_ref().map(value), value(&self));
        let rate = |value| {
            let (before, now) = of(value);
            span.rate(before, now)
        };
        let bits = |value| rate(value).map(|bytes| bytes * 8.0);
        Traffic {
            connections_active: self.active,
            connections_per_second: rate(|one| one.total),
            packets_in_per_second: rate(|one| one.packets_in),
            bits_in_per_second: bits(|one| one.bytes_in),
            packets_out_per_second: rate(|one| one.packets_out),
            bits_out_per_second: bits(|one| one.bytes_out),
        }
    }
}

macro_rules! counted {
    ($one:expr) => {
        Counted {
            active: $one.connections_active,
            total: $one.connections_total,
            packets_in: $one.packets_in,
            bytes_in: $one.bytes_in,
            packets_out: $one.packets_out,
            bytes_out: $one.bytes_out,
        }
    };
}

fn is_up(backend: &BackendStats) -> bool {
    backend.admin == AdminState::Enabled && backend.health == HealthState::Up
}

impl Sample {
    /// `before` is the reading before `now`, if there was one.
    pub(super) fn new(before: Option<&Reading>, now: &Reading) -> Self {
        let span = Span::between(before, now);
        let old = before.map(|before| &before.stats);
        let (services, backends) = services(old, &now.stats, span);
        let workers = workers(before, now, span);
        Self {
            uptime_seconds: now.stats.uptime_seconds,
            generation: now.stats.generation,
            interval_seconds: span.0,
            total: total(before, now, span, &workers),
            services,
            backends,
            workers,
            drops: drops(old, &now.stats, span),
            ports: ports(old, now, span),
        }
    }
}

fn total(before: Option<&Reading>, now: &Reading, span: Span, workers: &[WorkerRow]) -> Total {
    let old = before.map(|before| &before.stats);
    let made = |reading: &Reading| reading.workers.iter().map(|one| one.connections_total).sum::<u64>();
    let dropped = |stats: &Stats| stats.drops.values().sum::<u64>();
    Total {
        services: now.status.services,
        services_down: now.status.services_down,
        backends: now.status.backends,
        backends_up: now.status.backends_up,
        connections_active: now.status.connections_active,
        connections_max: now.status.connections_max,
        connections_per_second: span.rate(before.map(made), made(now)),
        rx_packets_per_second: span.rate(old.map(|old| old.rx_packets), now.stats.rx_packets),
        rx_bits_per_second: span.bits(old.map(|old| old.rx_bytes), now.stats.rx_bytes),
        tx_packets_per_second: span.rate(old.map(|old| old.tx_packets), now.stats.tx_packets),
        tx_bits_per_second: span.bits(old.map(|old| old.tx_bytes), now.stats.tx_bytes),
        drops_per_second: span.rate(old.map(dropped), dropped(&now.stats)),
        busy_ratio_max: workers.iter().map(|one| one.busy_ratio).fold(0.0, f64::max),
    }
}

fn services(before: Option<&Stats>, now: &Stats, span: Span) -> (Vec<ServiceRow>, Vec<BackendRow>) {
    let old_services: HashMap<&str, Counted> =
        before.iter().flat_map(|old| &old.services).map(|one| (one.name.as_str(), counted!(one))).collect();
    let old_backends: HashMap<(&str, &str), Counted> = before
        .iter()
        .flat_map(|old| &old.services)
        .flat_map(|service| {
            let name = service.name.as_str();
            service.backends.iter().map(move |one| ((name, one.address.as_str()), counted!(one)))
        })
        .collect();
    let (mut services, mut backends) = (Vec::new(), Vec::new());
    for service in &now.services {
        services.push(ServiceRow {
            name: service.name.clone(),
            endpoint: endpoint(service.protocol, &service.vip.to_string(), &service.ports.to_string()),
            backends: service.backends.len() as u64,
            backends_up: service.backends.iter().filter(|one| is_up(one)).count() as u64,
            traffic: counted!(service).traffic(old_services.get(service.name.as_str()).copied(), span),
        });
        for backend in &service.backends {
            let old = old_backends.get(&(service.name.as_str(), backend.address.as_str())).copied();
            backends.push(BackendRow {
                service: service.name.clone(),
                address: backend.address.clone(),
                admin: backend.admin,
                health: backend.health,
                health_checked: backend.health_checked,
                health_detail: backend.health_detail.clone(),
                weight: backend.weight,
                tier: backend.tier,
                traffic: counted!(backend).traffic(old, span),
            });
        }
    }
    (services, backends)
}

/// `tcp 192.0.2.10:80`, `udp [2001:db8::1]:53`
fn endpoint(protocol: impl std::fmt::Display, vip: &str, ports: &str) -> String {
    if vip.contains(':') {
        format!("{protocol} [{vip}]:{ports}")
    } else {
        format!("{protocol} {vip}:{ports}")
    }
}

fn workers(before: Option<&Reading>, now: &Reading, span: Span) -> Vec<WorkerRow> {
    let old: HashMap<u16, &Worker> =
        before.iter().flat_map(|before| &before.workers).map(|one| (one.cpu, one)).collect();
    now.workers
        .iter()
        .map(|worker| {
            let old = old.get(&worker.cpu).copied();
            let rate = |value: fn(&Worker) -> u64| span.rate(old.map(value), value(worker));
            WorkerRow {
                cpu: worker.cpu,
                busy_ratio: worker.busy_ratio,
                rx_packets_per_second: rate(|one| one.rx_packets),
                tx_packets_per_second: rate(|one| one.tx_packets),
                drops_per_second: rate(|one| one.dropped_packets),
                connections_active: worker.connections_active,
                connections_per_second: rate(|one| one.connections_total),
                table_load_ratio: worker.table_load_ratio,
                handoffs_per_second: rate(|one| one.handoffs),
                handoffs_in_per_second: rate(|one| one.handoffs_in),
                evictions_per_second: rate(|one| one.evictions),
            }
        })
        .collect()
}

/// Reasons that occurred.
fn drops(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<DropRow> {
    let received = span.rate(before.map(|old| old.rx_packets), now.rx_packets);
    let occurred = now.drops.iter().filter(|(_, packets)| **packets > 0);
    occurred
        .map(|(reason, &packets)| {
            // A reason that is not listed has not occurred.
            let old = before.map(|old| old.drops.get(reason).copied().unwrap_or(0));
            let rate = span.rate(old, packets);
            let ratio = |rate: f64, received: f64| if received > 0.0 { rate / received } else { 0.0 };
            DropRow {
                reason: reason.clone(),
                packets,
                packets_per_second: rate,
                received_ratio: rate.zip(received).map(|(rate, received)| ratio(rate, received)),
            }
        })
        .collect()
}

fn ports(before: Option<&Stats>, now: &Reading, span: Span) -> Vec<PortRow> {
    let old: HashMap<&str, &PortStats> =
        before.iter().flat_map(|old| &old.ports).map(|one| (one.name.as_str(), one)).collect();
    let links: HashMap<&str, Link> = now.ports.iter().map(|port| (port.name.as_str(), port.link)).collect();
    now.stats
        .ports
        .iter()
        .map(|port| {
            let old = old.get(port.name.as_str()).copied();
            let rate = |value: fn(&PortStats) -> u64| span.rate(old.map(value), value(port));
            PortRow {
                name: port.name.clone(),
                link: links.get(port.name.as_str()).copied().unwrap_or(Link::Unknown),
                rx_packets_per_second: rate(|one| one.rx_packets),
                rx_bits_per_second: rate(|one| one.rx_bytes).map(|bytes| bytes * 8.0),
                tx_packets_per_second: rate(|one| one.tx_packets),
                tx_bits_per_second: rate(|one| one.tx_bytes).map(|bytes| bytes * 8.0),
                missed_per_second: rate(|one| one.rx_missed + one.rx_no_buffer),
                errors_per_second: rate(|one| one.rx_errors + one.tx_errors),
            }
        })
        .collect()
}
