//! `sluicectl flow`

use super::Context;
use super::failure::Failure;
use super::output::{Output, seconds, text};
use crate::api::{FlowQuery, Flows, paths};
use crate::config::{BackendAddress, Prefix};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only those of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only those on this backend, its address as in the file
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<BackendAddress>,
    /// Only those of this client, an address or a prefix
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Prefix>,
    /// At most this many
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = FlowQuery::DEFAULT_LIMIT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(FlowQuery::MAX_LIMIT))
    )]
    limit: u32,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let query = FlowQuery {
        service: arguments.service,
        backend: arguments.backend.map(|backend| backend.to_string()),
        client: arguments.client,
        limit: Some(arguments.limit),
    };
    context.output.show(context.client.get(&paths::flows(&query))?, Some("flows"), render)
}

fn render(output: &Output, flows: &Flows) -> String {
    let mut rows = output.table(&[
        "PROTOCOL",
        "CLIENT",
        "VIP",
        "LOCAL",
        "BACKEND",
        "SERVICE",
        "STATE",
        ">CPU",
        ">AGE [s]",
        ">IDLE [s]",
        ">TIMEOUT [s]",
        ">PACKETS",
    ]);
    for flow in &flows.flows {
        rows.push([
            text(flow.protocol),
            text(&flow.client),
            text(&flow.vip),
            text(flow.local.as_deref().unwrap_or("-")),
            text(&flow.backend),
            text(&flow.service),
            text(flow.state.as_str()),
            text(flow.worker),
            seconds(flow.age_seconds),
            seconds(flow.idle_seconds),
            seconds(flow.timeout_seconds),
            text(flow.packets.map_or_else(|| "-".to_owned(), |packets| packets.to_string())),
        ]);
    }
    let mut out = rows.render();
    if flows.truncated {
        out.push_str("There are more: ask for them with --limit, or for fewer with --service, --backend or --client.\n");
    }
    out
}
