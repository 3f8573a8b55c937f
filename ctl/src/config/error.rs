//! What is wrong with a configuration, and where.

use super::origin::Origin;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that makes a configuration unusable. Prints as one line:
/// `file:line: key: what is wrong; what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigError {
    /// As it was named to the parser.
    pub file: String,
    /// Counted from 1; `None` when the file as a whole is meant.
    pub line: Option<u32>,
    /// The key with the names of its tables: `service.backend.weight`. Empty when the file as a whole is
    /// meant.
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

impl ConfigError {
    /// About the file as a whole.
    pub fn file(file: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// About the item at `path`, such as `service[2].backend[1].weight`.
    pub fn at(origin: &Origin, path: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: origin.file().to_owned(),
            line: origin.line(path),
            key: without_indices(path),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// `service[2].backend[1].weight` → `service.backend.weight`: the line says which one.
pub(super) fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|&character| {
            let keep = !inside && character != '[';
            inside = match character {
                '[' => true,
                ']' => false,
                _ => inside,
            };
            keep
        })
        .collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

/// Something that works but is probably not meant. Has the same parts as an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigWarning(pub ConfigError);

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
