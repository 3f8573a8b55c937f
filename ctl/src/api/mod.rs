//! The versioned HTTP/JSON API of the control socket: the only definition of its types.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/stats` | | [`Stats`] |
//! | `GET /v1/services` | | `[`[`Service`]`]` |
//! | `GET /v1/services/{name}` | | [`Service`] |
//! | `GET /v1/backends?service=NAME` | | `[`[`Backend`]`]` |
//! | `GET /v1/flows?…` | | [`Flows`]; the query is a [`FlowQuery`] |
//! | `GET /v1/events?since=N&follow=true` | | [`Events`] after number N; with `follow` the answer waits for one |
//! | `GET /v1/explain?protocol=tcp&source=A:P&destination=A:P` | | [`Explanation`], or 404 and the nearest service |
//! | `GET /v1/workers` | | `[`[`Worker`]`]` |
//! | `GET /v1/ports` | | `[`[`Port`]`]` |
//! | `GET /v1/neighbors` | | `[`[`Neighbor`]`]` |
//! | `GET /v1/doctor` | | [`Diagnosis`] |
//! | `POST /v1/services/{name}/backends/{address}/enable` | | [`Backend`] |
//! | `POST /v1/services/{name}/backends/{address}/disable` | | [`Backend`] |
//! | `POST /v1/services/{name}/backends/{address}/drain` | [`DrainRequest`] or nothing | [`Backend`] |
//! | `POST /v1/services/{name}/backends/{address}/weight` | [`WeightRequest`] | [`Backend`] |
//! | `POST /v1/config/check` | see below | [`ConfigCheck`] |
//! | `POST /v1/config/apply` | see below | [`ConfigApply`] |
//! | `POST /v1/config/diff` | see below | [`ConfigDiff`] |
//! | `POST /v1/config/confirm` | | [`ConfigConfirm`] |
//! | `POST /v1/config/rollback` | | [`ConfigApply`] |
//! | `GET /v1/config` | | [`ConfigExport`] |
//! | `GET /metrics` | | the metrics as text |
//! | `GET /status.json` | | [`Overview`]; on the metrics listener alone, with `runtime.status_page` |
//!
//! `{name}` and `{address}` are percent-encoded; [`paths`] builds them.
//!
//! **A configuration in a body** is TOML text (`Content-Type: application/toml`, the name for messages in
//! the header [`paths::CONFIG_FILE_HEADER`]), or JSON (`application/json`, a [`ConfigText`]), or nothing:
//! then the daemon reads the file that it was started with.
//!
//! **Answers**: 200 with the type above, or an [`ApiError`] with one of these codes: 400 the request makes
//! no sense, 403 the peer may not change anything, 404 no such object, 405 wrong method, 408 too slow,
//! 409 it conflicts with what is there, 413 too large, 422 the configuration is wrong (the errors are in
//! [`ApiError::config_errors`]), 429 too many requests, 503 shutting down.
//!
//! Numbers are integers unless the name ends in `_ratio` or `_seconds`; units are in the names. Counters
//! count from the start of the daemon. Clients must accept keys that they do not know.

mod config;
mod doctor;
mod error;
mod event;
mod explain;
mod flow;
mod object;
mod overview;
pub mod paths;
mod stats;
mod steering;

pub use config::{ConfigApply, ConfigCheck, ConfigConfirm, ConfigDiff, ConfigExport, ConfigText};
pub use doctor::{Diagnosis, Finding, Level};
pub use error::ApiError;
pub use event::{Event, EventKind, EventQuery, Events, Severity};
pub use explain::{
    ExplainOutcome, ExplainQuery, ExplainedBackend, ExplainedConnection, ExplainedHop, ExplainedPacket,
    ExplainedService, ExplainedTunnel, ExplainedWorker, Explanation,
};
pub use flow::{Flow, FlowQuery, FlowState, Flows};
pub use object::{
    AdminState, Backend, DrainEnd, DrainRequest, HealthState, Link, Neighbor, NeighborState, Offload, Port,
    PortHost, PortQueues, Rss, RssKey, Service, Status, WeightRequest, Worker,
};
pub use overview::Overview;
pub use stats::{BackendStats, PortStats, ServiceStats, Stats, WorkerStats};
pub use steering::{Delivery, OwnerBy, PortSide, PortSteering};
