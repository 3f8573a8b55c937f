//! How a command ends when it does not succeed.

use crate::api::ApiError;
use crate::client::ClientError;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

pub(super) const REFUSED: u8 = 1;
pub(super) const USAGE: u8 = 2;
pub(super) const UNREACHABLE: u8 = 3;
pub(super) const NOT_FOUND: u8 = 4;
pub(super) const TIMEOUT: u8 = 5;

/// An exit code, and what to say on stderr.
#[derive(Debug)]
pub(super) enum Failure {
    /// What happened, why, what to do next.
    Told { code: u8, error: Box<ApiError> },
    /// Everything has been said already.
    Silent { code: u8 },
    /// Whoever read the output has gone: as good as done.
    Closed,
}

impl Failure {
    pub(super) fn told(code: u8, error: ApiError) -> Self {
        Self::Told { code, error: Box::new(error) }
    }

    /// Says it and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Closed => ExitCode::SUCCESS,
            Self::Silent { code } => ExitCode::from(code),
            Self::Told { code, error } => {
                // There is nowhere left to report that stderr is closed.
                let _ = io::stderr().write_all(told(&error).as_bytes());
                ExitCode::from(code)
            }
        }
    }
}

/// Errors of a configuration first, one a line; then the three parts.
fn told(error: &ApiError) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    for error in &error.config_errors {
        let _ = writeln!(text, "{error}");
    }
    let _ = writeln!(text, "sluicectl: {}", error.error);
    for (label, part) in [("why", &error.reason), ("next", &error.remedy)] {
        if !part.is_empty() {
            let _ = writeln!(text, "  {label}: {part}");
        }
    }
    text
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Timeout { .. } | ClientError::Api { status: 408 | 504, .. } => TIMEOUT,
            ClientError::Api { status: 404, .. } => NOT_FOUND,
            ClientError::Api { .. } | ClientError::Request { .. } => REFUSED,
            ClientError::Missing { .. }
            | ClientError::Permission { .. }
            | ClientError::Refused { .. }
            | ClientError::Connect { .. }
            | ClientError::Garbage { .. } => UNREACHABLE,
        };
        Self::told(code, error.explain())
    }
}

impl From<io::Error> for Failure {
    /// Of writing the answer.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        let remedy = "check where the output goes";
        Self::told(REFUSED, ApiError::new("the answer could not be written", error.to_string(), remedy))
    }
}
