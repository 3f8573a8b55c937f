//! What a second core adds, what a hand-off costs, and where both lead with many cores.
//!
//! Measured on the cores that there are; beyond them a model, from the measured costs and the real workers' own decisions.

mod curve;
mod handoff;
mod together;

use crate::pipeline::{Setup, clock_mhz};
use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    setup: Setup,
    /// CPUs to run on, one worker each
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    cpus: Vec<usize>,
    /// Measurements of each kind, interleaved
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each, in milliseconds
    #[arg(long, default_value_t = 300)]
    window_ms: u64,
    /// Cycles a second of the time stamp counter, in millions; by default what the kernel says
    #[arg(long)]
    mhz: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    cpus: Vec<usize>,
    flows: u32,
    tsc_mhz: f64,
    pipelines: together::Outcome,
    handoff: handoff::Outcome,
    curve: Vec<curve::Point>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.rounds > 0 && options.setup.flows > 0, "there must be something to measure");
    ensure!(options.cpus.len() > 1, "scaling needs two CPUs; --cpus names them");
    let mhz = clock_mhz(options.mhz)?;
    let plan =
        Plan { cpus: &options.cpus, setup: options.setup, rounds: options.rounds, window: options.window() };
    let pipelines = together::measure(plan, mhz)?;
    let handoff = handoff::measure(plan, mhz)?;
    let curve = curve::draw(options.setup.family, handoff.costs(), mhz)?;
    let report = Report {
        benchmark: "scaling",
        cpus: options.cpus.clone(),
        flows: options.setup.flows,
        tsc_mhz: mhz,
        pipelines,
        handoff,
        curve,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

impl Options {
    fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms.max(1))
    }
}

/// What the threads of a measurement do.
#[derive(Debug, Clone, Copy)]
struct Plan<'a> {
    cpus: &'a [usize],
    setup: Setup,
    rounds: usize,
    window: Duration,
}

/// One thread for each CPU, all in step.
struct Step {
    barrier: Barrier,
    failed: AtomicBool,
}

impl Step {
    fn new(threads: usize) -> Self {
        Self { barrier: Barrier::new(threads), failed: AtomicBool::new(false) }
    }

    /// Waits for the other threads.
    fn wait(&self) {
        self.barrier.wait();
    }

    /// Waits for the other threads; `false` if one of them cannot go on, and so none does.
    fn all<T, E>(&self, mine: &Result<T, E>) -> bool {
        if mine.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.wait();
        let good = !self.failed.load(Ordering::Relaxed);
        // Nobody sets it for the next step before everybody has read it for this one.
        self.wait();
        good
    }
}

/// Middle of the samples; of an even number, the upper one.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
