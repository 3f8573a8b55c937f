//! HTTP checks: one GET, whose answer must have the right status and, perhaps, the right words in it.
//!
//! A redirect is its status and is not followed. What is read is bounded: 16 KiB of headers, and of the body 64 KiB if
//! something is looked for in it, nothing otherwise. How long it may take is the business of the caller.

use super::probe::{ANSWER, Question, contains_since};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// Most bytes of an answer's headers.
const HEADERS: usize = 16_384;

/// Asks over `stream`.
pub(super) async fn ask<S>(stream: S, question: &Question) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let health = &question.health;
    let request = Request::get(health.path.as_deref().unwrap_or("/"))
        .header(HOST, health.host.clone().unwrap_or_else(|| authority(question.remote, question.port)))
        .header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the request cannot be written: {error}"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        judge(response, question).await
    };
    // The connection does the work; what it has to say about its end is in the answer too.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = answer => outcome,
        () = connection => Err("the connection ended".into()),
    }
}

async fn judge(response: Response<Incoming>, question: &Question) -> Result<(), String> {
    let status = response.status().as_u16();
    let wanted = question.health.status.clone().unwrap_or_default();
    if !wanted.contains(status) {
        return Err(format!("status {status}, wanted {wanted}"));
    }
    let Some(wanted) = &question.health.body else { return Ok(()) };
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| words(&error))?.into_data() else { continue };
        let before = bytes.len();
        let room = ANSWER - before;
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if contains_since(&bytes, before, wanted.as_bytes()) {
            return Ok(());
        }
        if bytes.len() == ANSWER {
            return Err(format!("the first {ANSWER} bytes of the body lack {wanted:?}"));
        }
    }
    Err(format!("the body of {} bytes lacks {wanted:?}", bytes.len()))
}

/// An address and its port as a Host header has them (RFC 9110 section 7.2).
fn authority(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// What went wrong, down to the cause.
fn words(error: &hyper::Error) -> String {
    let mut text = if error.is_parse() { format!("not HTTP: {error}") } else { error.to_string() };
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
