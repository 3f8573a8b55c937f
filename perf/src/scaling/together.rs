//! A pipeline on each core, alone and all at once: what cores that share only memory and the last cache cost each other.

use super::{Plan, Step, median};
use crate::pipeline::Bench;
use crate::quiet::Window;
use crate::traffic::{Flows, LAN, Order, WAN};
use anyhow::bail;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Time before a window that is not measured: a core that slept starts slowly.
const WARM_UP: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Packets a second of one worker, the others asleep: mean over the CPUs, by round.
    one_packets_per_s: Vec<f64>,
    /// Of all workers together.
    all_packets_per_s: Vec<f64>,
    /// All over one, by round.
    speedup: Vec<f64>,
    speedup_median: f64,
    /// Rounds left out because a core was taken by something else.
    discarded: usize,
    /// No round was quiet: these are the disturbed ones.
    disturbed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    packets_per_s: f64,
    disturbed: bool,
}

/// Each round: every CPU alone, then all of them.
pub(super) fn measure(plan: Plan<'_>, mhz: f64) -> anyhow::Result<Outcome> {
    let step = Step::new(plan.cpus.len());
    let by_thread: Vec<anyhow::Result<Vec<[Sample; 2]>>> = std::thread::scope(|scope| {
        let spawn = |turn| {
            let step = &step;
            scope.spawn(move || one_thread(plan, turn, step, mhz))
        };
        let threads: Vec<_> = (0..plan.cpus.len()).map(spawn).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    let by_thread = by_thread.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(summary(&by_thread))
}

/// By round: this thread alone, and with the others.
fn one_thread(plan: Plan<'_>, turn: usize, step: &Step, mhz: f64) -> anyhow::Result<Vec<[Sample; 2]>> {
    let cpu = plan.cpus[turn];
    let made = prepare(plan, cpu, mhz);
    if !step.all(&made) {
        made?;
        bail!("another CPU's pipeline could not be made");
    }
    let mut bench = made?;
    let mut rounds = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..plan.rounds {
        let mut round = [Sample { packets_per_s: f64::NAN, disturbed: true }; 2];
        for phase in 0..=plan.cpus.len() {
            let together = phase == plan.cpus.len();
            if phase == turn || together {
                match window(&mut bench, plan, cpu) {
                    Ok(sample) => round[usize::from(together)] = sample,
                    Err(error) => outcome = Err(error),
                }
            }
            if !step.all(&outcome) {
                outcome?;
                bail!("another CPU's pipeline failed");
            }
        }
        rounds.push(round);
    }
    Ok(rounds)
}

fn prepare(plan: Plan<'_>, cpu: usize, mhz: f64) -> anyhow::Result<Bench> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        bail!("cannot run on CPU {cpu}");
    }
    let mut bench = Bench::new(plan.setup)?;
    bench.create(plan.setup.flows, mhz)?;
    Ok(bench)
}

fn window(bench: &mut Bench, plan: Plan<'_>, cpu: usize) -> anyhow::Result<Sample> {
    let mut flows = Flows::new(plan.setup.flows, Order::Random);
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        bench.batch(&mut flows, [WAN, LAN])?;
    }
    let (watch, start) = (Window::open(cpu), Instant::now());
    let (mut nanos, mut packets) = (0.0, 0);
    while start.elapsed() < plan.window {
        nanos += bench.batch(&mut flows, [WAN, LAN])?;
        packets += bench.batch_len();
    }
    Ok(Sample { packets_per_s: packets as f64 / nanos * 1e9, disturbed: watch.disturbed() })
}

fn summary(by_thread: &[Vec<[Sample; 2]>]) -> Outcome {
    let rounds = by_thread.iter().map(Vec::len).min().unwrap_or(0);
    let quiet: Vec<usize> =
        (0..rounds).filter(|&r| by_thread.iter().all(|t| t[r].iter().all(|s| !s.disturbed))).collect();
    let disturbed = quiet.is_empty();
    let used = if disturbed { (0..rounds).collect() } else { quiet };
    let sum =
        |round: usize, which: usize| by_thread.iter().map(|t| t[round][which].packets_per_s).sum::<f64>();
    let one: Vec<f64> = used.iter().map(|&round| sum(round, 0) / by_thread.len() as f64).collect();
    let all: Vec<f64> = used.iter().map(|&round| sum(round, 1)).collect();
    let speedup: Vec<f64> = one.iter().zip(&all).map(|(one, all)| all / one).collect();
    Outcome {
        speedup_median: median(&speedup),
        discarded: rounds - used.len(),
        one_packets_per_s: one,
        all_packets_per_s: all,
        speedup,
        disturbed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(packets_per_s: f64) -> Sample {
        Sample { packets_per_s, disturbed: false }
    }

    #[test]
    fn disturbed_rounds_are_left_out_unless_all_are() {
        let noisy = Sample { packets_per_s: 1.0, disturbed: true };
        let threads = [
            vec![[sample(10.0), sample(9.0)], [noisy, sample(9.0)]],
            vec![[sample(20.0), sample(18.0)], [sample(20.0), sample(18.0)]],
        ];
        let outcome = summary(&threads);
        assert_eq!((outcome.discarded, outcome.disturbed), (1, false));
        assert_eq!(outcome.speedup, [27.0 / 15.0]);

        let outcome = summary(&[vec![[noisy, noisy]], vec![[noisy, noisy]]]);
        assert_eq!((outcome.discarded, outcome.disturbed, outcome.speedup_median), (0, true, 2.0));
    }
}
