//! `sluice-perf`: how fast Sluice is, in figures that anyone can repeat.

mod pipeline;
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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::Pipeline(options) => pipeline::run(&options),
    }
}
