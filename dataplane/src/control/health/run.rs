//! The task that runs the checks.

use super::super::Control;
use super::duty::{Job, Outcome};
use super::exchange::Exchange;
use super::probe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Most checks under way at once: each has some 20 KiB. Those beyond wait; the times of later ones stay as they are.
const AT_ONCE: usize = 2048;
/// Longest time between two looks at what is due: a configuration may have brought new checks.
const LOOK: Duration = Duration::from_millis(10);

/// Runs the checks of `control`, for ever.
pub(in crate::control) async fn run(control: Arc<Control>) {
    let exchange = Arc::clone(&control.balancer().exchange);
    let mut running = JoinSet::new();
    loop {
        let (jobs, next) = {
            let mut balancer = control.balancer();
            let jobs = balancer.due_checks(AT_ONCE - running.len());
            (jobs, balancer.until_next_check())
        };
        for job in jobs {
            running.spawn(one(Arc::clone(&exchange), job));
        }
        let full = running.len() == AT_ONCE;
        let pause = next.filter(|_| !full).map_or(LOOK, |next| next.min(LOOK));
        let mut outcomes = Vec::new();
        tokio::select! {
            Some(outcome) = running.join_next() => outcomes.extend(outcome.ok()),
            () = tokio::time::sleep(pause) => {}
        }
        while let Some(outcome) = running.try_join_next() {
            outcomes.extend(outcome.ok());
        }
        if !outcomes.is_empty() {
            control.balancer().hear_outcomes(outcomes);
        }
    }
}

async fn one(exchange: Arc<Exchange>, job: Job) -> Outcome {
    let begun = Instant::now();
    let result = probe::ask(&exchange, job.question).await;
    Outcome { slot: job.slot, serial: job.serial, result, took: begun.elapsed() }
}
