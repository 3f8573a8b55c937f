//! `sluicectl doctor`

use super::Context;
use super::failure::{Failure, REFUSED};
use super::output::{Output, Tone, text, toned};
use crate::api::{ApiError, Diagnosis, Finding, Level, paths};
use crate::client::ClientError;
use crate::config::Config;
use crate::doctor::{Host, examine};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What packages install.
const DEFAULT_FILE: &str = "/etc/sluice/sluice.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Look from here, without the daemon, at what this configuration needs; without it the daemon is asked, and if
    /// there is none, /etc/sluice/sluice.toml is looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show also what is all right
    #[arg(long)]
    all: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let diagnosis = match &arguments.config {
        Some(file) => {
            let config =
                Config::load(file).map_err(|errors| Failure::told(REFUSED, ApiError::config(errors)))?;
            Diagnosis::new(false, examine(&Host::default(), Some((&config, file.as_path()))))
        }
        None => match context.client.get(paths::DOCTOR) {
            Ok(diagnosis) => diagnosis,
            Err(
                error @ (ClientError::Missing { .. }
                | ClientError::Refused { .. }
                | ClientError::Permission { .. }),
            ) => from_outside(&error),
            Err(error) => return Err(error.into()),
        },
    };
    let all = arguments.all;
    let problems = diagnosis.problems;
    let answer = serde_json::to_value(&diagnosis).unwrap_or_default();
    context
        .output
        .show(answer, Some("findings"), |output, diagnosis: &Diagnosis| render(output, diagnosis, all))?;
    if problems == 0 { Ok(()) } else { Err(Failure::Silent { code: REFUSED }) }
}

/// Without the daemon: the machine, and the usual file if it is there and right.
fn from_outside(error: &ClientError) -> Diagnosis {
    let ApiError { error: what, reason, remedy, .. } = error.explain();
    let finding = |check: &str, what: String, why: String, remedy: String| Finding {
        check: check.to_owned(),
        level: Level::Note,
        subject: "machine".to_owned(),
        what,
        why,
        remedy,
    };
    let mut findings = vec![finding("daemon", what, reason, remedy)];
    let file = Path::new(DEFAULT_FILE);
    let config = match Config::load(file) {
        Ok(config) => Some(config),
        Err(errors) => {
            let why = errors.first().map(ToString::to_string).unwrap_or_default();
            let what = format!("{DEFAULT_FILE} is not looked at");
            findings.push(finding("config", what, why, "name another with --config FILE".to_owned()));
            None
        }
    };
    findings.extend(examine(&Host::default(), config.as_ref().map(|config| (config, file))));
    Diagnosis::new(false, findings)
}

fn render(output: &Output, diagnosis: &Diagnosis, all: bool) -> String {
    let mut findings: Vec<&Finding> =
        diagnosis.findings.iter().filter(|finding| all || finding.level != Level::Ok).collect();
    // The worst first; within a level as they were found.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let mut out = String::new();
    if !findings.is_empty() {
        let mut rows = output.table(&["LEVEL", "CHECK", "OF", "FOUND"]);
        for finding in &findings {
            let tone = match finding.level {
                Level::Ok => Tone::Good,
                Level::Note | Level::Warning => Tone::Care,
                Level::Problem => Tone::Bad,
            };
            rows.push([
                toned(finding.level.as_str(), tone),
                text(&finding.check),
                text(&finding.subject),
                text(&finding.what),
            ]);
        }
        out = rows.render();
        out.push('\n');
    }
    // What is to be done is the same for many CPUs.
    let mut told: Vec<(&str, &str)> = Vec::new();
    for finding in findings.iter().filter(|finding| !finding.why.is_empty() || !finding.remedy.is_empty()) {
        let cause = (finding.check.as_str(), finding.why.as_str());
        if told.contains(&cause) {
            continue;
        }
        told.push(cause);
        let _ = writeln!(out, "{}: {}", finding.check, finding.what);
        for (label, part) in [("why", &finding.why), ("do", &finding.remedy)] {
            if !part.is_empty() {
                let _ = writeln!(out, "  {label}: {part}");
            }
        }
    }
    let ok = diagnosis.findings.iter().filter(|finding| finding.level == Level::Ok).count();
    let seen = if diagnosis.daemon { "by the daemon" } else { "from outside" };
    let _ = writeln!(
        out,
        "{} problems, {} warnings, {ok} checks all right, seen {seen}",
        diagnosis.problems, diagnosis.warnings
    );
    out
}
