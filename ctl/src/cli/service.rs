//! `sluicectl service [NAME]`

use super::failure::Failure;
use super::output::{Output, Tone, text, toned};
use super::{Context, backend};
use crate::api::{AdminState, HealthState, Service, paths};
use crate::config::{Affinity, Tunnel};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show this one with its backends
    name: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.name {
        None => context.output.show(
            context.client.get(paths::SERVICES)?,
            None,
            |output, services: &Vec<Service>| render(output, services),
        ),
        Some(name) => context.output.show(context.client.get(&paths::service(name))?, None, render_one),
    }
}

fn render_one(output: &Output, service: &Service) -> String {
    format!(
        "{}\n{}",
        render(output, std::slice::from_ref(service)),
        backend::render(output, &service.backends)
    )
}

fn render(output: &Output, services: &[Service]) -> String {
    let mut rows = output.table(&[
        "SERVICE",
        "VIP",
        "PORTS",
        "MODE",
        "SCHEDULER",
        "BACKENDS UP",
        ">ACTIVE",
        ">TOTAL",
        ">PACKETS IN",
    ]);
    for service in services {
        let usable = |backend: &&crate::api::Backend| {
            backend.admin == AdminState::Enabled && backend.health == HealthState::Up
        };
        let (up, all) = (service.backends.iter().filter(usable).count(), service.backends.len());
        let tone = match up {
            0 => Tone::Bad,
            up if up < all => Tone::Care,
            _ => Tone::Good,
        };
        let mode = match service.tunnel {
            Tunnel::None => service.mode.to_string(),
            tunnel => format!("{}/{tunnel}", service.mode),
        };
        rows.push([
            text(&service.name),
            text(service.vip),
            text(format!("{}/{}", service.protocol, service.ports)),
            text(mode),
            text(scheduler(service)),
            toned(
                if service.panic { format!("{up} of {all} (all used)") } else { format!("{up} of {all}") },
                tone,
            ),
            text(service.connections_active),
            text(service.connections_total),
            text(service.packets_in),
        ]);
    }
    rows.render()
}

/// `maglev`, or `least-connections (source-ip)` with affinity.
fn scheduler(service: &Service) -> String {
    match service.affinity {
        Affinity::None => service.scheduler.to_string(),
        affinity @ Affinity::SourceIp => format!("{} ({affinity})", service.scheduler),
    }
}
