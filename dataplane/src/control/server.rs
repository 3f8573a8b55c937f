//! HTTP on the control socket and on the metrics listener: bounded in number, in size and in time.

use super::Control;
use super::api::{self, Peer, refuse};
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Connections served at the same time, of those who may change things and of others each; more are turned away.
const CONNECTIONS: usize = 64;
/// From a connection's first moment, or the last answer, to the end of a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// From the end of a request's head to its answer.
const REQUEST: Duration = Duration::from_secs(20);
/// A connection's whole life; after it, the request under way is the last.
const CONNECTION: Duration = Duration::from_mins(5);
/// Longest head of a request, in bytes.
const HEAD_BYTES: usize = 32 << 10;
/// Most fields in it.
const HEADERS: usize = 64;
/// After a failure to accept: most are lack of file descriptors, which waiting cures.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on the control socket, for ever.
pub(super) async fn serve_socket(control: Arc<Control>, listener: UnixListener) {
    let router = api::router(Arc::clone(&control));
    let [owners, others] = [(); 2].map(|()| Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        match listener.accept().await {
            Err(error) => {
                tracing::debug!("the control socket cannot accept: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            Ok((stream, _)) => {
                let who = Who::of(&stream, &control);
                // Others cannot keep those out who may change things.
                let permits = if who.peer().may_change { &owners } else { &others };
                match Arc::clone(permits).try_acquire_owned() {
                    Ok(permit) => {
                        tokio::spawn(connection(stream, router.clone(), who, permit));
                    }
                    Err(_) => turn_away(stream).await,
                }
            }
        }
    }
}

/// Answers on the metrics listener, for ever.
pub(super) async fn serve_metrics(control: Arc<Control>, listener: TcpListener) {
    let router = api::metrics_router(control);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Err(_) => tokio::time::sleep(PAUSE).await,
            Ok((stream, _)) => match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    tokio::spawn(connection(stream, router.clone(), Who::Anybody, permit));
                }
                Err(_) => turn_away(stream).await,
            },
        }
    }
}

/// Binds the metrics listener.
pub(super) async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("the metrics listener {address} cannot be opened: {error}; set another runtime.metrics, or remove it")
    })
}

/// Who is at the other end, as the kernel has it from the moment of connecting.
enum Who {
    /// On the metrics listener.
    Anybody,
    Local {
        user: u32,
        group: u32,
        control: Arc<Control>,
    },
}

impl Who {
    fn of(stream: &UnixStream, control: &Arc<Control>) -> Self {
        match stream.peer_cred() {
            Ok(peer) => Self::Local { user: peer.uid(), group: peer.gid(), control: Arc::clone(control) },
            Err(_) => Self::Anybody,
        }
    }

    /// What it may do now: operators come and go while connections last.
    fn peer(&self) -> Peer {
        Peer {
            may_change: match self {
                Self::Anybody => false,
                Self::Local { user, group, control } => control.access().may_change(*user, *group),
            },
        }
    }
}

async fn connection<S>(stream: S, router: Router, who: Who, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(who.peer());
        let answer = router.call(request);
        async move {
            Ok::<_, Infallible>(match timeout(REQUEST, answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => too_slow(),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How it ended is the peer's business.
    if timeout(CONNECTION, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = timeout(REQUEST, served).await;
    }
    drop(permit);
}

fn too_slow() -> hyper::Response<Body> {
    let mut response = refuse(
        StatusCode::REQUEST_TIMEOUT,
        "the request was given up",
        format!("it was not complete or not done after {} seconds", REQUEST.as_secs()),
        "try again",
    )
    .into_response();
    let close = axum::http::HeaderValue::from_static("close");
    response.headers_mut().insert(axum::http::header::CONNECTION, close);
    response
}

/// Says that there are too many connections, without listening to what this one wants.
async fn turn_away<S: AsyncWrite + Unpin>(mut stream: S) {
    let body = r#"{"error":"the request was refused","reason":"too many connections are open","remedy":"try again"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // A new connection has room for this much; if not, it is not waited for.
    let _ = timeout(Duration::from_millis(10), stream.write_all(answer.as_bytes())).await;
}
