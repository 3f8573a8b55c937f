//! What the service manager hears (sd_notify(3)): that the daemon is ready, reads its file again, stops; how it is; and,
//! as long as everything moves, that it lives. Without a manager nothing is said.

use super::balancer::Balancer;
use super::{Control, objects};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks where the manager does not set a watchdog.
const LOOK: Duration = Duration::from_secs(5);

/// The workers run, and the configuration is in force.
pub(super) fn ready(control: &Control) {
    let status = status(&control.balancer());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The file is being read again. [`ready`] or [`refused`] comes after it.
pub(super) fn reloading() {
    // Type=notify-reload (systemd 253) wants the time as well.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// What was read again was wrong, so that everything is as before.
pub(super) fn refused(why: &str) {
    let status = format!("nothing was changed: {}", why.replace('\n', " "));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// A manager that does not listen loses nothing that it wants.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not hear: {error}");
    }
}

/// Keeps the manager's watchdog quiet and its status line right, for ever.
pub(super) async fn watch(control: Arc<Control>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Often enough that one look that finds somebody still may be missed.
    let pause = watchdog.map_or(LOOK, |limit| (limit / 3).max(Duration::from_millis(1)));
    let mut progress = Progress::default();
    let mut said = String::new();
    loop {
        tokio::time::sleep(pause).await;
        let (loops, status) = {
            let balancer = control.balancer();
            let workers = balancer.links.iter().map(|link| link.counters.total_cycles.get());
            (workers.chain([control.turns()]).collect(), status(&balancer))
        };
        if progress.everywhere(loops) && watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if said != status {
            tell(&[NotifyState::Status(&status)]);
            said = status;
        }
    }
}

/// Whether everything that has to come round does so. Workers count the cycles of each loop, also of one that slept, which
/// it does for milliseconds at most; the control thread counts how often it heard the workers.
#[derive(Debug, Default)]
struct Progress {
    before: Vec<u64>,
}

impl Progress {
    /// Whether each of `loops` is another number than at the last look.
    fn everywhere(&mut self, loops: Vec<u64>) -> bool {
        let moved = self.before.len() == loops.len() && self.before.iter().zip(&loops).all(|(a, b)| a != b);
        self.before = loops;
        moved
    }
}

/// One line for `systemctl status`.
fn status(balancer: &Balancer) -> String {
    let status = objects::status(balancer);
    format!(
        "generation {}: {} services, {} of {} backends up, {} of {} ports up, {} workers",
        status.generation,
        status.services,
        status.backends_up,
        status.backends,
        status.ports_up,
        status.ports,
        status.workers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_still_is_enough() {
        let mut progress = Progress::default();
        assert!(!progress.everywhere(vec![1, 1, 1]), "nothing is known yet");
        assert!(progress.everywhere(vec![2, 9, 2]));
        assert!(!progress.everywhere(vec![3, 9, 3]), "the second stands still");
        assert!(!progress.everywhere(vec![4, 9, 4]));
        assert!(progress.everywhere(vec![5, 10, 5]), "and goes on");
        assert!(!progress.everywhere(vec![6, 11, 5]), "the control thread stands still");
    }
}
