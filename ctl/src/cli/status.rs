//! `sluicectl status`

use super::Context;
use super::failure::Failure;
use super::output::{Output, Tone, text, toned, uptime};
use crate::api::{Status, paths};
use std::fmt::Write;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.output.show(context.client.get(paths::STATUS)?, None, render)
}

fn render(output: &Output, status: &Status) -> String {
    let mut rows = output.table(&["", ""]);
    let share = |good: u64, all: u64| toned(format!("{good} of {all} up"), Tone::of_share(good, all));
    rows.push([text("version"), text(format!("{} (DPDK {})", status.version, status.dpdk_version))]);
    rows.push([text("uptime"), text(format!("{} (pid {})", uptime(status.uptime_seconds), status.pid))]);
    rows.push([
        text("configuration"),
        text(format!("{} (generation {})", status.config_file, status.generation)),
    ]);
    rows.push([text("ports"), share(status.ports_up, status.ports)]);
    rows.push([
        text("services"),
        share(status.services.saturating_sub(status.services_down), status.services),
    ]);
    rows.push([text("backends"), share(status.backends_up, status.backends)]);
    rows.push([text("workers"), text(status.workers)]);
    let share = 100.0 * status.connections_active as f64 / status.connections_max.max(1) as f64;
    let connections = format!("{} of {} ({share:.1} %)", status.connections_active, status.connections_max);
    rows.push([text("connections"), text(connections)]);
    let packets = format!(
        "{} received, {} sent, {} dropped since the start",
        status.rx_packets, status.tx_packets, status.dropped_packets
    );
    rows.push([text("packets"), text(packets)]);
    // The header of a list of facts would be empty.
    let table = rows.render();
    let mut out = table.split_once('\n').map_or(String::new(), |(_, facts)| facts.to_owned());
    for notice in &status.notices {
        let _ = writeln!(out, "{}: {notice}", output.paint("notice", Tone::Care));
    }
    out
}
