//! `sluicectl events`

use super::Context;
use super::failure::Failure;
use super::output::{Format, Output, Tone, text, toned, write};
use crate::api::{Event, EventQuery, Events, Severity, paths};
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show new ones as they happen, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only those with a higher number than this
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    since: u64,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let query = EventQuery { since: arguments.since, follow: false };
    if !arguments.follow {
        return context.output.show(context.client.get(&paths::events(query))?, Some("events"), render);
    }
    follow(context, query)
}

/// Asks again and again; each answer waits for an event.
fn follow(context: &Context, mut query: EventQuery) -> Result<(), Failure> {
    let patience = Duration::from_secs(EventQuery::WAIT_SECONDS) + context.client.timeout();
    let client = context.client.clone().with_timeout(patience);
    let mut run = String::new();
    loop {
        let answer: Events = client.get(&paths::events(query))?;
        if !run.is_empty() && answer.run != run {
            // The daemon was started again: from its first event.
            (query.since, run) = (0, answer.run);
            continue;
        }
        (query, run) = (EventQuery { since: answer.last, follow: true }, answer.run);
        let mut out = String::new();
        if answer.missed > 0 && context.output.format == Format::Table {
            let _ = writeln!(out, "({} events before these are kept no more)", answer.missed);
        }
        for event in &answer.events {
            match context.output.format {
                Format::Table => out.push_str(&line(event)),
                // An endless list has no end to wait for: an object a line.
                Format::Json | Format::Jsonl => {
                    let _ = writeln!(out, "{}", serde_json::to_value(event).unwrap_or_default());
                }
            }
        }
        write(&out)?;
    }
}

/// As a row of the table, without knowing the rows to come.
fn line(event: &Event) -> String {
    format!(
        "{}  {:>6}  {:<7}  {:<16}  {}\n",
        event.time,
        event.number,
        event.severity.as_str(),
        event.kind.as_str(),
        event.message
    )
}

fn render(output: &Output, answer: &Events) -> String {
    let mut rows = output.table(&["TIME", ">NUMBER", "SEVERITY", "KIND", "MESSAGE"]);
    for event in &answer.events {
        let tone = match event.severity {
            Severity::Info => Tone::Good,
            Severity::Warning => Tone::Care,
        };
        rows.push([
            text(&event.time),
            text(event.number),
            toned(event.severity.as_str(), tone),
            text(event.kind.as_str()),
            text(&event.message),
        ]);
    }
    let mut out = rows.render();
    if answer.missed > 0 {
        let _ = writeln!(out, "{} events before these are kept no more.", answer.missed);
    }
    out
}
