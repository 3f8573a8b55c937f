//! `sluicectl backend …`

use super::Context;
use super::failure::{Failure, NOT_FOUND, REFUSED, TIMEOUT};
use super::output::{self, Format, Output, Tone, text, toned, uptime};
use crate::api::{AdminState, ApiError, Backend, DrainEnd, DrainRequest, HealthState, WeightRequest, paths};
use crate::config::{BackendAddress, TimeSpan};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List backends, of one service or of all (the default)
    List { service: Option<String> },
    /// Let a backend take new connections again
    Enable(Target),
    /// Give a backend no new connections; its old ones go on
    Disable(Target),
    /// Take a backend out: no new connections, until the old ones are gone
    Drain {
        #[command(flatten)]
        target: Target,
        /// How long the old connections may take, such as 5m
        #[arg(long, value_name = "TIME")]
        deadline: Option<TimeSpan>,
        /// What becomes of those that are left at the deadline
        #[arg(long, value_name = "WHAT", value_enum, default_value_t = Then::Keep, requires_if("reset", "deadline"))]
        then: Then,
        /// Watch until they are gone, or reset; exit with 5 when the deadline comes first
        #[arg(long)]
        wait: bool,
    },
    /// Change a backend's share of new connections
    SetWeight {
        #[command(flatten)]
        target: Target,
        /// 0 to 65535; 0 gives it no new connections
        weight: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Then {
    /// They go on
    Keep,
    /// Client and backend get a reset
    Reset,
}

#[derive(Debug, clap::Args)]
struct Target {
    /// The service, as it is named in the file
    service: String,
    /// The backend's address, as in the file
    address: BackendAddress,
}

impl Target {
    fn path(&self, action: &str) -> String {
        paths::backend_action(&self.service, &self.address.to_string(), action)
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = &context.client;
    let show = |answer: Value| context.output.show(answer, None, render_one);
    match arguments.action.unwrap_or(Action::List { service: None }) {
        Action::List { service } => {
            let answer = client.get(&paths::backends(service.as_deref()))?;
            context.output.show(answer, None, |output, backends: &Vec<Backend>| render(output, backends))
        }
        Action::Enable(target) => show(client.post_empty(&target.path("enable"))?),
        Action::Disable(target) => show(client.post_empty(&target.path("disable"))?),
        Action::SetWeight { target, weight } => {
            show(client.post(&target.path("weight"), &WeightRequest { weight })?)
        }
        Action::Drain { target, deadline, then, wait } => {
            let request = DrainRequest {
                deadline_seconds: deadline.map(TimeSpan::as_secs_f64),
                then: if then == Then::Reset { DrainEnd::Reset } else { DrainEnd::Keep },
            };
            let started = Instant::now();
            let answer: Value = client.post(&target.path("drain"), &request)?;
            if !wait {
                return show(answer);
            }
            let patience = match then {
                Then::Keep => Duration::ZERO,
                Then::Reset => RESET_PATIENCE,
            };
            let end = deadline.map(|deadline| started + deadline.as_duration() + patience);
            let last = watch(context, &target, end)?;
            // As lines, it was the last one.
            if context.output.format == Format::Jsonl { Ok(()) } else { show(last) }
        }
    }
}

/// How long after the deadline the last connections may take to be reset.
const RESET_PATIENCE: Duration = Duration::from_secs(15);

/// Waits until no connection is left; the backend's last state. With `jsonl`, every state on the way is a line.
fn watch(context: &Context, target: &Target, end: Option<Instant>) -> Result<Value, Failure> {
    /// Drains of seconds are seen at once, those of hours cost little.
    const INTERVAL: Duration = Duration::from_millis(500);
    let mut progress = Progress::new(context.output.format);
    loop {
        let (answer, backend) = look(context, target)?;
        if backend.admin == AdminState::Enabled {
            progress.end();
            let error = format!("the drain of {} was called off", target.address);
            let remedy = "drain it again if that was not meant";
            return Err(Failure::told(REFUSED, ApiError::new(error, "someone has enabled it", remedy)));
        }
        let left = backend.connections_active;
        if progress.tell(target, left) && context.output.format == Format::Jsonl {
            output::write(&format!("{answer}\n"))?;
        }
        if left == 0 {
            progress.end();
            return Ok(answer);
        }
        let rest = end.map(|end| end.saturating_duration_since(Instant::now()));
        if rest.is_some_and(|rest| rest.is_zero()) {
            progress.end();
            let error = format!("{} is not drained at its deadline", target.address);
            let remedy = "wait longer with a later deadline, or enable it again";
            let error =
                ApiError::new(error, format!("{left} connections are left; it stays draining"), remedy);
            return Err(Failure::told(TIMEOUT, error));
        }
        sleep(rest.map_or(INTERVAL, |rest| rest.min(INTERVAL)));
    }
}

/// The backend as it is now, as it came and as it is understood.
fn look(context: &Context, target: &Target) -> Result<(Value, Backend), Failure> {
    let path = paths::backends(Some(&target.service));
    let address = target.address.to_string();
    let list: Vec<Value> = context.client.get(&path)?;
    let found =
        list.into_iter().find(|backend| backend.get("address").and_then(Value::as_str) == Some(&address));
    let backend = found.and_then(|value| Some((value.clone(), serde_json::from_value(value).ok()?)));
    backend.ok_or_else(|| {
        let reason = format!("service {:?} no longer has it", target.service);
        let error = ApiError::new(format!("{address} is gone"), reason, "nothing, if its removal was meant");
        Failure::told(NOT_FOUND, error)
    })
}

/// Connections left, on stderr: one line that changes on a terminal, else a line for each change.
struct Progress {
    terminal: bool,
    silent: bool,
    last: Option<u64>,
}

impl Progress {
    fn new(format: Format) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { terminal, silent: format != Format::Table && !terminal, last: None }
    }

    /// Returns whether that was news.
    fn tell(&mut self, target: &Target, left: u64) -> bool {
        if self.last == Some(left) {
            return false;
        }
        self.last = Some(left);
        if self.silent {
            return true;
        }
        let text = format!("{} {}: {left} connections left", target.service, target.address);
        // Progress is a courtesy: when stderr is closed the drain goes on.
        let _ = if self.terminal {
            write!(io::stderr(), "\r\x1b[K{text}")
        } else {
            writeln!(io::stderr(), "{text}")
        };
        true
    }

    fn end(&self) {
        if self.terminal && !self.silent && self.last.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

fn render_one(output: &Output, backend: &Backend) -> String {
    render(output, std::slice::from_ref(backend))
}

pub(super) fn render(output: &Output, backends: &[Backend]) -> String {
    const TITLES: &[&str] = &[
        "SERVICE",
        "BACKEND",
        "ADMIN",
        "HEALTH",
        ">FOR",
        ">WEIGHT",
        ">ACTIVE",
        ">TOTAL",
        ">PACKETS IN",
        "WHY",
    ];
    // The last column only where something is wrong.
    let columns = TITLES.len() - usize::from(backends.iter().all(|backend| why(backend).is_empty()));
    let mut rows = output.table(&TITLES[..columns]);
    for backend in backends {
        let admin = match (backend.admin, backend.drain_remaining_seconds) {
            (AdminState::Draining, Some(rest)) => format!("draining ({rest:.0} s left)"),
            (admin, _) => admin.as_str().to_owned(),
        };
        let admin = if backend.removed { format!("removed, {admin}") } else { admin };
        let admin_tone = if backend.admin == AdminState::Enabled { Tone::Good } else { Tone::Care };
        let health_tone = if backend.health == HealthState::Up { Tone::Good } else { Tone::Bad };
        let cells = [
            text(&backend.service),
            text(&backend.address),
            toned(admin, admin_tone),
            toned(health(backend), health_tone),
            text(backend.health_since_seconds.map_or_else(|| "-".to_owned(), uptime)),
            text(weight(backend)),
            text(backend.connections_active),
            text(backend.connections_total),
            text(backend.packets_in),
            text(why(backend)),
        ];
        rows.push(cells.into_iter().take(columns));
    }
    rows.render()
}

/// `100`, `15 of 100` during a slow start, or `100 (tier 1)` for one that stands by.
fn weight(backend: &Backend) -> String {
    let weight = match backend.slow_start_weight {
        Some(now) => format!("{now} of {}", backend.weight),
        None => backend.weight.to_string(),
    };
    match backend.tier {
        0 => weight,
        tier => format!("{weight} (tier {tier})"),
    }
}

/// `up`, `up (unchecked)`, `down`
fn health(backend: &Backend) -> String {
    let state = backend.health.as_str();
    if backend.health_checked { state.to_owned() } else { format!("{state} (unchecked)") }
}

/// Why it is down; last in the row, for it may be long.
fn why(backend: &Backend) -> &str {
    if backend.health == HealthState::Down { &backend.health_detail } else { "" }
}
