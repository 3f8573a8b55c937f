//! What there is: status, statistics, services, backends, workers, ports, neighbours.

use super::answer::{Answer, Refusal, no_service, refuse};
use crate::control::stats::Reader;
use crate::control::{Control, exposition, metrics, objects, stats};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use ctl::api::{Backend, Diagnosis, Neighbor, Port, Service, Stats, Status, Worker};
use ctl::doctor::{Host, examine, examine_ports};
use serde::Deserialize;
use std::sync::Arc;

type Shared = State<Arc<Control>>;

pub(super) async fn status(State(control): Shared) -> Json<Status> {
    Json(objects::status(&control.balancer()))
}

pub(super) async fn stats(State(control): Shared) -> Json<Stats> {
    Json(stats::stats(&control.balancer()))
}

pub(super) async fn services(State(control): Shared) -> Json<Vec<Service>> {
    Json(objects::services(&control.balancer()))
}

pub(super) async fn service(
    State(control): Shared,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Service> {
    let Path(name) = name?;
    let balancer = control.balancer();
    let found = balancer.model.service(&name).ok_or_else(|| no_service(&name))?;
    Ok(Json(objects::service(&balancer, &Reader::new(&balancer), found)))
}

/// Of one service or of all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendQuery {
    service: Option<String>,
}

pub(super) async fn backends(
    State(control): Shared,
    query: Result<Query<BackendQuery>, QueryRejection>,
) -> Answer<Vec<Backend>> {
    let Query(query) = query?;
    let balancer = control.balancer();
    let reader = Reader::new(&balancer);
    if let Some(name) = &query.service {
        balancer.model.service(name).ok_or_else(|| no_service(name))?;
    }
    let wanted = balancer
        .model
        .services
        .iter()
        .filter(|service| query.service.as_ref().is_none_or(|name| *name == service.config.name));
    Ok(Json(wanted.flat_map(|service| objects::backends_of(&balancer, &reader, service)).collect()))
}

pub(super) async fn workers(State(control): Shared) -> Json<Vec<Worker>> {
    Json(objects::workers(&control.balancer()))
}

pub(super) async fn ports(State(control): Shared) -> Json<Vec<Port>> {
    Json(objects::ports(&control.balancer()))
}

pub(super) async fn neighbors(State(control): Shared) -> Json<Vec<Neighbor>> {
    Json(objects::neighbors(&control.balancer()))
}

/// The files that it reads are the machine's, so another thread does.
pub(super) async fn doctor(State(control): Shared) -> Answer<Diagnosis> {
    let (config, file, ports) = {
        let balancer = control.balancer();
        (balancer.config.clone(), balancer.config_file.clone(), objects::ports(&balancer))
    };
    let looked = tokio::task::spawn_blocking(move || {
        let mut findings = examine(&Host::default(), Some((&config, file.as_path())));
        findings.extend(examine_ports(&ports, &config));
        Diagnosis::new(true, findings)
    });
    looked.await.map(Json).map_err(|_| {
        let remedy = "report this: a check has a bug";
        refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the machine was not looked at",
            "a check did not end well",
            remedy,
        )
    })
}

pub(super) async fn metrics(
    State(control): Shared,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let text = metrics::text(&control.balancer());
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    Ok(if exposition::wants_open_metrics(accept) {
        ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
    } else {
        ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::plain(&text))
    })
}
