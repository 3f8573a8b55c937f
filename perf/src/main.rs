//! `sluice-perf`: how fast Sluice is, in figures that anyone can repeat.

#[cfg(feature = "dpdk")]
mod load;
mod pipeline;
mod quiet;
mod report;
mod scaling;
mod traffic;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "sluice-perf", version, about = "Benchmarks of Sluice")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Cycles a packet from received packet to verdict, without any port
    Pipeline(pipeline::Options),
    /// Packets through a device under test on a DPDK link: rates, loss, latency, and whether they are right
    #[cfg(feature = "dpdk")]
    Load(Box<load::Options>),
    /// Writes the configuration of a sluiced that `load` can be run against
    #[cfg(feature = "dpdk")]
    Config(load::ConfigOptions),
    /// What a second core adds, what a hand-off costs, and a model of up to 64 workers
    Scaling(scaling::Options),
    /// Table and charts of a directory of results
    Report(report::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::Pipeline(options) => pipeline::run(&options),
        #[cfg(feature = "dpdk")]
        Benchmark::Load(options) => load::run(&options),
        #[cfg(feature = "dpdk")]
        Benchmark::Config(options) => {
            load::configuration(&options);
            Ok(())
        }
        Benchmark::Scaling(options) => scaling::run(&options),
        Benchmark::Report(options) => report::run(&options),
    }
}
