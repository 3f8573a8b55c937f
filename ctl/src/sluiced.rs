//! The command line of `sluiced`. It is here, and not with the daemon, so that manual pages and completion scripts of both
//! programs come from one place.

use clap::{CommandFactory, Parser};
use std::path::PathBuf;

/// A layer-4 load balancer over DPDK. Runs in the foreground and logs to standard error.
///
/// SIGHUP reads the configuration file again, SIGTERM and SIGINT stop it. Exit status: 0 after SIGTERM or SIGINT, 1 when
/// it cannot start, 2 for wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "sluiced", version)]
pub struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only say whether the configuration is right; touches nothing.
    #[arg(long)]
    pub check: bool,
}

/// The command tree.
pub fn command() -> clap::Command {
    Arguments::command()
}
