//! Statistics: the workers' counters, read with relaxed loads and never asked for.

use super::balancer::Balancer;
use super::device::Device;
use super::model::{Backend, Service};
use super::slots::{self, Totals};
use crate::counters::{Counter, PortCounters, WorkerCounters};
use crate::verdict::DropReason;
use ctl::api::{BackendStats, HealthState, PortStats, ServiceStats, Stats, WorkerStats};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The counters of all workers, to be summed.
#[derive(Debug)]
pub(super) struct Reader {
    workers: Vec<Arc<WorkerCounters>>,
}

/// A service's or backend's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub active: u64,
    pub totals: Totals,
}

/// Whether a backend can serve, as far as anybody knows.
pub(super) fn health_state(backend: &Backend) -> HealthState {
    if backend.is_up() { HealthState::Up } else { HealthState::Down }
}

/// What the last check said.
pub(super) fn health_detail(backend: &Backend) -> String {
    backend.health.as_ref().map_or_else(|| "unchecked".to_owned(), |health| health.detail.to_string())
}

impl Reader {
    pub(super) fn new(balancer: &Balancer) -> Self {
        Self { workers: balancer.links.counters() }
    }

    /// One counter of all workers together.
    pub(super) fn sum(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers.iter().fold(0, |sum, worker| sum.wrapping_add(counter(worker).get()))
    }

    pub(super) fn dropped(&self) -> u64 {
        self.workers.iter().map(|worker| worker.dropped_total()).sum()
    }

    pub(super) fn backend(&self, balancer: &Balancer, backend: &Backend) -> Sum {
        self.slot(balancer, backend.slot)
    }

    pub(super) fn slot(&self, balancer: &Balancer, slot: u32) -> Sum {
        Sum {
            active: slots::active(&self.workers, slot),
            totals: balancer.model.slots.totals(&self.workers, slot),
        }
    }

    /// Its backends, those that are gone, and those that are going.
    pub(super) fn service(&self, balancer: &Balancer, service: &Service) -> Sum {
        let going =
            balancer.model.slots.retired().filter(|(_, owner)| *owner.service == *service.config.name);
        let slots = service.backends.iter().map(|backend| backend.slot).chain(going.map(|(slot, _)| slot));
        slots.fold(Sum { active: 0, totals: service.carried }, |sum, slot| {
            let more = self.slot(balancer, slot);
            Sum { active: sum.active.wrapping_add(more.active), totals: sum.totals.plus(more.totals) }
        })
    }
}

/// `GET /v1/stats`
pub(super) fn stats(balancer: &Balancer) -> Stats {
    let reader = Reader::new(balancer);
    Stats {
        generation: balancer.links.acknowledged(),
        uptime_seconds: balancer.started.elapsed().as_secs_f64(),
        rx_packets: reader.sum(|worker| &worker.rx_packets),
        tx_packets: reader.sum(|worker| &worker.tx_packets),
        rx_bytes: reader.sum(|worker| &worker.rx_bytes),
        tx_bytes: reader.sum(|worker| &worker.tx_bytes),
        forwarded_packets: reader.sum(|worker| &worker.forwarded),
        consumed_packets: reader.sum(|worker| &worker.consumed),
        punted_packets: reader.sum(|worker| &worker.punted),
        held_packets: reader.sum(|worker| &worker.held),
        generated_packets: reader.sum(|worker| &worker.generated),
        icmp_error_packets: reader.sum(|worker| &worker.icmp_errors),
        out_of_window_packets: reader.sum(|worker| &worker.out_of_window),
        drops: drops(&reader),
        services: balancer.model.services.iter().map(|one| service(balancer, &reader, one)).collect(),
        workers: balancer
            .links
            .iter()
            .map(|link| WorkerStats {
                cpu: link.cpu,
                rx_packets: link.counters.rx_packets.get(),
                tx_packets: link.counters.tx_packets.get(),
                busy_ratio: link.busy_ratio(),
                connections_active: link.counters.connections_active.get(),
                handoffs: link.counters.handoffs.get(),
            })
            .collect(),
        ports: ports(balancer),
    }
}

/// By reason, all of them.
pub(super) fn drops(reader: &Reader) -> BTreeMap<String, u64> {
    DropReason::ALL
        .iter()
        .map(|&reason| (reason.name().to_owned(), reader.sum(|worker| &worker.drops[reason as usize])))
        .collect()
}

/// By port. A device counts all that passes it; what its sub-interfaces have of that, the workers count.
pub(super) fn ports(balancer: &Balancer) -> Vec<PortStats> {
    let ports = balancer.config.ports.iter().zip(&balancer.devices).enumerate();
    ports.map(|(id, (port, device))| port_counters(balancer, id, port, &**device)).collect()
}

/// The counters of the port with the number `id`.
pub(super) fn port_counters(
    balancer: &Balancer,
    id: usize,
    port: &ctl::config::Port,
    device: &dyn Device,
) -> PortStats {
    let name = port.name.clone();
    if port.parent.is_none() {
        return PortStats { name, ..device.counters() };
    }
    let workers = balancer.links.counters();
    let sum = |counter: fn(&PortCounters) -> &Counter| {
        workers.iter().filter_map(|worker| worker.ports.get(id)).map(|port| counter(port).get()).sum()
    };
    PortStats {
        name,
        rx_packets: sum(|port| &port.rx_packets),
        rx_bytes: sum(|port| &port.rx_bytes),
        tx_packets: sum(|port| &port.tx_packets),
        tx_bytes: sum(|port| &port.tx_bytes),
        ..PortStats::default()
    }
}

fn service(balancer: &Balancer, reader: &Reader, service: &Service) -> ServiceStats {
    let Sum { active, totals } = reader.service(balancer, service);
    ServiceStats {
        name: service.config.name.clone(),
        vip: service.config.vip,
        ports: service.config.ports,
        protocol: service.config.protocol,
        mode: service.config.mode,
        scheduler: service.config.scheduler,
        connections_active: active,
        connections_total: totals.connections_total,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
        backends: service.backends.iter().map(|one| backend(balancer, reader, one)).collect(),
    }
}

fn backend(balancer: &Balancer, reader: &Reader, backend: &Backend) -> BackendStats {
    let Sum { active, totals } = reader.backend(balancer, backend);
    BackendStats {
        address: backend.config.address.to_string(),
        admin: backend.admin.state(),
        health: health_state(backend),
        health_checked: backend.health.is_some(),
        health_detail: health_detail(backend),
        weight: backend.weight,
        tier: backend.config.tier,
        connections_active: active,
        connections_total: totals.connections_total,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
    }
}
