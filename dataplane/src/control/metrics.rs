//! The metrics page: OpenMetrics text, made anew for every scrape.

use super::balancer::Balancer;
use super::objects;
use super::stats;
use ctl::api::{AdminState, BackendStats, HealthState, PortStats, ServiceStats, Worker};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// What the page is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// A page under way.
struct Page(Registry);

impl Page {
    fn counter(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

/// The page as it is right now.
pub(super) fn text(balancer: &Balancer) -> String {
    let stats = stats::stats(balancer);
    let workers = objects::workers(balancer);
    let mut page = Page(Registry::with_prefix("sluice"));
    let none = Labels::new;
    page.gauge("generation", "Snapshot that all workers use", [(none(), stats.generation as f64)]);
    page.gauge("uptime_seconds", "Time since the start", [(none(), stats.uptime_seconds)]);
    let drops = stats.drops.iter().map(|(reason, count)| (vec![("reason", reason.clone())], *count));
    page.counter("drops", "Packets dropped, by reason", drops);
    page.counter("icmp_errors", "ICMP errors passed on", [(none(), stats.icmp_error_packets)]);
    service_metrics(&mut page, &stats.services);
    backend_metrics(&mut page, &stats.services);
    worker_metrics(&mut page, &workers);
    port_metrics(&mut page, &stats.ports);
    page.gauge("neighbors", "Neighbours known", [(none(), balancer.neighbors.len() as f64)]);
    let mut text = String::new();
    match encode(&mut text, &page.0) {
        Ok(()) => text,
        // Writing to a string does not fail.
        Err(_) => String::from("# EOF\n"),
    }
}

fn service_metrics(page: &mut Page, services: &[ServiceStats]) {
    let label = |service: &ServiceStats| vec![("service", service.name.clone())];
    let each = |value: fn(&ServiceStats) -> u64| services.iter().map(move |one| (label(one), value(one)));
    page.counter("service_connections", "Connections made", each(|one| one.connections_total));
    page.counter("service_packets_in", "Packets from clients", each(|one| one.packets_in));
    page.counter("service_bytes_in", "Bytes from clients", each(|one| one.bytes_in));
    page.counter("service_packets_out", "Packets towards clients", each(|one| one.packets_out));
    page.counter("service_bytes_out", "Bytes towards clients", each(|one| one.bytes_out));
    let active = services.iter().map(|one| (label(one), one.connections_active as f64));
    page.gauge("service_connections_active", "Connections now", active);
}

fn backend_metrics(page: &mut Page, services: &[ServiceStats]) {
    let all: Vec<(&ServiceStats, &BackendStats)> =
        services.iter().flat_map(|service| service.backends.iter().map(move |one| (service, one))).collect();
    let label = |(service, one): &(&ServiceStats, &BackendStats)| {
        vec![("service", service.name.clone()), ("backend", one.address.clone())]
    };
    let each = |value: fn(&BackendStats) -> u64| all.iter().map(move |pair| (label(pair), value(pair.1)));
    page.counter("backend_connections", "Connections made", each(|one| one.connections_total));
    page.counter("backend_packets_in", "Packets from clients", each(|one| one.packets_in));
    page.counter("backend_bytes_in", "Bytes from clients", each(|one| one.bytes_in));
    page.counter("backend_packets_out", "Packets towards clients", each(|one| one.packets_out));
    page.counter("backend_bytes_out", "Bytes towards clients", each(|one| one.bytes_out));
    let level = |value: fn(&BackendStats) -> f64| all.iter().map(move |pair| (label(pair), value(pair.1)));
    page.gauge("backend_connections_active", "Connections now", level(|one| one.connections_active as f64));
    page.gauge("backend_weight", "Share of new connections", level(|one| f64::from(one.weight)));
    let up = level(|one| f64::from(u8::from(one.health == HealthState::Up)));
    page.gauge("backend_up", "1: nothing is known against it", up);
    let enabled = level(|one| f64::from(u8::from(one.admin == AdminState::Enabled)));
    page.gauge("backend_enabled", "1: it may take new connections", enabled);
}

fn worker_metrics(page: &mut Page, workers: &[Worker]) {
    let label = |worker: &Worker| vec![("cpu", worker.cpu.to_string())];
    let each = |value: fn(&Worker) -> u64| workers.iter().map(move |one| (label(one), value(one)));
    page.counter("worker_rx_packets", "Packets received", each(|one| one.rx_packets));
    page.counter("worker_tx_packets", "Packets sent", each(|one| one.tx_packets));
    page.counter(
        "worker_forwarded_packets",
        "Packets received and sent on",
        each(|one| one.forwarded_packets),
    );
    page.counter(
        "worker_consumed_packets",
        "Packets for the balancer itself",
        each(|one| one.consumed_packets),
    );
    page.counter("worker_punted_packets", "Packets given to the kernel", each(|one| one.punted_packets));
    page.counter("worker_generated_packets", "Packets made here", each(|one| one.generated_packets));
    page.counter("worker_dropped_packets", "Packets dropped", each(|one| one.dropped_packets));
    page.counter("worker_connections", "Connections made", each(|one| one.connections_total));
    page.counter("worker_evictions", "Connections that gave way to others", each(|one| one.evictions));
    page.counter("worker_resets", "Connections reset at the end of drains", each(|one| one.resets));
    page.counter("worker_handoffs", "Packets given to other workers", each(|one| one.handoffs));
    page.counter("worker_handoffs_in", "Packets taken from other workers", each(|one| one.handoffs_in));
    let level = |value: fn(&Worker) -> f64| workers.iter().map(move |one| (label(one), value(one)));
    page.gauge("worker_held_packets", "Packets that wait now", level(|one| one.held_packets as f64));
    page.gauge("worker_connections_active", "Connections now", level(|one| one.connections_active as f64));
    page.gauge("worker_busy_ratio", "Share of time spent on packets", level(|one| one.busy_ratio));
    page.gauge("worker_table_load_ratio", "Share of the index in use", level(|one| one.table_load_ratio));
    page.gauge("worker_memory_bytes", "Memory of the tables", level(|one| one.memory_bytes as f64));
}

fn port_metrics(page: &mut Page, ports: &[PortStats]) {
    let label = |port: &PortStats| vec![("port", port.name.clone())];
    let each = |value: fn(&PortStats) -> u64| ports.iter().map(move |one| (label(one), value(one)));
    page.counter("port_rx_packets", "Frames received", each(|one| one.rx_packets));
    page.counter("port_rx_bytes", "Bytes received", each(|one| one.rx_bytes));
    page.counter("port_tx_packets", "Frames sent", each(|one| one.tx_packets));
    page.counter("port_tx_bytes", "Bytes sent", each(|one| one.tx_bytes));
    page.counter("port_rx_errors", "Frames received broken", each(|one| one.rx_errors));
    page.counter("port_rx_missed", "Frames lost to a full ring", each(|one| one.rx_missed));
    page.counter("port_rx_no_buffer", "Times without a buffer", each(|one| one.rx_no_buffer));
    page.counter("port_tx_errors", "Frames not sent", each(|one| one.tx_errors));
}
