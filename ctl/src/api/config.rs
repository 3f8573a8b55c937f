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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigApply {
    pub file: String,
    /// Of the snapshot that it became.
    pub generation: u64,
    pub services: u64,
    pub backends: u64,
    /// What changed, in words, one change each; empty when it was the same.
    #[serde(default)]
    pub changes: Vec<String>,
    /// What was changed at run time and is still so, since the file's own value for it did not change.
    #[serde(default)]
    pub kept: Vec<String>,
    /// What was changed at run time and is no longer so.
    #[serde(default)]
    pub given_up: Vec<String>,
    /// It is rolled back after this long unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<f64>,
    pub warnings: Vec<ConfigWarning>,
}

/// `POST /v1/config/diff`: what an apply would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    pub file: String,
    /// The file that what is in force was read from.
    pub live: String,
    /// In words, one change each.
    pub changes: Vec<String>,
    /// What differs and can only be changed by a restart.
    pub need_restart: Vec<ConfigError>,
    /// What was changed at run time, so that no file says it.
    pub at_run_time: Vec<String>,
}

/// `POST /v1/config/confirm`: what is in force stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigConfirm {
    pub file: String,
    pub generation: u64,
}

/// `GET /v1/config`: the configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigExport {
    pub generation: u64,
    /// The file that it was read from.
    pub file: String,
    pub config: Config,
}
