//! `sluicectl stats`

use super::Context;
use super::failure::Failure;
use super::output::{Output, percent, text, uptime};
use crate::api::{Stats, paths};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.output.show(context.client.get(paths::STATS)?, None, render)
}

fn render(output: &Output, stats: &Stats) -> String {
    let header = format!("generation {}, up {}\n", stats.generation, uptime(stats.uptime_seconds));
    let tables = [services(output, stats), workers(output, stats), ports(output, stats)];
    [header, totals(output, stats)]
        .into_iter()
        .chain(tables.into_iter().flatten())
        .collect::<Vec<_>>()
        .join("\n")
}

fn totals(output: &Output, stats: &Stats) -> String {
    let mut rows = output.table(&["COUNTER", ">PACKETS"]);
    for (name, packets) in [
        ("received", stats.rx_packets),
        ("sent", stats.tx_packets),
        ("forwarded", stats.forwarded_packets),
        ("consumed", stats.consumed_packets),
        ("punted", stats.punted_packets),
        ("held", stats.held_packets),
        ("generated", stats.generated_packets),
        ("ICMP errors passed on", stats.icmp_error_packets),
        ("TCP endings out of window", stats.out_of_window_packets),
    ] {
        rows.push([text(name), text(packets)]);
    }
    for (reason, packets) in stats.drops.iter().filter(|(_, packets)| **packets > 0) {
        rows.push([text(format!("dropped: {reason}")), text(packets)]);
    }
    rows.render()
}

fn services(output: &Output, stats: &Stats) -> Option<String> {
    let mut rows = output.table(&[
        "SERVICE",
        "BACKEND",
        ">CONNECTIONS",
        ">TOTAL",
        ">PACKETS IN",
        ">BYTES IN",
        ">PACKETS OUT",
        ">BYTES OUT",
    ]);
    for service in &stats.services {
        rows.push([
            text(&service.name),
            text("(all)"),
            text(service.connections_active),
            text(service.connections_total),
            text(service.packets_in),
            text(service.bytes_in),
            text(service.packets_out),
            text(service.bytes_out),
        ]);
        for backend in &service.backends {
            rows.push([
                text(&service.name),
                text(&backend.address),
                text(backend.connections_active),
                text(backend.connections_total),
                text(backend.packets_in),
                text(backend.bytes_in),
                text(backend.packets_out),
                text(backend.bytes_out),
            ]);
        }
    }
    (!stats.services.is_empty()).then(|| rows.render())
}

fn workers(output: &Output, stats: &Stats) -> Option<String> {
    let mut rows = output.table(&[
        ">WORKER CPU",
        ">BUSY [%]",
        ">RX PACKETS",
        ">TX PACKETS",
        ">CONNECTIONS",
        ">HANDOFFS",
    ]);
    for worker in &stats.workers {
        rows.push([
            text(worker.cpu),
            percent(worker.busy_ratio),
            text(worker.rx_packets),
            text(worker.tx_packets),
            text(worker.connections_active),
            text(worker.handoffs),
        ]);
    }
    (!stats.workers.is_empty()).then(|| rows.render())
}

fn ports(output: &Output, stats: &Stats) -> Option<String> {
    let mut rows = output.table(&[
        "PORT",
        ">RX PACKETS",
        ">RX BYTES",
        ">TX PACKETS",
        ">TX BYTES",
        ">RX MISSED",
        ">NO BUFFER",
        ">RX ERRORS",
        ">TX ERRORS",
    ]);
    for port in &stats.ports {
        rows.push([
            text(&port.name),
            text(port.rx_packets),
            text(port.rx_bytes),
            text(port.tx_packets),
            text(port.tx_bytes),
            text(port.rx_missed),
            text(port.rx_no_buffer),
            text(port.rx_errors),
            text(port.tx_errors),
        ]);
    }
    (!stats.ports.is_empty()).then(|| rows.render())
}
