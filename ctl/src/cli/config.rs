//! `sluicectl config …`

use super::Context;
use super::failure::{Failure, REFUSED};
use crate::api::{ApiError, ConfigApply, ConfigCheck, ConfigConfirm, ConfigDiff, ConfigExport, paths};
use crate::client::{ClientError, ConfigSource};
use crate::config::{Config, ConfigError, ConfigWarning, MAX_FILE_BYTES, TimeSpan, read_file};
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
    /// Check a file: by itself, and against the daemon if one is there. Without a file the daemon checks its own
    Check {
        /// "-" is standard input
        file: Option<PathBuf>,
    },
    /// What an apply would change, in words. Without a file the daemon reads its own
    Diff {
        /// "-" is standard input
        file: Option<PathBuf>,
    },
    /// Put a file in force; wrong files change nothing. Without a file the daemon reads its own again
    Apply {
        /// "-" is standard input
        file: Option<PathBuf>,
        /// Roll back after this long unless "config confirm" comes, such as 60s
        #[arg(long, value_name = "TIME")]
        confirm_timeout: Option<TimeSpan>,
    },
    /// Keep what was applied with --confirm-timeout
    Confirm,
    /// Put in force again what was so before
    Rollback,
    /// Print the configuration in force
    Export,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Check { file: Some(file) } => check(context, file),
        Action::Check { file: None } => {
            let answer: serde_json::Value =
                context.patient_client().post_config(paths::CONFIG_CHECK, ConfigSource::DaemonFile)?;
            match serde_json::from_value::<ConfigCheck>(answer.clone()) {
                Ok(check) => finish_check(context, &check),
                // `show` says what is wrong with the answer.
                Err(_) => context.output.show(answer, None, |_, _: &ConfigCheck| String::new()),
            }
        }
        Action::Diff { file } => diff(context, file.as_deref()),
        Action::Apply { file, confirm_timeout } => apply(context, file.as_deref(), *confirm_timeout),
        Action::Confirm => {
            let answer = context.client.post_empty(paths::CONFIG_CONFIRM)?;
            context.output.show(answer, None, |_, confirmed: &ConfigConfirm| {
                format!("{}: confirmed, generation {}\n", confirmed.file, confirmed.generation)
            })
        }
        Action::Rollback => {
            let answer = context.patient_client().post_empty(paths::CONFIG_ROLLBACK)?;
            context.output.show(answer, None, |_, apply: &ConfigApply| in_force(apply))
        }
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

/// By itself, and by the daemon if one is there and listens to this user: its verdict is that of an apply.
fn check(context: &Context, file: &Path) -> Result<(), Failure> {
    let name = file.display().to_string();
    let refused = |file: String, errors| ConfigCheck { file, ok: false, errors, warnings: Vec::new() };
    let (bytes, name) = match read(file) {
        Ok(read) => read,
        Err(error) => return finish_check(context, &refused(name, vec![error])),
    };
    let config = match Config::parse_bytes(&bytes, &name) {
        Ok(config) => config,
        Err(errors) => return finish_check(context, &refused(name, errors)),
    };
    let source = ConfigSource::Text { file: &name, toml: &bytes };
    let check = match context.patient_client().config_check(source) {
        Ok(check) => check,
        Err(
            ClientError::Missing { .. }
            | ClientError::Refused { .. }
            | ClientError::Permission { .. }
            | ClientError::Api { status: 403, .. },
        ) => ConfigCheck { file: name, ok: true, errors: Vec::new(), warnings: config.warnings() },
        Err(error) => return Err(error.into()),
    };
    finish_check(context, &check)
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

/// Has the daemon do something with a file, or with its own.
fn send(context: &Context, path: &str, file: Option<&Path>) -> Result<serde_json::Value, Failure> {
    let client = context.patient_client();
    let Some(file) = file else { return Ok(client.post_config(path, ConfigSource::DaemonFile)?) };
    let (toml, name) = read(file).map_err(|error| Failure::told(REFUSED, ApiError::config(vec![error])))?;
    // An empty body would make the daemon read its own file: not what was asked for.
    if toml.is_empty() {
        let errors = Config::parse_bytes(&toml, &name).err().unwrap_or_default();
        return Err(Failure::told(REFUSED, ApiError::config(errors)));
    }
    Ok(client.post_config(path, ConfigSource::Text { file: &name, toml: &toml })?)
}

fn diff(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let answer = send(context, paths::CONFIG_DIFF, file)?;
    context.output.show(answer, None, |_, diff: &ConfigDiff| {
        let mut out = String::new();
        if diff.changes.is_empty() && diff.need_restart.is_empty() {
            let _ = writeln!(out, "{}: the same as {}, which is in force", diff.file, diff.live);
        } else {
            let _ = writeln!(out, "{}: differs from {}, which is in force", diff.file, diff.live);
        }
        list(&mut out, &diff.changes);
        for error in &diff.need_restart {
            let _ = writeln!(out, "  {}: {}", error.key, error.problem);
        }
        list(&mut out, &diff.at_run_time);
        out
    })
}

fn apply(context: &Context, file: Option<&Path>, confirm: Option<TimeSpan>) -> Result<(), Failure> {
    let path = match confirm {
        None => paths::CONFIG_APPLY.to_owned(),
        Some(time) => format!("{}?confirm_seconds={}", paths::CONFIG_APPLY, time.as_secs_f64()),
    };
    let answer = send(context, &path, file)?;
    context.output.show(answer, None, |_, apply: &ConfigApply| in_force(apply))
}

fn in_force(apply: &ConfigApply) -> String {
    say(&warnings(&apply.warnings));
    let mut out = format!(
        "{}: in force as generation {} with {} services and {} backends\n",
        apply.file, apply.generation, apply.services, apply.backends
    );
    list(&mut out, &apply.changes);
    for kept in &apply.kept {
        let _ = writeln!(out, "  still so: {kept}");
    }
    for given_up in &apply.given_up {
        let _ = writeln!(out, "  no longer so: {given_up}");
    }
    if let Some(seconds) = apply.confirm_seconds {
        let _ = writeln!(out, "rolled back in {seconds} s unless \"sluicectl config confirm\" comes");
    }
    out
}

fn list(out: &mut String, lines: &[String]) {
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

fn warnings(warnings: &[ConfigWarning]) -> String {
    warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<Vec<_>>().concat()
}

/// On stderr; there is nowhere left to report that it is closed.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
