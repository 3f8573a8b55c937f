//! Whether a machine is prepared for the balancer: hugepages, NICs, cores, limits, files.
//!
//! Every check is a function of the files below a root, which is `/` or a folder of a test. The daemon runs them when it
//! starts and for `GET /v1/doctor`; `sluicectl doctor` runs them where there is no daemon.

mod cores;
mod devices;
mod files;
mod memory;
mod ports;
#[cfg(test)]
mod tests;

pub use ports::examine as examine_ports;

use crate::api::{Finding, Level};
use crate::config::Config;
use std::fs;
use std::path::{Path, PathBuf};

/// The machine, as its files show it.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Host {
    /// What is below `root` in place of this machine.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The text of a file, without blanks around it.
    fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.path(path)).ok()?.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; none if it is not there.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of where a link leads.
    fn link(&self, path: &str) -> Option<String> {
        Some(fs::read_link(self.path(path)).ok()?.file_name()?.to_string_lossy().into_owned())
    }

    /// A list such as `0-3,8`; empty if there is none.
    fn cpus(&self, path: &str) -> Vec<u16> {
        self.text(path).as_deref().and_then(crate::config::cpu_list).unwrap_or_default()
    }

    /// The value of a line `key: value`.
    fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }
}

/// Findings as they come.
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &str, subject: &str, what: impl Into<String>) {
        self.add(Level::Ok, check, subject, what, "", "");
    }

    fn add(
        &mut self,
        level: Level,
        check: &str,
        subject: &str,
        what: impl Into<String>,
        why: &str,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            check: check.to_owned(),
            level,
            subject: subject.to_owned(),
            what: what.into(),
            why: why.to_owned(),
            remedy: remedy.into(),
        });
    }
}

const MACHINE: &str = "machine";

/// Looks at the machine; with a configuration, at what it needs of it, and at the file that it came from.
pub fn examine(host: &Host, config: Option<(&Config, &Path)>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    cores::features(host, &mut findings);
    cores::clock(host, &mut findings);
    memory::transparent(host, &mut findings);
    files::limits(host, config.map(|(config, _)| config), &mut findings);
    if let Some((config, file)) = config {
        memory::hugepages(host, config, &mut findings);
        devices::examine(host, config, &mut findings);
        cores::workers(host, config, &mut findings);
        files::permissions(host, config, file, &mut findings);
    } else {
        memory::reserved(host, &mut findings);
    }
    findings.0
}
