//! `sluicectl port`

use super::Context;
use super::failure::Failure;
use super::output::{Output, Tone, text, toned};
use crate::api::{Link, Port, paths};
use std::fmt::Write;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.output.show(context.client.get(paths::PORTS)?, None, render)
}

fn render(output: &Output, ports: &Vec<Port>) -> String {
    let mut rows = output.table(&[
        "PORT",
        "LINK",
        ">SPEED [Mb/s]",
        ">MTU [B]",
        ">QUEUES",
        "RSS",
        ">RX PACKETS",
        ">TX PACKETS",
        ">RX MISSED",
        ">ERRORS",
    ]);
    for port in ports {
        let tone = match port.link {
            Link::Up => Tone::Good,
            Link::Down => Tone::Bad,
            Link::Unknown => Tone::Care,
        };
        let counters = &port.counters;
        rows.push([
            text(&port.name),
            toned(port.link.as_str(), tone),
            text(port.link_mbps.map_or_else(|| "-".to_owned(), |speed| speed.to_string())),
            text(port.mtu_bytes),
            text(port.queues.rx_queues),
            text(use_of(port.rss.offered, port.rss.in_use)),
            text(counters.rx_packets),
            text(counters.tx_packets),
            text(counters.rx_missed),
            text(counters.rx_errors + counters.tx_errors + counters.rx_no_buffer),
        ]);
    }
    let mut out = rows.render();
    for port in ports {
        details(&mut out, port);
    }
    out
}

/// What does not fit in a row.
fn details(out: &mut String, port: &Port) {
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let offloads = |in_use: bool| {
        list(port.offloads.iter().filter(|it| it.in_use == in_use).map(|it| it.name.clone()).collect())
    };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{}: {} ({}), {}", port.name, port.device, port.driver, port.mac);
    match (&port.parent, port.vlan) {
        (Some(parent), Some(vlan)) => {
            let _ = writeln!(out, "  vlan: {vlan} on {parent}");
        }
        (None, Some(vlan)) => {
            let _ = writeln!(out, "  vlan: {vlan}");
        }
        (_, None) => {}
    }
    let _ = writeln!(out, "  addresses: {}", list(port.addresses.iter().map(ToString::to_string).collect()));
    let queues = &port.queues;
    let _ = writeln!(
        out,
        "  queues: {} of {} rx with {} descriptors, {} of {} tx with {}",
        queues.rx_queues,
        queues.rx_queues_max,
        queues.rx_descriptors,
        queues.tx_queues,
        queues.tx_queues_max,
        queues.tx_descriptors
    );
    let _ = writeln!(out, "  bytes: {} received, {} sent", port.counters.rx_bytes, port.counters.tx_bytes);
    if port.rss.in_use {
        let key = port.rss.key.map_or("unknown", crate::api::RssKey::as_str);
        let _ = writeln!(out, "  rss: {}; key: {key}", list(port.rss.fields.clone()));
    }
    if let Some(host) = &port.host {
        let present = if host.present { "" } else { " (not there)" };
        let _ = writeln!(
            out,
            "  host: {}{present}: {} packets to the kernel, {} over the limit of {}/s, {} not taken; {} from it",
            host.interface,
            host.punted_packets,
            host.limited_packets,
            host.rate,
            host.refused_packets,
            host.sent_packets
        );
    }
    let steering = &port.steering;
    let _ = writeln!(
        out,
        "  steering: packets of {} arrive at {}, owned by {}; {} of {} handed over ({:.1} %)",
        steering.side.as_str(),
        steering.delivery.as_str(),
        steering.owner_by.as_str(),
        steering.handoff_packets,
        steering.rx_packets,
        100.0 * steering.handoff_ratio
    );
    let _ = writeln!(out, "  offloads in use: {}", offloads(true));
    let _ = writeln!(out, "  offloads offered and not used: {}", offloads(false));
    for notice in &port.notices {
        let _ = writeln!(out, "  notice: {notice}");
    }
}

fn use_of(offered: bool, in_use: bool) -> &'static str {
    match (offered, in_use) {
        (_, true) => "in use",
        (true, false) => "offered",
        (false, false) => "none",
    }
}
