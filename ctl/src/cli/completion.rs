//! `sluicectl completion SHELL`

use super::failure::Failure;
use super::output::write;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    shell: Shell,
    /// For the daemon, sluiced, in place of sluicectl
    #[arg(long, hide = true)]
    daemon: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let (mut command, name) = if arguments.daemon {
        (crate::sluiced::command(), "sluiced")
    } else {
        (super::command(), "sluicectl")
    };
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    write(&String::from_utf8_lossy(&script))
}
