//! The HTTP API: [`ctl::api`] over the balancer.

mod answer;
mod backends;
mod config;
mod events;
mod explain;
mod flows;
mod objects;

use super::{Control, status_page};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use ctl::api::paths;
use ctl::config::MAX_FILE_BYTES;
use std::sync::Arc;

pub(super) use answer::{Refusal, refuse};
pub(super) use flows::state as flow_state;

/// Who is at the other end of the socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Whether it may change things.
    pub may_change: bool,
}

/// All routes of the control socket.
pub(super) fn router(control: Arc<Control>) -> Router {
    let configs = Router::new()
        .route(paths::CONFIG_CHECK, post(config::check))
        .route(paths::CONFIG_APPLY, post(config::apply))
        .route(paths::CONFIG_DIFF, post(config::diff))
        // JSON may need an escape for every byte of the text.
        .layer(DefaultBodyLimit::max(2 * MAX_FILE_BYTES as usize));
    let rest = Router::new()
        .route(paths::STATUS, get(objects::status))
        .route(paths::STATS, get(objects::stats))
        .route(paths::SERVICES, get(objects::services))
        .route(paths::SERVICE, get(objects::service))
        .route(paths::BACKENDS, get(objects::backends))
        .route(paths::WORKERS, get(objects::workers))
        .route(paths::PORTS, get(objects::ports))
        .route(paths::NEIGHBORS, get(objects::neighbors))
        .route(paths::DOCTOR, get(objects::doctor))
        .route(paths::EVENTS, get(events::events))
        .route(paths::EXPLAIN, get(explain::explain))
        .route(paths::FLOWS, get(flows::flows))
        .route(paths::CONFIG, get(config::export))
        .route(paths::CONFIG_CONFIRM, post(config::confirm))
        .route(paths::CONFIG_ROLLBACK, post(config::rollback))
        .route(paths::METRICS, get(objects::metrics))
        .route(paths::BACKEND_ENABLE, post(backends::enable))
        .route(paths::BACKEND_DISABLE, post(backends::disable))
        .route(paths::BACKEND_DRAIN, post(backends::drain))
        .route(paths::BACKEND_WEIGHT, post(backends::weight))
        .layer(DefaultBodyLimit::max(paths::MAX_BODY_BYTES));
    Router::new()
        .merge(configs)
        .merge(rest)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(control)
}

/// The routes of the metrics listener.
pub(super) fn metrics_router(control: Arc<Control>) -> Router {
    let page = control.balancer().config.runtime.status_page;
    let router = Router::new().route(paths::METRICS, get(objects::metrics)).with_state(Arc::clone(&control));
    let router = if page { router.merge(status_page::router(control)) } else { router };
    router.fallback(no_such_path).method_not_allowed_fallback(wrong_method)
}

async fn no_such_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(80).collect();
    refuse(
        StatusCode::NOT_FOUND,
        format!("nothing is at {path:?}"),
        "the API has no such path",
        "see the paths in the documentation; GET /v1/status is one",
    )
}

async fn wrong_method(method: axum::http::Method, uri: Uri) -> Refusal {
    refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} {} was refused", uri.path()),
        "the path is there, but not for this method",
        "use GET to read and POST to change",
    )
}
