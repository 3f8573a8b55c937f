//! The status page: what `sluicectl top` shows, for people with a browser. On the metrics listener, read-only, and only with
//! `runtime.status_page`.
//!
//! Page, style and script are files of the binary, and the page may load nothing else. What the daemon knows arrives as JSON
//! and becomes text nodes, never markup, so no name or error message can be anything but text.

use super::{Control, objects, stats};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use ctl::api::{Overview, paths};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("status_page/page.html");
const STYLE: &str = include_str!("status_page/page.css");
const SCRIPT: &str = include_str!("status_page/page.js");

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// How long one answer serves all who ask: browsers cost the control thread no more than one of them would.
const FRESH: Duration = Duration::from_millis(900);

/// What requests share.
struct Page {
    control: Arc<Control>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Page {
    /// The overview as JSON, made anew if the last one is old.
    fn data(&self) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, bytes)) = &*last
            && made.elapsed() < FRESH
        {
            return bytes.clone();
        }
        let overview = overview(&self.control);
        // Such types always have a JSON form.
        let bytes = Bytes::from(serde_json::to_vec(&overview).unwrap_or_default());
        *last = Some((Instant::now(), bytes.clone()));
        bytes
    }
}

fn overview(control: &Control) -> Overview {
    let balancer = control.balancer();
    let reader = stats::Reader::new(&balancer);
    Overview {
        status: objects::status(&balancer),
        rx_bytes: reader.sum(|worker| &worker.rx_bytes),
        tx_bytes: reader.sum(|worker| &worker.tx_bytes),
        drops: stats::drops(&reader),
        services: objects::services(&balancer),
        workers: objects::workers(&balancer),
        ports: objects::ports(&balancer),
    }
}

/// The routes of the page.
pub(super) fn router(control: Arc<Control>) -> Router {
    let page = Arc::new(Page { control, last: Mutex::default() });
    Router::new()
        .route("/", get(|| async { Redirect::temporary(paths::STATUS_PAGE) }))
        .route(paths::STATUS_PAGE, get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route(paths::STATUS_STYLE, get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route(paths::STATUS_SCRIPT, get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route(paths::STATUS_DATA, get(data))
        .with_state(page)
}

async fn data(State(page): State<Arc<Page>>) -> Response {
    file("application/json", page.data())
}

/// An answer that is what its type says and nothing else, and that nobody keeps.
fn file(kind: &'static str, body: impl IntoResponse) -> Response {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let head = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (RESOURCE_POLICY, "same-origin"),
    ];
    (head, body).into_response()
}
