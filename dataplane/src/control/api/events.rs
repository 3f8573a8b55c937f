//! What happened lately, and what happens next.

use super::answer::{Answer, refuse};
use crate::control::Control;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ctl::api::{EventQuery, Events};
use std::sync::Arc;

pub(super) async fn events(
    State(control): State<Arc<Control>>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Answer<Events> {
    let Query(query) = query?;
    let log = Arc::clone(&control.balancer().events);
    if query.follow {
        let _reader = log.reader().ok_or_else(|| {
            refuse(
                StatusCode::TOO_MANY_REQUESTS,
                "the request was refused",
                "too many others wait for events",
                "try again later, or ask without waiting",
            )
        })?;
        log.wait(query.since).await;
    }
    Ok(Json(log.after(query.since)))
}
