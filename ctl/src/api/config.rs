//! `/v1/config…`: checking, applying and exporting configurations.

use crate::config::{Config, ConfigError, ConfigWarning};
use serde::{Deserialize, Serialize};

/// A configuration as a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    /// The name of the file, for messages.
    pub file: String,
    /// TOML.
    pub text: String,
}

/// `POST /v1/config/check`: 200 whether or not the configuration is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigCheck {
    pub file: String,
    /// Whether it could be applied.
    pub ok: bool,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<ConfigWarning>,
}

/// `POST /v1/config/apply`: 200 once every worker uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigApply {
    pub file: String,
    /// Of the snapshot that it became.
    pub generation: u64,
    pub services: u64,
    pub backends: u64,
    /// What changed, in words, one change each; empty when it was the same.
    #[serde(default)]
    pub changes: Vec<String>,
    pub warnings: Vec<ConfigWarning>,
}

/// `GET /v1/config`: the configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigExport {
    pub generation: u64,
    /// The file that it was read from.
    pub file: String,
    pub config: Config,
}
