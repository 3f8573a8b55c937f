//! What can go wrong between the client and the daemon.

use crate::api::ApiError;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no answer, or which refusal the answer was.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientError {
    /// There is no socket.
    Missing { socket: PathBuf },
    /// This user may not connect.
    Permission { socket: PathBuf, access: String },
    /// There is a socket, and nobody listens.
    Refused { socket: PathBuf },
    /// Connecting failed in another way.
    Connect { socket: PathBuf, reason: String },
    /// No answer in time.
    Timeout { socket: PathBuf, timeout: Duration },
    /// Something answers that is not the daemon, or stops in the middle.
    Garbage { socket: PathBuf, reason: String },
    /// The request could not be made.
    Request { reason: String },
    /// The daemon refused. `status` is the HTTP status.
    Api { status: u16, error: Box<ApiError> },
}

impl ClientError {
    pub(super) fn garbage(socket: &Path, reason: &str) -> Self {
        Self::Garbage { socket: socket.to_owned(), reason: reason.to_owned() }
    }

    pub(super) fn connect(socket: &Path, error: &io::Error) -> Self {
        let path = socket.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { socket: path },
            io::ErrorKind::PermissionDenied => Self::Permission { access: access(socket), socket: path },
            io::ErrorKind::ConnectionRefused => Self::Refused { socket: path },
            _ => Self::Connect { socket: path, reason: error.to_string() },
        }
    }

    /// What happened, why, and what to do next.
    pub fn explain(&self) -> ApiError {
        let unreachable = |socket: &Path| format!("cannot reach the daemon at {}", socket.display());
        match self {
            Self::Missing { socket } => ApiError::new(
                unreachable(socket),
                "there is no such socket",
                "is sluiced running? If its socket is elsewhere, name it with --socket or SLUICE_SOCKET",
            ),
            Self::Permission { socket, access } => ApiError::new(
                unreachable(socket),
                format!("this user may not connect: {access}"),
                "join that group (as root: usermod -aG GROUP USER, then log in again), or run this as root, with sudo",
            ),
            Self::Refused { socket } => ApiError::new(
                unreachable(socket),
                "the socket is there and nobody listens on it",
                "is sluiced running? It replaces a socket that was left behind when it starts",
            ),
            Self::Connect { socket, reason } => ApiError::new(
                unreachable(socket),
                reason.clone(),
                "check that the path is the daemon's socket",
            ),
            Self::Timeout { socket, timeout } => ApiError::new(
                format!("no answer from the daemon at {}", socket.display()),
                format!("it took longer than {} s", timeout.as_secs_f64()),
                "try again, or allow more with --timeout; if it stays so, look at the daemon's log",
            ),
            Self::Garbage { socket, reason } => ApiError::new(
                format!("no usable answer from {}", socket.display()),
                reason.clone(),
                "check that sluiced listens there and is of this version",
            ),
            Self::Request { reason } => {
                ApiError::new("the request could not be made", reason.clone(), "check the arguments")
            }
            Self::Api { error, .. } => (**error).clone(),
        }
    }
}

/// Who may use the socket: `it belongs to root:sluice with mode 0660`.
fn access(socket: &Path) -> String {
    let Ok(metadata) = std::fs::metadata(socket) else {
        return "a folder above it is closed".to_owned();
    };
    let owner = name_of("/etc/passwd", metadata.uid());
    let group = name_of("/etc/group", metadata.gid());
    format!("it belongs to {owner}:{group} with mode {:04o}", metadata.mode() & 0o7777)
}

/// The name for an id in a file of the form `name:password:id:…`; the number if there is none.
fn name_of(file: &str, id: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| id.to_string())
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain().fmt(f)
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_socket_names_owner_group_and_mode() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ClientError::connect(file.path(), &io::ErrorKind::PermissionDenied.into());
        let text = error.to_string();
        assert!(text.contains("it belongs to ") && text.contains("with mode 0600"), "{text}");
    }

    #[test]
    fn ids_have_names() {
        assert_eq!(name_of("/etc/passwd", 0), "root");
        assert_eq!(name_of("/etc/group", 4_000_000_000), "4000000000");
        assert_eq!(name_of("/nonexistent", 7), "7");
    }
}
