//! Checking, applying and exporting configurations.

use super::answer::{Answer, MayChange, Refusal, bad_request, body, json};
use crate::control::{Control, build};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use ctl::api::{ConfigApply, ConfigCheck, ConfigExport, ConfigText, paths};
use ctl::config::{Config, ConfigError};
use std::sync::Arc;

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
    let (file, config) = read(&control, &headers, &body(bytes)?)?;
    let checked = config.and_then(|config| {
        control.balancer().check(&config)?;
        Ok(build::warnings(&config))
    });
    Ok(Json(match checked {
        Ok(warnings) => ConfigCheck { file, ok: true, errors: Vec::new(), warnings },
        Err(errors) => ConfigCheck { file, ok: false, errors, warnings: Vec::new() },
    }))
}

pub(super) async fn apply(
    State(control): Shared,
    _: MayChange,
    headers: HeaderMap,
    bytes: Body,
) -> Answer<ConfigApply> {
    let (file, config) = read(&control, &headers, &body(bytes)?)?;
    let config = config.inspect_err(|errors| control.refused(&file, errors)).map_err(Refusal::config)?;
    let (services, backends) =
        (config.services.len(), config.services.iter().map(|s| s.backends.len()).sum());
    let applied = control.apply(config).await.map_err(Refusal::config)?;
    control.acknowledged(applied.generation).await?;
    Ok(Json(ConfigApply {
        file,
        generation: u64::from(applied.generation),
        services: services as u64,
        backends: count(backends),
        changes: applied.changes,
        warnings: applied.warnings,
    }))
}

fn count(number: usize) -> u64 {
    number as u64
}

type Parsed = Result<Config, Vec<ConfigError>>;

/// The configuration in a body, and its file's name; without a body, the file that the daemon was started with.
fn read(control: &Control, headers: &HeaderMap, body: &[u8]) -> Result<(String, Parsed), Refusal> {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase());
    if body.is_empty() {
        let path = control.balancer().config_file.clone();
        return Ok((path.display().to_string(), Config::load(&path)));
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
            Ok((file.clone(), Config::parse_bytes(body, &file)))
        }
        Some("application/json") => {
            let ConfigText { file, text } = json(body, None)?;
            Ok((file.clone(), Config::parse(&text, &file)))
        }
        _ => Err(bad_request(
            "a configuration is sent with Content-Type: application/toml, or application/json with file and text",
        )),
    }
}
