//! `sluicectl manual DIRECTORY`: the manual pages, for packages. Out of the command trees and the model's own comments, so
//! that nothing is said twice.

mod file;

use super::failure::{Failure, REFUSED};
use crate::api::ApiError;
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the pages go; it is made if need be
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    write_all(&arguments.directory).map_err(|error| {
        let what = format!("the manual pages were not written to {}", arguments.directory.display());
        Failure::told(REFUSED, ApiError::new(what, error.to_string(), "name a folder that you may write to"))
    })
}

fn write_all(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // One page for each verb too: sluicectl-backend-drain(1).
    clap_mangen::generate_to(super::command(), directory)?;
    let daemon = Man::new(crate::sluiced::command()).section("8");
    daemon.generate_to(directory)?;
    let mut page = Vec::new();
    file::page().to_writer(&mut page)?;
    std::fs::write(directory.join("sluice.toml.5"), page)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_visible_verb_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        super::write_all(folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        for verb in crate::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page = read(&format!("sluicectl-{}.1", verb.get_name()));
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{page}");
        }
        assert!(read("sluicectl.1").contains("daemon unreachable"));
        assert!(read("sluiced.8").contains("SIGHUP"));
        assert!(!folder.path().join("sluicectl-manual.1").exists(), "hidden");
    }
}
