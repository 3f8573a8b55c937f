//! Checking, applying and exporting configurations.

use super::answer::{Answer, MayChange, Refusal, bad_request, body, json, refuse};
use crate::control::balancer::Applied;
use crate::control::{Control, build, changes, overrides};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use ctl::api::{ConfigApply, ConfigCheck, ConfigConfirm, ConfigDiff, ConfigExport, ConfigText, paths};
use ctl::config::{Config, ConfigError, TimeSpan};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

type Body = Result<Bytes, BytesRejection>;
type Shared = State<Arc<Control>>;

pub(super) async fn export(State(control): Shared) -> Json<ConfigExport> {
    let balancer = control.balancer();
    Json(ConfigExport {
        generation: u64::from(balancer.generation()),
        file: balancer.config.origin.file().to_owned(),
        config: balancer.config.clone(),
    })
}

pub(super) async fn check(
    State(control): Shared,
    _: MayChange,
    headers: HeaderMap,
    bytes: Body,
) -> Answer<ConfigCheck> {
    let (file, config) = read(&control, &headers, body(bytes)?).await?;
    let checked = config.and_then(|config| {
        control.balancer().check(&config)?;
        Ok(build::warnings(&config))
    });
    Ok(Json(match checked {
        Ok(warnings) => ConfigCheck { file, ok: true, errors: Vec::new(), warnings },
        Err(errors) => ConfigCheck { file, ok: false, errors, warnings: Vec::new() },
    }))
}

pub(super) async fn diff(
    State(control): Shared,
    _: MayChange,
    headers: HeaderMap,
    bytes: Body,
) -> Answer<ConfigDiff> {
    let (file, config) = read(&control, &headers, body(bytes)?).await?;
    let config = config.map_err(Refusal::config)?;
    let balancer = control.balancer();
    Ok(Json(ConfigDiff {
        file,
        live: balancer.config.origin.file().to_owned(),
        changes: changes::between(&balancer.config, &config),
        need_restart: build::needs_restart(&balancer.config, &config),
        at_run_time: overrides::words(&overrides::all(&balancer.model)),
    }))
}

/// How an apply is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyQuery {
    confirm_seconds: Option<f64>,
}

pub(super) async fn apply(
    State(control): Shared,
    _: MayChange,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    headers: HeaderMap,
    bytes: Body,
) -> Answer<ConfigApply> {
    let Query(ApplyQuery { confirm_seconds }) = query?;
    let most = TimeSpan::MAX.as_secs_f64();
    if confirm_seconds.is_some_and(|seconds| !(0.1..=most).contains(&seconds)) {
        return Err(bad_request(&format!("confirm_seconds is not 0.1 to {most}")));
    }
    if control.balancer().history.trial_remaining().is_some() {
        return Err(refuse(
            StatusCode::CONFLICT,
            "nothing was applied",
            "the configuration in force waits to be confirmed",
            "decide first: \"sluicectl config confirm\" or \"sluicectl config rollback\"",
        ));
    }
    let (file, config) = read(&control, &headers, body(bytes)?).await?;
    let config = config.inspect_err(|errors| control.refused(&file, errors)).map_err(Refusal::config)?;
    let applied = control.apply(config).await.map_err(Refusal::config)?;
    if let Some(seconds) = confirm_seconds {
        control.try_out(Duration::from_secs_f64(seconds));
    }
    let generation = applied.generation;
    let answer = ConfigApply { confirm_seconds, ..answer(&control, file, applied) };
    control.acknowledged(generation).await?;
    Ok(Json(answer))
}

pub(super) async fn confirm(State(control): Shared, _: MayChange) -> Answer<ConfigConfirm> {
    let mut balancer = control.balancer();
    if !balancer.history.confirm() {
        return Err(refuse(
            StatusCode::CONFLICT,
            "nothing was confirmed",
            "no configuration waits for it: it was confirmed or rolled back before",
            "see what is in force with \"sluicectl config export\"",
        ));
    }
    tracing::info!("the configuration is confirmed");
    let file = balancer.config.origin.file().to_owned();
    Ok(Json(ConfigConfirm { file, generation: u64::from(balancer.generation()) }))
}

pub(super) async fn rollback(State(control): Shared, _: MayChange) -> Answer<ConfigApply> {
    let Some(rolled) = control.roll_back().await else {
        return Err(refuse(
            StatusCode::CONFLICT,
            "nothing was rolled back",
            "no configuration was in force before this one",
            "apply the one that you want",
        ));
    };
    let applied = rolled.map_err(Refusal::config)?;
    let generation = applied.generation;
    let file = control.balancer().config.origin.file().to_owned();
    let answer = answer(&control, file, applied);
    control.acknowledged(generation).await?;
    Ok(Json(answer))
}

/// What is in force now.
fn answer(control: &Control, file: String, applied: Applied) -> ConfigApply {
    let balancer = control.balancer();
    let services = &balancer.config.services;
    ConfigApply {
        file,
        generation: u64::from(applied.generation),
        services: count(services.len()),
        backends: count(services.iter().map(|service| service.backends.len()).sum()),
        changes: applied.changes,
        kept: applied.kept,
        given_up: applied.given_up,
        confirm_seconds: None,
        warnings: applied.warnings,
    }
}

fn count(number: usize) -> u64 {
    number as u64
}

type Parsed = Result<Config, Vec<ConfigError>>;

/// The configuration in a body, and its file's name; without a body, the file that the daemon was started with.
async fn read(control: &Control, headers: &HeaderMap, body: Bytes) -> Result<(String, Parsed), Refusal> {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase());
    if body.is_empty() {
        let path = control.balancer().config_file.clone();
        let file = path.display().to_string();
        return Ok((file.clone(), aside(file, move || Config::load(&path)).await));
    }
    match kind.as_deref() {
        Some("application/toml") => {
            let named = headers.get(paths::CONFIG_FILE_HEADER);
            let file = match named.map(|value| value.to_str().ok().and_then(paths::decode)) {
                None => "request".to_owned(),
                Some(Some(file)) => file,
                Some(None) => {
                    return Err(bad_request("the header with the file's name is not percent-encoded UTF-8"));
                }
            };
            let name = file.clone();
            Ok((file.clone(), aside(file, move || Config::parse_bytes(&body, &name)).await))
        }
        Some("application/json") => {
            let ConfigText { file, text } = json(&body, None)?;
            let name = file.clone();
            Ok((file.clone(), aside(file, move || Config::parse(&text, &name)).await))
        }
        _ => Err(bad_request(
            "a configuration is sent with Content-Type: application/toml, or application/json with file and text",
        )),
    }
}

/// Reads on another thread: large files take a while, and everything else goes on meanwhile.
async fn aside(file: String, read: impl FnOnce() -> Parsed + Send + 'static) -> Parsed {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
        Err(vec![ConfigError::file(&file, "it could not be read", "report this: the reader has a bug")])
    })
}
