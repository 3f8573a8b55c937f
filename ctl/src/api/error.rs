//! What every refused request answers with.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a request failed: what happened, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What happened: `backend 10.1.0.99:80 was not drained`.
    pub error: String,
    /// Why: `service "web" has no such backend`.
    pub reason: String,
    /// What to do next: `list them with "sluicectl backend list web"`.
    pub remedy: String,
    /// Every error of a configuration that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_errors: Vec<ConfigError>,
}

impl ApiError {
    pub fn new(error: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { error: error.into(), reason: reason.into(), remedy: remedy.into(), config_errors: Vec::new() }
    }

    /// A configuration was refused.
    pub fn config(errors: Vec<ConfigError>) -> Self {
        let count = errors.len();
        Self {
            error: "the configuration was refused and nothing was changed".into(),
            reason: if count == 1 { "it has 1 error".into() } else { format!("it has {count} errors") },
            remedy: "correct the file and try again".into(),
            config_errors: errors,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        for part in [&self.reason, &self.remedy].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "; {part}")?;
        }
        for error in &self.config_errors {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {}
