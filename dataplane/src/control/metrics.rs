//! The metrics page: OpenMetrics text, made anew for every scrape.

use super::balancer::Balancer;
use super::model::{Backend, Choice, Service};
use super::objects;
use super::stats;
use crate::counters::{Powers, WorkerCounters};
use ctl::api::{
    AdminState, BackendStats, HealthState, Link, NeighborState, PortHost, PortStats, ServiceStats, Worker,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// What the page is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// A histogram that was counted elsewhere.
#[derive(Debug, Default)]
struct Distribution(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    sum: f64,
    /// Upper bound and count, each without those of lower bounds.
    buckets: Vec<(f64, u64)>,
}

impl TypedMetric for Distribution {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Counted { sum, buckets } = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl Counted {
    /// `powers` in a unit of which there are `per_unit`, with a bound for each power in `bounds`.
    fn of(powers: &Powers, per_unit: f64, bounds: std::ops::Range<usize>) -> Self {
        let mut buckets = vec![(0.0, 0); bounds.len()];
        for (bits, (most, count)) in powers.read().enumerate() {
            let at = bits.clamp(bounds.start, bounds.end - 1) - bounds.start;
            buckets[at].0 = if bits + 1 >= bounds.end { f64::INFINITY } else { most as f64 / per_unit };
            buckets[at].1 += count;
        }
        Self { sum: powers.sum() as f64 / per_unit, buckets }
    }
}

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

    fn histogram(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, Counted)>) {
        let family = Family::<Labels, Distribution>::default();
        for (labels, value) in rows {
            *family.get_or_create(&labels).0.lock().unwrap_or_else(PoisonError::into_inner) = value;
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
    let build =
        vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("dpdk_version", balancer.engine.clone())];
    page.0.register("build", "What this is", Info::new(build));
    page.gauge("generation", "Snapshot that all workers use", [(none(), stats.generation as f64)]);
    page.gauge("uptime_seconds", "Time since the start", [(none(), stats.uptime_seconds)]);
    let drops = stats.drops.iter().map(|(reason, count)| (vec![("reason", reason.clone())], *count));
    page.counter("drops", "Packets dropped, by reason", drops);
    page.counter("icmp_errors", "ICMP errors passed on", [(none(), stats.icmp_error_packets)]);
    let help = "Resets and FINs of clients with a sequence number that cannot be theirs";
    page.counter("out_of_window", help, [(none(), stats.out_of_window_packets)]);
    page.counter("events", "Events that were numbered", [(none(), balancer.events.last())]);
    service_metrics(&mut page, &stats.services);
    state_metrics(&mut page, &balancer.model.services);
    backend_metrics(&mut page, &stats.services);
    worker_metrics(&mut page, &workers);
    loop_metrics(&mut page, balancer);
    port_metrics(&mut page, &stats.ports);
    host_metrics(&mut page, balancer);
    link_metrics(&mut page, balancer);
    page.gauge("neighbors", "Neighbours known", [(none(), balancer.neighbors.len() as f64)]);
    neighbor_metrics(&mut page, balancer);
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

/// What checks and operators made of services and backends.
fn state_metrics(page: &mut Page, services: &[Service]) {
    let label = |service: &Service| vec![("service", service.config.name.clone())];
    let each = |value: fn(&Service) -> f64| services.iter().map(move |one| (label(one), value(one)));
    page.gauge(
        "service_backends",
        "Backends that may take connections",
        each(|one| one.up_of_wanted().1 as f64),
    );
    page.gauge("service_backends_up", "Those of them that are up", each(|one| one.up_of_wanted().0 as f64));
    let candidates = each(|one| one.candidates.len() as f64);
    page.gauge("service_candidates", "Backends that new connections are given to", candidates);
    let panic = each(|one| f64::from(u8::from(matches!(one.choice(), Choice::Panic { .. }))));
    page.gauge("service_panic", "1: too few backends are up, so all are used", panic);
    let all = || services.iter().flat_map(|service| service.backends.iter().map(move |one| (service, one)));
    let label = |service: &Service, one: &Backend| {
        vec![("service", service.config.name.clone()), ("backend", one.config.address.to_string())]
    };
    let took = all()
        .filter_map(|(service, one)| Some((label(service, one), one.health.as_ref()?.took?.as_secs_f64())));
    page.gauge("backend_check_duration_seconds", "Time of the last check that passed", took);
    let draining = all().map(|(service, one)| {
        (label(service, one), f64::from(u8::from(one.admin.state() == AdminState::Draining)))
    });
    page.gauge("backend_draining", "1: it keeps its connections and gets no others", draining);
}

/// How busy loops are: what a packet waits for.
fn loop_metrics(page: &mut Page, balancer: &Balancer) {
    let each = |value: fn(&WorkerCounters) -> Counted| {
        balancer.links.iter().map(move |link| (vec![("cpu", link.cpu.to_string())], value(&link.counters)))
    };
    let packets = each(|one| Counted::of(&one.loop_packets, 1.0, 1..10));
    page.histogram("worker_loop_packets", "Packets found by a loop that found any", packets);
    let seconds = each(|one| Counted::of(&one.loop_cycles, one.cycles_per_second.get().max(1) as f64, 9..27));
    let help =
        "Time since the loop before of a loop that found packets: the longest that any of them was held";
    page.histogram("worker_loop_duration_seconds", help, seconds);
    let stateless = balancer
        .links
        .iter()
        .map(|link| (vec![("cpu", link.cpu.to_string())], link.counters.stateless.get()));
    page.counter(
        "worker_stateless_packets",
        "Packets forwarded without a connection, for want of room",
        stateless,
    );
}

fn link_metrics(page: &mut Page, balancer: &Balancer) {
    let all: Vec<_> = balancer
        .config
        .ports
        .iter()
        .zip(&balancer.devices)
        .map(|(port, device)| (port, device.facts()))
        .collect();
    let label = |name: &str| vec![("port", name.to_owned())];
    let up =
        all.iter().map(|(port, facts)| (label(&port.name), f64::from(u8::from(facts.link != Link::Down))));
    page.gauge("port_up", "1: the link is not known to be down", up);
    let speed = all
        .iter()
        .filter_map(|(port, facts)| Some((label(&port.name), f64::from(facts.link_mbps?) * 1e6 / 8.0)));
    page.gauge("port_speed_bytes_per_second", "Speed of the link", speed);
}

/// What went between ports and the host's kernel.
fn host_metrics(page: &mut Page, balancer: &Balancer) {
    let ports = balancer.config.ports.iter();
    let all: Vec<(Labels, PortHost)> = ports
        .filter_map(|port| {
            let host = objects::host(balancer, &port.name)?;
            Some((vec![("port", port.name.clone()), ("interface", host.interface.clone())], host))
        })
        .collect();
    let each =
        |value: fn(&PortHost) -> u64| all.iter().map(move |(labels, host)| (labels.clone(), value(host)));
    page.counter(
        "port_host_punted_packets",
        "Packets given to the host's kernel",
        each(|host| host.punted_packets),
    );
    let help = "Packets not given to it: over the rate, or more than was taken so far";
    page.counter("port_host_limited_packets", help, each(|host| host.limited_packets));
    let help = "Packets given to it that it did not take";
    page.counter("port_host_refused_packets", help, each(|host| host.refused_packets));
    page.counter("port_host_sent_packets", "Packets sent for it", each(|host| host.sent_packets));
    let present = all.iter().map(|(labels, host)| (labels.clone(), f64::from(u8::from(host.present))));
    page.gauge("port_host_present", "1: the host's interface is there", present);
}

fn neighbor_metrics(page: &mut Page, balancer: &Balancer) {
    let rows = balancer.neighbors.rows(balancer.now());
    let states =
        [NeighborState::Incomplete, NeighborState::Reachable, NeighborState::Stale, NeighborState::Failed];
    let count = states.map(|state| {
        let found = rows.iter().filter(|row| row.state == state).count();
        (vec![("state", state.as_str().to_owned())], found as f64)
    });
    page.gauge("neighbors_by_state", "Neighbours, by what is known of them", count);
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
    page.gauge(
        "worker_connections_max",
        "Connections that there is room for",
        level(|one| one.connections_max as f64),
    );
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
