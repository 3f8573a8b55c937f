//! Answers that say no, and reading what was sent.

use super::Peer;
use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ctl::api::ApiError;
use ctl::config::ConfigError;

/// A refused request.
#[derive(Debug)]
pub(in crate::control) struct Refusal(StatusCode, Box<ApiError>);

pub(super) type Answer<T> = Result<Json<T>, Refusal>;

/// A refusal: what happened, why, and what to do next.
pub(in crate::control) fn refuse(
    code: StatusCode,
    error: impl Into<String>,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    Refusal(code, Box::new(ApiError::new(error, reason, remedy)))
}

impl Refusal {
    /// The configuration is wrong.
    pub(super) fn config(errors: Vec<ConfigError>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, Box::new(ApiError::config(errors)))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(*self.1)).into_response()
    }
}

/// Proof that the peer may change things. Taken from a request before its body is read, so that others cannot have
/// large bodies collected or parsed.
pub(super) struct MayChange;

impl<S: Sync> axum::extract::FromRequestParts<S> for MayChange {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Refusal> {
        may_change(parts.extensions.get().copied().unwrap_or(Peer { may_change: false })).map(|()| Self)
    }
}

/// Only peers that may change things get on.
pub(super) fn may_change(peer: Peer) -> Result<(), Refusal> {
    if peer.may_change {
        return Ok(());
    }
    Err(refuse(
        StatusCode::FORBIDDEN,
        "nothing was changed",
        "only root, the user that sluiced runs as, and those in runtime.operators may change things",
        "run the command as one of them, for example with sudo, or have this user added to runtime.operators",
    ))
}

/// A body within its limit.
pub(super) fn body(body: Result<axum::body::Bytes, BytesRejection>) -> Result<axum::body::Bytes, Refusal> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request was refused",
                "its body is too large",
                "send less",
            )
        } else {
            bad_request(&rejection.body_text())
        }
    })
}

/// A JSON body. An empty one is the default if there is one.
pub(super) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], default: Option<T>) -> Result<T, Refusal> {
    match default {
        Some(default) if bytes.trim_ascii().is_empty() => Ok(default),
        _ => serde_json::from_slice(bytes)
            .map_err(|error| bad_request(&format!("its body is not the JSON that this path takes: {error}"))),
    }
}

/// The request makes no sense.
pub(super) fn bad_request(reason: &str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, "the request was refused", reason, "correct the request")
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        bad_request(&rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        bad_request(&rejection.body_text())
    }
}

/// The daemon does not have it.
pub(super) fn not_found(what: &str, why: String, remedy: String) -> Refusal {
    refuse(StatusCode::NOT_FOUND, what, why, remedy)
}

/// There is no service of that name.
pub(super) fn no_service(name: &str) -> Refusal {
    not_found(
        "nothing was done",
        format!("there is no service {name:?}"),
        "list them with \"sluicectl service\"".into(),
    )
}

/// No service has the backend.
pub(super) fn no_backend_anywhere(address: &str) -> Refusal {
    not_found(
        "nothing was done",
        format!("no service has the backend {address:?}"),
        "list them with \"sluicectl backend list\"".into(),
    )
}

/// The service has no such backend.
pub(super) fn no_backend(service: &str, address: &str) -> Refusal {
    not_found(
        "nothing was done",
        format!("service {service:?} has no backend {address:?}"),
        format!("list them with \"sluicectl service {service}\""),
    )
}
