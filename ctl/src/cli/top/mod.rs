//! `sluicectl top`: what goes through the balancer, live.
//!
//! [`model`] makes rates of two readings, [`table`] rows of them, [`app`] knows what is looked at, [`view`] draws it, and
//! [`live`] is the loop on a terminal.

mod app;
mod live;
mod model;
mod table;
#[cfg(test)]
mod tests;
mod view;

use super::Context;
use super::failure::{Failure, USAGE};
use super::output::{Format, Output, text, toned, write};
use crate::api::{ApiError, paths};
use crate::client::{Client, ClientError};
use crate::config::TimeSpan;
use model::{Reading, Sample};
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::Duration;
use table::{View, arrange, rows};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Time between two readings, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: TimeSpan,
    /// Print one sample, after one interval, and end; no terminal is needed
    #[arg(long)]
    once: bool,
    /// What is looked at first
    #[arg(long, value_enum, default_value_t = View::Services)]
    view: View,
    /// Only rows with this text in a name, address or state
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

impl clap::ValueEnum for View {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.as_str().into())
    }
}

/// More often says nothing more: the daemon measures how busy workers are by the second.
fn interval(text: &str) -> Result<TimeSpan, String> {
    let span: TimeSpan = text.parse().map_err(|error| format!("{error}"))?;
    if (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&span.as_duration()) {
        Ok(span)
    } else {
        Err("use 100ms to 1h".into())
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let interval = arguments.interval.as_duration();
    match context.output.format {
        Format::Jsonl if !arguments.once => follow(context, interval),
        Format::Table if !arguments.once => {
            if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
                return Err(no_terminal("standard input and output are not both one"));
            }
            live::run(&context.client, interval, app::App::new(arguments.view, arguments.filter.clone()))
        }
        _ => {
            let before = read(&context.client)?;
            sleep(interval);
            let sample = Sample::new(Some(&before), &read(&context.client)?);
            context.output.show_own(&sample, || plain(&context.output, &sample, &arguments.filter))
        }
    }
}

fn no_terminal(why: &str) -> Failure {
    let remedy = "use \"top --once\" for one sample as tables, or -o json for programs";
    Failure::told(USAGE, ApiError::new("top needs a terminal", why, remedy))
}

/// A line for each sample, without end.
fn follow(context: &Context, interval: Duration) -> Result<(), Failure> {
    let mut before = read(&context.client)?;
    loop {
        sleep(interval);
        let now = read(&context.client)?;
        let sample = Sample::new(Some(&before), &now);
        write(&format!("{}\n", serde_json::to_value(&sample).unwrap_or_default()))?;
        before = now;
    }
}

fn read(client: &Client) -> Result<Reading, ClientError> {
    Ok(Reading {
        status: client.get(paths::STATUS)?,
        stats: client.get(paths::STATS)?,
        workers: client.get(paths::WORKERS)?,
        ports: client.get(paths::PORTS)?,
    })
}

/// All views, one below the other.
fn plain(output: &Output, sample: &Sample, filter: &str) -> String {
    let tables = View::ALL.map(|view| {
        let rows = arrange(rows(sample, view), view.usual_sort(), filter);
        if rows.is_empty() {
            return None;
        }
        let titles: Vec<String> = view
            .columns()
            .iter()
            .map(|column| if column.number { format!(">{}", column.title) } else { column.title.into() })
            .collect();
        let mut table = output.table(&titles.iter().map(String::as_str).collect::<Vec<_>>());
        for row in rows {
            table.push(row.iter().map(|value| match value.tone() {
                Some(tone) => toned(value.show(), tone),
                None => text(value.show()),
            }));
        }
        Some(table.render())
    });
    tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}
