//! `sluicectl explain`

use super::Context;
use super::failure::Failure;
use super::output::{Output, Tone, text, toned};
use crate::api::{ExplainOutcome, ExplainQuery, Explanation, HealthState, paths};
use crate::config::{Ports, Protocol};
use std::fmt::Write;
use std::net::SocketAddr;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// tcp or udp
    #[arg(value_name = "PROTOCOL")]
    protocol: Protocol,
    /// Where the packet comes from: 198.51.100.7:40000, [2001:db8::7]:40000
    #[arg(value_name = "SOURCE")]
    source: SocketAddr,
    /// Where it goes to: 192.0.2.10:80
    #[arg(value_name = "DESTINATION")]
    destination: SocketAddr,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { protocol, source, destination } = *arguments;
    let query = ExplainQuery { protocol, source, destination };
    context.output.show(context.client.get(&paths::explain(&query))?, None, render)
}

fn render(output: &Output, told: &Explanation) -> String {
    let mut rows = output.table(&["", ""]);
    let tone = match told.outcome {
        ExplainOutcome::Forwarded | ExplainOutcome::Delivered | ExplainOutcome::Punted => Tone::Good,
        ExplainOutcome::Held => Tone::Care,
        ExplainOutcome::Dropped => Tone::Bad,
    };
    rows.push([text("packet"), text(format!("{} {} -> {}", told.protocol, told.source, told.destination))]);
    let reason = told.drop_reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    rows.push([text("outcome"), toned(format!("{}{reason}", told.outcome.as_str()), tone)]);
    if let Some(service) = &told.service {
        let tunnel = if service.tunnel.as_str() == "none" {
            String::new()
        } else {
            format!(" through {}", service.tunnel)
        };
        let panic = if service.panic { ", in panic: also those that are down" } else { "" };
        rows.push([
            text("service"),
            text(format!(
                "{} ({} {}, {}{tunnel})",
                service.name,
                service.vip,
                ports(service.ports),
                service.mode
            )),
        ]);
        let affinity = if service.affinity.as_str() == "none" {
            String::new()
        } else {
            format!(", affinity {}", service.affinity)
        };
        rows.push([
            text("scheduler"),
            text(format!("{}{affinity} over {} backends{panic}", service.scheduler, service.candidates)),
        ]);
    }
    rows.push([text("worker"), text(format!("CPU {}: {}", told.worker.cpu, told.worker.why))]);
    if let Some(connection) = &told.connection {
        let answer = if connection.answer { ", and this is an answer" } else { "" };
        rows.push([
            text("connection"),
            text(format!(
                "{}, idle for {:.1} of {:.0} s: {} -> {}{answer}",
                connection.state.as_str(),
                connection.idle_seconds,
                connection.timeout_seconds,
                connection.client,
                connection.vip
            )),
        ]);
    }
    if let Some(backend) = &told.backend {
        let tone = if backend.health == HealthState::Up { Tone::Good } else { Tone::Bad };
        let state = format!(
            "{} ({}, {}, weight {})",
            backend.address,
            backend.admin.as_str(),
            backend.health.as_str(),
            backend.weight
        );
        rows.push([text("backend"), toned(state, tone)]);
        rows.push([text("why"), text(&backend.why)]);
    }
    if let Some(hop) = &told.next_hop {
        let state = hop.state.map_or("not asked for yet", |state| state.as_str());
        let mac = hop.mac.as_deref().unwrap_or("no address");
        rows.push([text("next hop"), text(format!("{} on port {}: {mac} ({state})", hop.address, hop.port))]);
    }
    if let Some(packet) = &told.packet {
        let to = packet.destination_mac.as_deref().unwrap_or("?");
        let tagged = packet.vlan.map_or_else(String::new, |vlan| format!(" tagged {vlan}"));
        let leaves = format!("by port {}{tagged}, {} -> {to}", packet.port, packet.source_mac);
        rows.push([text("leaves"), text(leaves)]);
        if let Some(tunnel) = &packet.tunnel {
            let how = match tunnel.dscp {
                Some(dscp) => format!("DSCP {dscp}"),
                None => format!("+{} bytes", tunnel.overhead_bytes),
            };
            let around = format!("{} {} -> {} ({how})", tunnel.kind, tunnel.source, tunnel.destination);
            rows.push([text("in"), text(around)]);
        }
        rows.push([
            text("as"),
            text(format!("{} {} -> {}", told.protocol, packet.source, packet.destination)),
        ]);
    }
    let table = rows.render();
    // The header of a list of facts would be empty.
    let mut out = table.split_once('\n').map_or(String::new(), |(_, facts)| facts.to_owned());
    for note in &told.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn ports(ports: Ports) -> String {
    format!("port {ports}")
}
