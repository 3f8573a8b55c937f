//! A blocking client of the control socket: HTTP/1.1 over a Unix socket, one connection per request.
//!
//! A request is bounded in time, an answer in size. What goes wrong is a [`ClientError`], which says
//! what happened, why, and what to do next.

mod error;
mod http;

pub use error::ClientError;

use crate::api::{
    Backend, ConfigApply, ConfigCheck, ConfigExport, DrainRequest, FlowQuery, Flows, Neighbor, Port, Service,
    Stats, Status, WeightRequest, Worker, paths,
};
use crate::config::BackendAddress;
use http::{Body, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Talks to the daemon behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// A configuration to send: its text, or the file that the daemon was started with.
#[derive(Debug, Clone, Copy)]
pub enum ConfigSource<'a> {
    /// The name for messages, and what is in it.
    Text { file: &'a str, toml: &'a [u8] },
    /// The daemon reads its own file again.
    DaemonFile,
}

impl Client {
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    /// A client with the default timeout. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: Self::DEFAULT_TIMEOUT }
    }

    /// The time that one request may take, from connecting to the last byte of the answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET` of any path of [`paths`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(&Request { method: "GET", path, body: Body::Empty })
    }

    /// `POST` to any path of [`paths`] with a JSON body.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Request { reason: error.to_string() })?;
        self.send(&Request { method: "POST", path, body: Body::Json(body) })
    }

    /// `POST` without a body.
    pub fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(&Request { method: "POST", path, body: Body::Empty })
    }

    /// `POST` of a configuration to [`paths::CONFIG_CHECK`] or [`paths::CONFIG_APPLY`].
    pub fn post_config<T: DeserializeOwned>(
        &self,
        path: &str,
        source: ConfigSource<'_>,
    ) -> Result<T, ClientError> {
        let body = match source {
            ConfigSource::Text { file, toml } => Body::Toml { file, text: toml.to_vec() },
            ConfigSource::DaemonFile => Body::Empty,
        };
        self.send(&Request { method: "POST", path, body })
    }

    pub fn status(&self) -> Result<Status, ClientError> {
        self.get(paths::STATUS)
    }

    pub fn stats(&self) -> Result<Stats, ClientError> {
        self.get(paths::STATS)
    }

    pub fn services(&self) -> Result<Vec<Service>, ClientError> {
        self.get(paths::SERVICES)
    }

    pub fn service(&self, name: &str) -> Result<Service, ClientError> {
        self.get(&paths::service(name))
    }

    pub fn backends(&self, service: Option<&str>) -> Result<Vec<Backend>, ClientError> {
        self.get(&paths::backends(service))
    }

    pub fn flows(&self, query: &FlowQuery) -> Result<Flows, ClientError> {
        self.get(&paths::flows(query))
    }

    pub fn workers(&self) -> Result<Vec<Worker>, ClientError> {
        self.get(paths::WORKERS)
    }

    pub fn ports(&self) -> Result<Vec<Port>, ClientError> {
        self.get(paths::PORTS)
    }

    pub fn neighbors(&self) -> Result<Vec<Neighbor>, ClientError> {
        self.get(paths::NEIGHBORS)
    }

    pub fn enable(&self, service: &str, backend: BackendAddress) -> Result<Backend, ClientError> {
        self.post_empty(&paths::backend_action(service, &backend.to_string(), "enable"))
    }

    pub fn disable(&self, service: &str, backend: BackendAddress) -> Result<Backend, ClientError> {
        self.post_empty(&paths::backend_action(service, &backend.to_string(), "disable"))
    }

    pub fn drain(
        &self,
        service: &str,
        backend: BackendAddress,
        request: &DrainRequest,
    ) -> Result<Backend, ClientError> {
        self.post(&paths::backend_action(service, &backend.to_string(), "drain"), request)
    }

    pub fn set_weight(
        &self,
        service: &str,
        backend: BackendAddress,
        weight: u16,
    ) -> Result<Backend, ClientError> {
        let path = paths::backend_action(service, &backend.to_string(), "weight");
        self.post(&path, &WeightRequest { weight })
    }

    pub fn config_check(&self, source: ConfigSource<'_>) -> Result<ConfigCheck, ClientError> {
        self.post_config(paths::CONFIG_CHECK, source)
    }

    pub fn config_apply(&self, source: ConfigSource<'_>) -> Result<ConfigApply, ClientError> {
        self.post_config(paths::CONFIG_APPLY, source)
    }

    pub fn config_export(&self) -> Result<ConfigExport, ClientError> {
        self.get(paths::CONFIG)
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> Result<String, ClientError> {
        let request = Request { method: "GET", path: paths::METRICS, body: Body::Empty };
        let body = http::send(&self.socket, self.timeout, &request)?;
        String::from_utf8(body).map_err(|_| ClientError::garbage(&self.socket, "its answer is not text"))
    }

    fn send<T: DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, ClientError> {
        let body = http::send(&self.socket, self.timeout, request)?;
        serde_json::from_slice(&body).map_err(|error| {
            ClientError::garbage(
                &self.socket,
                &format!("its answer to {} is not understood: {error}", request.path),
            )
        })
    }
}
