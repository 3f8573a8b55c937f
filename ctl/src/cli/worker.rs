//! `sluicectl worker`

use super::Context;
use super::failure::Failure;
use super::output::{Output, percent, text};
use crate::api::{Worker, paths};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    context.output.show(context.client.get(paths::WORKERS)?, None, render)
}

fn render(output: &Output, workers: &Vec<Worker>) -> String {
    let mut rows = output.table(&[
        ">CPU",
        ">BUSY [%]",
        ">RX PACKETS",
        ">TX PACKETS",
        ">DROPPED",
        ">CONNECTIONS",
        ">TABLE [%]",
        ">PROBES",
        ">MAX",
        ">EVICTIONS",
        ">HANDOFFS",
        ">MEMORY [MiB]",
    ]);
    for worker in workers {
        rows.push([
            text(worker.cpu),
            percent(worker.busy_ratio),
            text(worker.rx_packets),
            text(worker.tx_packets),
            text(worker.dropped_packets),
            text(worker.connections_active),
            percent(worker.table_load_ratio),
            text(format!("{:.2}", worker.table_probe_mean)),
            text(worker.table_probe_max),
            text(worker.evictions),
            text(worker.handoffs),
            text(worker.memory_bytes >> 20),
        ]);
    }
    rows.render()
}
