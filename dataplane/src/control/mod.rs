//! The control thread: everything that may block.
//!
//! One thread with a current-thread runtime owns the [`Balancer`](balancer::Balancer): it serves the API, hears the
//! workers, resolves neighbours and publishes configurations. Nothing here runs on a worker's core, and workers never
//! wait for it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`balancer`] | all that changes, in one value |
//! | [`model`], [`slots`] | services and backends as they run; the numbers that workers know them by |
//! | [`build`] | from configuration and model to a snapshot |
//! | [`locals`] | the addresses that backends of full-nat see |
//! | [`history`], [`overrides`] | what was in force before; what operators changed at run time |
//! | [`drain`] | backends on their way out |
//! | [`publish`] | the channels to the workers |
//! | [`neighbors`], [`frames`] | next hops: state machine, and the frames it sends |
//! | [`health`] | checks of backends, through the ports |
//! | [`host`] | the kernel's interfaces, and what goes by them |
//! | [`events`] | what happened lately |
//! | [`explain`] | what becomes of a packet, and why |
//! | [`stats`], [`objects`], [`metrics`], [`exposition`] | what the API shows |
//! | [`status_page`] | the same for people with a browser |
//! | [`steering`], [`numa`] | which worker owns what, chosen at start |
//! | [`api`], [`server`], [`socket`] | HTTP |
//! | [`access`] | who may connect, and who may change things |
//! | [`privileges`] | what the process keeps of its own |
//! | [`manager`] | what systemd is told |
//! | [`daemon`] | start and stop, on DPDK ports |

pub mod access;
mod api;
pub mod balancer;
mod build;
mod changes;
#[cfg(feature = "dpdk")]
pub mod daemon;
pub mod device;
mod drain;
mod events;
mod explain;
mod exposition;
mod frames;
pub mod health;
pub mod history;
mod host;
mod locals;
mod manager;
pub mod memory;
mod metrics;
pub mod model;
pub mod neighbors;
#[cfg(feature = "dpdk")]
mod numa;
mod objects;
pub mod overrides;
pub mod privileges;
pub mod publish;
mod server;
pub mod slots;
pub mod socket;
mod stats;
mod status_page;
pub mod steering;

use crate::counters::Counter;
use access::Access;
use api::{Refusal, refuse};
use axum::http::StatusCode;
use balancer::{Applied, Balancer};
use build::Ahead;
use ctl::api::EventKind;
use ctl::config::{Config, ConfigError};
use events::About;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks at what workers have to say while something is going on, and after they have woken this thread: nobody
/// can do so more often.
const LIVELY: Duration = Duration::from_millis(1);
/// How long workers may take to use a new snapshot.
const PATIENCE: Duration = Duration::from_secs(5);

/// The balancer as requests share it. They all run on the control thread; the lock is never held over a wait.
#[derive(Debug)]
pub struct Control {
    balancer: Mutex<Balancer>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// One listing at a time.
    listing: tokio::sync::Mutex<()>,
    /// Who may change things, as looked up last.
    access: Mutex<Arc<Access>>,
    /// How often the workers were heard. Written by [`poll`] alone.
    turns: Counter,
}

impl Control {
    pub fn new(balancer: Balancer) -> Arc<Self> {
        Arc::new(Self {
            balancer: Mutex::new(balancer),
            changing: tokio::sync::Mutex::default(),
            listing: tokio::sync::Mutex::default(),
            access: Mutex::default(),
            turns: Counter::default(),
        })
    }

    fn turns(&self) -> u64 {
        self.turns.get()
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks up who may change things; on another thread, for a directory service may be asked.
    async fn look_up_operators(&self) {
        let operators = self.balancer().config.runtime.operators.clone();
        let found = tokio::task::spawn_blocking(move || Access::of(&operators)).await;
        // Nobody but root and the daemon's user, if that failed.
        let (access, unknown) = found.unwrap_or_default();
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
        for warning in unknown {
            tracing::warn!("{warning}");
        }
    }

    /// The balancer, for as long as nothing is waited for.
    pub fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    async fn listing_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.listing.lock().await
    }

    /// Puts a configuration in force, without waiting for the workers.
    async fn apply(&self, config: Config) -> Result<Applied, Vec<ConfigError>> {
        let _turn = self.turn().await;
        let file = config.origin.file().to_owned();
        let ahead = self.ahead(&config).await.inspect_err(|errors| self.refused(&file, errors))?;
        let applied = self.balancer().apply_prepared(config, ahead);
        let applied = applied.inspect_err(|errors| self.refused(&file, errors))?;
        self.look_up_operators().await;
        self.say_applied(&file, &applied);
        Ok(applied)
    }

    /// Makes what takes long for `config`, while everything else goes on.
    async fn ahead(&self, config: &Config) -> Result<Ahead, Vec<ConfigError>> {
        let (model, parameters) = self.balancer().plan_ahead(config)?;
        let made = tokio::task::spawn_blocking(move || Ahead::make(model, parameters));
        // What was not made ahead is made later.
        Ok(made.await.unwrap_or_default())
    }

    /// Puts the configuration in force that was so before; `None`: there was none.
    async fn roll_back(&self) -> Option<Result<Applied, Vec<ConfigError>>> {
        let _turn = self.turn().await;
        self.roll_back_in_turn().await
    }

    async fn roll_back_in_turn(&self) -> Option<Result<Applied, Vec<ConfigError>>> {
        let config = self.balancer().history.last()?.config.clone();
        let ahead = self.ahead(&config).await.unwrap_or_default();
        let rolled = self.balancer().roll_back(ahead)?;
        if let Ok(applied) = &rolled {
            self.look_up_operators().await;
            self.say_applied(config.origin.file(), applied);
        }
        Some(rolled)
    }

    /// Rolls back after `time` unless what is in force now is confirmed, or another takes its place.
    fn try_out(self: &Arc<Self>, time: Duration) {
        let serial = self.balancer().history.begin_trial(time);
        let control = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let _turn = control.turn().await;
            if !control.balancer().history.is_on_trial(serial) {
                return;
            }
            let message = "the configuration was not confirmed in time and is rolled back";
            control.balancer().events.record(EventKind::ConfigApplied, About::default(), message);
            if let Some(Err(errors)) = control.roll_back_in_turn().await {
                for error in errors {
                    tracing::error!("the roll back failed: {error}");
                }
            }
        });
    }

    fn say_applied(&self, file: &str, applied: &Applied) {
        let changes =
            if applied.changes.is_empty() { "no change".into() } else { applied.changes.join("; ") };
        let message = format!("{file} applied as generation {}: {changes}", applied.generation);
        self.balancer().events.record(EventKind::ConfigApplied, About::default(), message);
        for warning in &applied.warnings {
            tracing::warn!("{warning}");
        }
        for notice in objects::idle(&self.balancer()) {
            tracing::warn!("{notice}");
        }
        for given_up in &applied.given_up {
            tracing::warn!("no longer so: {given_up}");
        }
    }

    /// A configuration that was to be put in force is wrong.
    fn refused(&self, file: &str, errors: &[ConfigError]) {
        let Some(first) = errors.first() else { return };
        let more = match errors.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more errors)"),
        };
        let message = format!("{file} was not applied and nothing was changed: {first}{more}");
        self.balancer().events.record(EventKind::ConfigRefused, About::default(), message);
    }

    /// Waits until every worker uses `generation`.
    async fn acknowledged(&self, generation: u32) -> Result<(), Refusal> {
        let deadline = Instant::now() + PATIENCE;
        while !self.balancer().is_acknowledged(generation) {
            if Instant::now() >= deadline {
                return Err(refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("generation {generation} is published, but not in use by all workers"),
                    format!("a worker did not take it up within {} seconds", PATIENCE.as_secs()),
                    "look at \"sluicectl worker\"; it takes effect when the worker goes on",
                ));
            }
            tokio::time::sleep(LIVELY).await;
            self.balancer().poll();
        }
        Ok(())
    }

    /// SIGHUP: reads the file again; what is wrong with it is logged and changes nothing.
    async fn reload(&self) {
        manager::reloading();
        match self.read_again().await {
            Ok(()) => manager::ready(self),
            Err(why) => manager::refused(&why),
        }
    }

    /// The first thing that is wrong, if anything is.
    async fn read_again(&self) -> Result<(), String> {
        let path = self.balancer().config_file.clone();
        if self.balancer().history.trial_remaining().is_some() {
            let why = "nothing was read, since the configuration in force waits to be confirmed";
            tracing::error!("SIGHUP: {why}");
            return Err(why.to_owned());
        }
        let result = match Config::load(&path) {
            Ok(config) => self.apply(config).await.map(drop),
            Err(errors) => {
                self.refused(&path.display().to_string(), &errors);
                Err(errors)
            }
        };
        result.map_err(|errors| {
            for error in &errors {
                tracing::error!("{error}");
            }
            errors.first().map(ToString::to_string).unwrap_or_default()
        })
    }
}

/// Runs the control plane until SIGTERM or SIGINT, or until `stop` is done.
///
/// # Errors
/// What keeps it from starting, in words.
pub async fn run(
    control: Arc<Control>,
    listener: UnixListener,
    metrics: Option<SocketAddr>,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the control thread cannot start: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    let metrics = match metrics {
        Some(address) => Some(server::bind_metrics(address).await?),
        None => None,
    };
    control.look_up_operators().await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(poll(Arc::clone(&control)));
    tasks.spawn(health::run::run(Arc::clone(&control)));
    host::start(&control, &mut tasks).await?;
    let generation = control.balancer().generation();
    if control.acknowledged(generation).await.is_err() {
        return Err("the workers do not take up their configuration; see the lines above".into());
    }
    tasks.spawn(server::serve_socket(Arc::clone(&control), listener));
    if let Some(listener) = metrics {
        tasks.spawn(server::serve_metrics(Arc::clone(&control), listener));
    }
    let reloads = Arc::clone(&control);
    tasks.spawn(async move {
        while hangup.recv().await.is_some() {
            reloads.reload().await;
        }
    });
    tasks.spawn(manager::watch(Arc::clone(&control)));
    ready();
    manager::ready(&control);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = stop => {}
    }
    manager::stopping();
    tasks.abort_all();
    Ok(())
}

/// Hears the workers, for ever. Between two events it sleeps long: whoever shares its CPU is seldom disturbed.
async fn poll(control: Arc<Control>) {
    let (exchange, bell) = {
        let balancer = control.balancer();
        (Arc::clone(&balancer.exchange), balancer.links.bell())
    };
    let rings = bell.descriptor().and_then(|fd| fd.try_clone_to_owned().ok());
    let rings = rings.and_then(|fd| pipe::Receiver::from_owned_fd(fd).ok());
    let (mut pause, mut woken) = (LIVELY, false);
    loop {
        let lively = control.balancer().poll() || woken;
        control.turns.add(1);
        let leisure = control.balancer().leisure();
        pause = if lively { LIVELY } else { (pause * 2).min(leisure) };
        // While something goes on they are looked at anyway, and need not ring.
        let mut doze = pause > LIVELY && rings.is_some();
        if doze {
            bell.lie_down();
            if control.balancer().links.have_more() {
                bell.get_up();
                (pause, doze) = (LIVELY, false);
            }
        }
        woken = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            // A worker says something.
            () = rung(rings.as_ref()), if doze => true,
            // A check has something to send.
            () = exchange.sent() => false,
        };
        if doze {
            bell.get_up();
        }
    }
}

/// Waits until the bell is rung.
async fn rung(rings: Option<&pipe::Receiver>) {
    let Some(rings) = rings else { return std::future::pending().await };
    // What `Bell::get_up` has read is not there any more.
    while rings.readable().await.is_ok() {
        match rings.try_read(&mut [0; 64]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
    std::future::pending::<()>().await;
}
