//! `GET /v1/doctor`: what is right and wrong about the machine.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Worth knowing.
    Note,
    /// It works, slower or less safely than it could.
    Warning,
    /// It does not work, or loses packets.
    Problem,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at. The texts are for people; `check` and `subject` are for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `hugepages`, `driver`, `isolation`, ... These do not change.
    pub check: String,
    pub level: Level,
    /// Of what: `port wan`, `CPU 2`, `node 1`, or `machine`.
    pub subject: String,
    /// What was found.
    pub what: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// What to do, mostly a command; empty where all is well.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)?;
        for part in [&self.why, &self.remedy] {
            if !part.is_empty() {
                write!(f, "; {part}")?;
            }
        }
        Ok(())
    }
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub problems: u64,
    pub warnings: u64,
    /// Whether the running daemon looked, which also knows its ports; otherwise it was seen from outside.
    pub daemon: bool,
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    pub fn new(daemon: bool, findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
        Self { problems: count(Level::Problem), warnings: count(Level::Warning), daemon, findings }
    }
}
