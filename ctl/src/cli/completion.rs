//! `sluicectl completion SHELL`

use super::failure::Failure;
use super::output::write;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "sluicectl", &mut script);
    write(&String::from_utf8_lossy(&script))
}
