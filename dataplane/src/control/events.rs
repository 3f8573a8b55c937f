//! What happened lately: a bounded list of numbered events, for those who ask and those who wait.
//!
//! Whatever is worth an event is worth a line in the log, so [`Log::record`] writes both. In a storm (a switch dies, and
//! thousands of backends with it) the log has every line, and the list the first [`BURST`] of a kind in [`WINDOW`] and one
//! summary of the others: one kind of trouble does not push out what was said of another.

use super::model::{Choice, Model, Service};
use ctl::api::{AdminState, Event, EventKind, EventQuery, Events, Severity};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Events kept.
const KEPT: usize = 2048;
/// Events of one kind that are listed one by one in a window.
const BURST: u64 = 64;
const WINDOW: Duration = Duration::from_secs(5);
/// Those who may wait for events at the same time.
const READERS: usize = 16;

/// What an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub service: Option<&'a str>,
    pub backend: Option<ctl::config::BackendAddress>,
    pub port: Option<&'a str>,
    pub neighbor: Option<std::net::IpAddr>,
    pub worker: Option<u16>,
}

impl<'a> About<'a> {
    pub(super) fn service(service: &'a str) -> Self {
        Self { service: Some(service), ..Self::default() }
    }

    pub(super) fn backend(service: &'a str, backend: ctl::config::BackendAddress) -> Self {
        Self { backend: Some(backend), ..Self::service(service) }
    }

    pub(super) fn port(port: &'a str) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    pub(super) fn neighbor(port: &'a str, neighbor: std::net::IpAddr) -> Self {
        Self { neighbor: Some(neighbor), ..Self::port(port) }
    }

    pub(super) fn worker(cpu: u16) -> Self {
        Self { worker: Some(cpu), ..Self::default() }
    }
}

/// How many of one kind there were in this window.
#[derive(Debug)]
struct Meter {
    begun: Instant,
    count: u64,
    /// What the last one said.
    last: String,
}

#[derive(Debug, Default)]
struct Inner {
    /// The oldest first, with consecutive numbers.
    kept: VecDeque<Event>,
    last: u64,
    meters: BTreeMap<EventKind, Meter>,
    /// Services that use all their backends, by their numbers.
    panicking: HashSet<u32>,
}

impl Inner {
    fn push(&mut self, event: Event) {
        self.last += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Event { number: self.last, ..event });
    }
}

/// The list.
#[derive(Debug)]
pub(super) struct Log {
    inner: Mutex<Inner>,
    more: Notify,
    readers: Arc<Semaphore>,
    run: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            more: Notify::new(),
            readers: Arc::new(Semaphore::new(READERS)),
            run: format!("{:x}", SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros()),
        }
    }
}

impl Log {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened: into the log, and into the list.
    pub(super) fn record(&self, kind: EventKind, about: About<'_>, message: impl Into<String>) {
        let message = message.into();
        match kind.severity() {
            Severity::Info => tracing::info!("{message}"),
            Severity::Warning => tracing::warn!("{message}"),
        }
        self.list(kind, about, message);
    }

    /// Into the list alone: the log has it in other words.
    pub(super) fn list(&self, kind: EventKind, about: About<'_>, message: String) {
        let mut inner = self.inner();
        let fresh = || Meter { begun: Instant::now(), count: 0, last: String::new() };
        let meter = inner.meters.entry(kind).or_insert_with(fresh);
        meter.count += 1;
        if meter.count > BURST {
            meter.last = message;
            return;
        }
        inner.push(event(kind, about, message, None));
        drop(inner);
        self.more.notify_waiters();
    }

    /// An operator changed a backend: what it is allowed to do, and its weight, before and after.
    pub(super) fn operator(
        &self,
        service: &str,
        address: ctl::config::BackendAddress,
        before: (AdminState, u16),
        after: (AdminState, u16),
    ) {
        let (kind, what) = match (before == after, after) {
            (_, (AdminState::Draining, _)) if before.0 != after.0 => {
                (EventKind::DrainBegun, "draining".to_owned())
            }
            (_, (admin, _)) if before.0 != admin => (EventKind::BackendChanged, admin.as_str().to_owned()),
            (false, (_, weight)) => (EventKind::BackendChanged, format!("of weight {weight}")),
            (true, _) => return,
        };
        let message = format!("backend {address} of service {service:?} is {what} now");
        self.record(kind, About::backend(service, address), message);
    }

    /// Says which services use all their backends from now on, and which no longer.
    pub(super) fn panics(&self, model: &Model) {
        let panics = |service: &Service| matches!(service.choice(), Choice::Panic { .. });
        let now: HashSet<u32> = model.services.iter().filter(|one| panics(one)).map(|one| one.id).collect();
        let were = std::mem::replace(&mut self.inner().panicking, now.clone());
        for service in &model.services {
            let name = &service.config.name;
            let (kind, what) = match (were.contains(&service.id), now.contains(&service.id)) {
                (false, true) => (EventKind::PanicBegun, "too few backends are up, so all are used"),
                (true, false) => (EventKind::PanicEnded, "enough backends are up again"),
                _ => continue,
            };
            self.record(kind, About::service(name), format!("service {name:?}: {what}"));
        }
    }

    /// Ends windows that have passed, with a summary of what was not listed.
    pub(super) fn settle(&self, now: Instant) {
        let mut inner = self.inner();
        let before = inner.last;
        while let Some((&kind, _)) =
            inner.meters.iter().find(|(_, meter)| now.saturating_duration_since(meter.begun) >= WINDOW)
        {
            let Some(meter) = inner.meters.remove(&kind) else { break };
            let unlisted = meter.count.saturating_sub(BURST);
            if unlisted > 0 {
                let message = format!("{unlisted} more like these are not listed; the last: {}", meter.last);
                inner.push(event(kind, About::default(), message, Some(unlisted)));
            }
        }
        let more = inner.last > before;
        drop(inner);
        if more {
            self.more.notify_waiters();
        }
    }

    /// Those after `since`. A number that none has yet is from before a restart: then all.
    pub(super) fn after(&self, since: u64) -> Events {
        let inner = self.inner();
        let since = if since > inner.last { 0 } else { since };
        let first = inner.last - inner.kept.len() as u64;
        let skipped = since.saturating_sub(first) as usize;
        Events {
            events: inner.kept.iter().skip(skipped).cloned().collect(),
            last: inner.last,
            missed: first.saturating_sub(since),
            run: self.run.clone(),
        }
    }

    /// The number of the newest one.
    pub(super) fn last(&self) -> u64 {
        self.inner().last
    }

    /// The right to wait; there is a bounded number of them.
    pub(super) fn reader(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.readers).try_acquire_owned().ok()
    }

    /// Waits for an event after `since`, not for ever.
    pub(super) async fn wait(&self, since: u64) {
        let newer = async {
            loop {
                let mut more = std::pin::pin!(self.more.notified());
                more.as_mut().enable();
                if self.inner().last != since {
                    return;
                }
                more.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(EventQuery::WAIT_SECONDS), newer).await;
    }
}

fn event(kind: EventKind, about: About<'_>, message: String, summarised: Option<u64>) -> Event {
    Event {
        number: 0,
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        kind,
        severity: kind.severity(),
        message,
        service: about.service.map(str::to_owned),
        backend: about.backend.map(|backend| backend.to_string()),
        port: about.port.map(str::to_owned),
        neighbor: about.neighbor.map(|address| address.to_string()),
        worker: about.worker,
        summarised,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [EventKind; 3] = [EventKind::HealthDown, EventKind::NeighborLost, EventKind::ConfigApplied];

    fn say(log: &Log, kind: EventKind, count: u64) {
        for number in 0..count {
            log.list(kind, About::default(), format!("{} {number}", kind.as_str()));
        }
    }

    #[test]
    fn a_storm_is_summarised_and_pushes_nothing_out() {
        let log = Log::default();
        say(&log, EventKind::ConfigApplied, 1);
        say(&log, EventKind::HealthDown, 10_000);
        log.settle(Instant::now() + WINDOW);
        let all = log.after(0);
        assert_eq!((all.events.len() as u64, all.missed), (1 + BURST + 1, 0));
        assert_eq!(all.events[0].kind, EventKind::ConfigApplied);
        let last = all.events.last().unwrap();
        assert_eq!((last.kind, last.summarised), (EventKind::HealthDown, Some(10_000 - BURST)));
        assert!(last.message.ends_with("the last: health_down 9999"), "{}", last.message);
        // The next window begins anew.
        say(&log, EventKind::HealthDown, 1);
        assert_eq!(log.after(all.last).events[0].message, "health_down 0");
    }

    #[test]
    fn a_number_from_before_a_restart_lists_all() {
        let log = Log::default();
        say(&log, EventKind::ConfigApplied, 3);
        assert_eq!(log.after(900).events.len(), 3);
        assert_eq!(log.after(3).events.len(), 0);
        assert_ne!(log.after(0).run, "");
    }

    #[test]
    fn those_who_wait_are_woken_and_are_few() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let log = Arc::new(Log::default());
            let begun = tokio::time::Instant::now();
            log.wait(0).await;
            assert_eq!(begun.elapsed().as_secs(), EventQuery::WAIT_SECONDS);
            let teller = Arc::clone(&log);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                say(&teller, EventKind::PortDown, 1);
            });
            log.wait(0).await;
            assert_eq!(begun.elapsed().as_secs(), EventQuery::WAIT_SECONDS + 1);
            let readers: Vec<_> = (0..READERS).map(|_| log.reader().unwrap()).collect();
            assert!(log.reader().is_none());
            drop(readers);
            assert!(log.reader().is_some());
        });
    }

    proptest! {
        /// Whoever pages through sees each number once, in order, and is told how many are gone.
        #[test]
        fn numbers_have_no_gaps(
            steps in proptest::collection::vec((0..3usize, 0..40u64, any::<bool>()), 1..150), ask in 1..20usize,
        ) {
            let log = Log::default();
            let (mut since, mut now) = (0, Instant::now());
            for (at, (kind, count, settles)) in steps.into_iter().enumerate() {
                say(&log, KINDS[kind], count);
                if settles {
                    now += WINDOW * 2;
                    log.settle(now);
                }
                if at % ask == 0 {
                    let answer = log.after(since);
                    let numbers: Vec<u64> = answer.events.iter().map(|event| event.number).collect();
                    prop_assert_eq!(numbers, (since + answer.missed + 1..=answer.last).collect::<Vec<_>>());
                    prop_assert!(answer.events.len() <= KEPT);
                    since = answer.last;
                }
            }
        }
    }
}
