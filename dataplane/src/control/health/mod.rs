//! Health checks, through the ports, on the control thread.
//!
//! A check travels the path that it vouches for: its packets are framed to the backend's next hop and leave by the port,
//! with the port's own address as their source and a port of [`FIRST_PROBE_PORT`](crate::flow::FIRST_PROBE_PORT) and up;
//! in `dsr` they are addressed to the VIP, as clients' are. Workers know the answers by these numbers and pass them on.
//!
//! | module | holds |
//! | --- | --- |
//! | [`state`] | up or down: rise, fall, the first outcome |
//! | [`schedule`] | when each check is due |
//! | [`duty`] | all checks: which are due, what their outcomes change, passive checks |
//! | [`run`] | the task that runs them, so many at once |
//! | [`exchange`], [`stack`] | packets to and from the workers; TCP/IP for one check |
//! | [`probe`], [`http`], [`tls`] | the checks themselves |

pub(super) mod duty;
pub(super) mod exchange;
mod http;
mod probe;
pub(super) mod run;
mod schedule;
mod stack;
mod state;
mod tls;

pub use state::{Standing, Verdict};

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is known of one backend that is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub standing: Standing,
    /// What the last check said: nothing, or why it failed.
    pub detail: Arc<str>,
    /// Of the verdict.
    pub since: Instant,
    /// How long the last check that passed took.
    pub took: Option<Duration>,
}

impl Health {
    /// Of a backend that was not checked yet; `assumed`: it is used until then.
    pub fn new(assumed: bool) -> Self {
        let verdict = if assumed { Verdict::Assumed } else { Verdict::Untested };
        Self {
            standing: Standing::new(verdict),
            detail: "not checked yet".into(),
            since: Instant::now(),
            took: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.standing.verdict.is_up()
    }
}
