//! `sluiced`: the balancer's daemon.

use clap::Parser;
use ctl::config::{Config, ConfigError};
use dataplane::control::{balancer, daemon};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A layer-4 load balancer over DPDK. Runs in the foreground and logs to standard error.
///
/// SIGHUP reads the configuration file again, SIGTERM and SIGINT stop it. Exit status: 0 after SIGTERM or SIGINT, 1 when
/// it cannot start, 2 for wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "sluiced", version)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say whether the configuration is right; touches nothing.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config).and_then(|config| {
        balancer::admit(&config)?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    if arguments.check {
        for warning in balancer::warnings(&config) {
            eprintln!("warning: {warning}");
        }
        println!("{}: the configuration is right", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    match daemon::run(config, arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(daemon::Refusal::Config(errors)) => refuse(&errors),
        Err(daemon::Refusal::Start(reason)) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// One refusal is one error, whatever number of mistakes the file has.
fn refuse(errors: &[ConfigError]) -> ExitCode {
    if let [only] = errors {
        eprintln!("error: {only}");
    } else {
        eprintln!("error: the configuration was refused; line by line:");
        for error in errors {
            eprintln!("  {error}");
        }
    }
    ExitCode::FAILURE
}

/// One line for each fact; `RUST_LOG` asks for more.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
