//! `sluicectl config …`

use super::Context;
use super::failure::{Failure, REFUSED};
use crate::api::{ApiError, ConfigApply, ConfigCheck, ConfigExport, paths};
use crate::client::ConfigSource;
use crate::config::{Config, ConfigError, ConfigWarning, MAX_FILE_BYTES, read_file};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a file; needs no daemon. Without a file the daemon checks its own
    Check {
        /// "-" is standard input
        file: Option<PathBuf>,
    },
    /// Put a file in force; wrong files change nothing. Without a file the daemon reads its own again
    Apply {
        /// "-" is standard input
        file: Option<PathBuf>,
    },
    /// Print the configuration in force
    Export,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Check { file: Some(file) } => finish_check(context, &check(file)),
        Action::Check { file: None } => {
            let answer: serde_json::Value =
                context.patient_client().post_config(paths::CONFIG_CHECK, ConfigSource::DaemonFile)?;
            match serde_json::from_value::<ConfigCheck>(answer.clone()) {
                Ok(check) => finish_check(context, &check),
                // `show` says what is wrong with the answer.
                Err(_) => context.output.show(answer, None, |_, _: &ConfigCheck| String::new()),
            }
        }
        Action::Apply { file } => apply(context, file.as_deref()),
        Action::Export => {
            let answer = context.client.get(paths::CONFIG)?;
            context.output.show(answer, None, |_, export: &ConfigExport| export.config.to_toml())
        }
    }
}

/// The bytes of a file or of standard input, and the name for messages.
fn read(file: &Path) -> Result<(Vec<u8>, String), ConfigError> {
    if file != Path::new("-") {
        return Ok((read_file(file)?, file.display().to_string()));
    }
    let name = "(standard input)";
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees that it is too much.
    io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        ConfigError::file(
            name,
            format!("it cannot be read: {error}"),
            "check what is piped into this command",
        )
    })?;
    Ok((bytes, name.to_owned()))
}

fn check(file: &Path) -> ConfigCheck {
    let name = file.display().to_string();
    let checked =
        read(file).map_err(|error| vec![error]).and_then(|(bytes, name)| Config::parse_bytes(&bytes, &name));
    match checked {
        Ok(config) => ConfigCheck { file: name, ok: true, errors: Vec::new(), warnings: config.warnings() },
        Err(errors) => ConfigCheck { file: name, ok: false, errors, warnings: Vec::new() },
    }
}

fn finish_check(context: &Context, check: &ConfigCheck) -> Result<(), Failure> {
    context
        .output
        .show_own(check, || if check.ok { format!("{}: ok\n", check.file) } else { String::new() })?;
    let mut out = warnings(&check.warnings);
    for error in &check.errors {
        let _ = writeln!(out, "{error}");
    }
    say(&out);
    if check.ok { Ok(()) } else { Err(Failure::Silent { code: REFUSED }) }
}

fn apply(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let client = context.patient_client();
    let answer: serde_json::Value = match file {
        None => client.post_config(paths::CONFIG_APPLY, ConfigSource::DaemonFile)?,
        Some(file) => {
            let (toml, name) =
                read(file).map_err(|error| Failure::told(REFUSED, ApiError::config(vec![error])))?;
            // An empty body would make the daemon read its own file: not what was asked for.
            if toml.is_empty() {
                let errors = Config::parse_bytes(&toml, &name).err().unwrap_or_default();
                return Err(Failure::told(REFUSED, ApiError::config(errors)));
            }
            client.post_config(paths::CONFIG_APPLY, ConfigSource::Text { file: &name, toml: &toml })?
        }
    };
    context.output.show(answer, None, |_, apply: &ConfigApply| {
        say(&warnings(&apply.warnings));
        let mut out = format!(
            "{}: in force as generation {} with {} services and {} backends\n",
            apply.file, apply.generation, apply.services, apply.backends
        );
        for change in &apply.changes {
            let _ = writeln!(out, "  {change}");
        }
        out
    })
}

fn warnings(warnings: &[ConfigWarning]) -> String {
    warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<Vec<_>>().concat()
}

/// On stderr; there is nowhere left to report that it is closed.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
