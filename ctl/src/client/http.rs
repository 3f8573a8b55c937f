//! One request, one answer.

use super::error::ClientError;
use crate::api::{ApiError, paths};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer larger than this is not one of ours, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;

#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) enum Body<'a> {
    Empty,
    Json(Vec<u8>),
    Toml { file: &'a str, text: Vec<u8> },
}

/// The body of a 2xx answer.
pub(super) fn send(socket: &Path, timeout: Duration, request: &Request<'_>) -> Result<Vec<u8>, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Request { reason: error.to_string() })?;
    runtime.block_on(async {
        tokio::time::timeout(timeout, exchange(socket, request))
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { socket: socket.to_owned(), timeout }))
    })
}

async fn exchange(socket: &Path, request: &Request<'_>) -> Result<Vec<u8>, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| ClientError::connect(socket, &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http_error(socket, &error))?;
    tokio::spawn(connection);
    let answer = sender.send_request(build(request)?).await.map_err(|error| http_error(socket, &error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ClientError::garbage(socket, "its answer is too large")
        } else {
            ClientError::garbage(socket, &format!("its answer broke off: {error}"))
        }
    })?;
    let body = body.to_bytes();
    if status.is_success() {
        return Ok(body.to_vec());
    }
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Err(ClientError::Api { status: status.as_u16(), error: Box::new(error) }),
        Err(_) => Err(ClientError::garbage(socket, &format!("it answered {status} without saying why"))),
    }
}

fn build(request: &Request<'_>) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    let builder = hyper::Request::builder().method(request.method).uri(request.path).header(HOST, "sluice");
    let request = match &request.body {
        Body::Empty => builder.body(Full::default()),
        Body::Json(body) => {
            builder.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.clone())))
        }
        Body::Toml { file, text } => builder
            .header(CONTENT_TYPE, "application/toml")
            .header(paths::CONFIG_FILE_HEADER, paths::encode(file))
            .body(Full::new(Bytes::from(text.clone()))),
    };
    request.map_err(|error| ClientError::Request { reason: error.to_string() })
}

fn http_error(socket: &Path, error: &hyper::Error) -> ClientError {
    // A daemon that stops closes its connections before it has answered.
    if error.is_incomplete_message() || error.is_closed() {
        ClientError::garbage(socket, "it closed the connection without an answer")
    } else {
        ClientError::garbage(socket, &format!("it does not speak HTTP: {error}"))
    }
}
