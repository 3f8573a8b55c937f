//! The command tree of `sluicectl`. One file for each verb; each asks the API and shows the answer.

mod backend;
mod completion;
mod config;
mod doctor;
mod events;
mod explain;
mod failure;
mod flow;
mod manual;
mod neighbor;
mod output;
mod port;
mod service;
mod stats;
mod status;
mod top;
mod worker;

use crate::client::Client;
use crate::config::{Runtime, TimeSpan};
use clap::{CommandFactory, Parser, Subcommand};
use failure::{Failure, USAGE};
use output::{Format, Output};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// See and change a running sluiced.
#[derive(Debug, Parser)]
#[command(
    name = "sluicectl",
    version,
    after_help = "Exit codes: 0 ok, 1 refused, 2 usage, 3 daemon unreachable, 4 not found, 5 timeout."
)]
struct Cli {
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "PATH", env = "SLUICE_SOCKET", default_value = Runtime::DEFAULT_SOCKET)]
    socket: PathBuf,

    /// How to show the answer: a table, the API's JSON, or one JSON object a line
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,

    /// How long one request may take [default: 5s; 1m to check or apply a configuration]
    #[arg(long, global = true, value_name = "TIME")]
    timeout: Option<TimeSpan>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Whether all is well, at a glance
    Status,
    /// Services, or one with its backends
    Service(service::Arguments),
    /// Backends: list them, take them out, bring them back
    Backend(backend::Arguments),
    /// Connections, as the workers hold them
    Flow(flow::Arguments),
    /// Workers, their load and their tables
    Worker,
    /// Ports, their drivers, links and counters
    Port,
    /// Next hops and their MAC addresses
    Neighbor,
    /// What becomes of a packet, and why: service, worker, backend, next hop
    Explain(explain::Arguments),
    /// What happened lately, and what happens next
    Events(events::Arguments),
    /// All counters
    Stats,
    /// What goes through it, live: services, backends, workers, drops and ports with their rates
    Top(top::Arguments),
    /// Whether the machine is prepared: hugepages, NICs, cores, limits, files
    Doctor(doctor::Arguments),
    /// Check, apply and export configurations
    Config(config::Arguments),
    /// Print a completion script for a shell
    Completion(completion::Arguments),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Manual(manual::Arguments),
}

/// What every verb gets.
struct Context {
    client: Client,
    output: Output,
    /// What `--timeout` said, if anything.
    timeout: Option<Duration>,
}

impl Context {
    /// A client for what may take longer than a look: it reads, builds and waits for all workers.
    fn patient_client(&self) -> Client {
        self.client.clone().with_timeout(self.timeout.unwrap_or(Duration::from_mins(1)))
    }
}

/// The whole command tree: for completion scripts and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that goes into a closed pipe is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let timeout = cli.timeout.map(Duration::from);
    let context = Context {
        client: Client::new(cli.socket).with_timeout(timeout.unwrap_or(Client::DEFAULT_TIMEOUT)),
        output: Output::new(cli.output),
        timeout,
    };
    match run(&context, cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status => status::run(context),
        Verb::Service(arguments) => service::run(context, &arguments),
        Verb::Backend(arguments) => backend::run(context, arguments),
        Verb::Flow(arguments) => flow::run(context, arguments),
        Verb::Worker => worker::run(context),
        Verb::Port => port::run(context),
        Verb::Neighbor => neighbor::run(context),
        Verb::Explain(arguments) => explain::run(context, &arguments),
        Verb::Events(arguments) => events::run(context, &arguments),
        Verb::Stats => stats::run(context),
        Verb::Top(arguments) => top::run(context, &arguments),
        Verb::Doctor(arguments) => doctor::run(context, &arguments),
        Verb::Config(arguments) => config::run(context, &arguments),
        Verb::Completion(arguments) => completion::run(&arguments),
        Verb::Manual(arguments) => manual::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_consistent() {
        super::command().debug_assert();
    }
}
