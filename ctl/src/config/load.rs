//! Files and text to configurations, and back.

use super::error::ConfigError;
use super::read::{MAX_ERRORS, Reader};
use super::{Config, decode, validate};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use toml::de::DeTable;

/// Files larger than this are refused, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Beyond this many bytes only the first syntax error is reported: looking for more costs memory with
/// each one found.
const MAX_RECOVERY_BYTES: usize = 256 << 10;

/// Syntax errors tend to follow from one another; these many are reported.
const MAX_SYNTAX_ERRORS: usize = 10;

impl Config {
    /// Reads and checks a configuration. `file` is its name in messages.
    ///
    /// The errors are all that could be found, in the order of the file.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<ConfigError>> {
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(vec![too_large(file)]);
        }
        let mut reader = Reader::new(file, text);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(first) => return Err(syntax_errors(reader, text, first)),
        };
        if document.get_ref().is_empty() {
            let remedy = "add a [[port]] and a [[service]] with a [[service.backend]]";
            return Err(vec![ConfigError::file(file, "the configuration is empty", remedy)]);
        }
        let decoded = decode::document(&mut reader, document.get_ref(), document.span());
        validate::validate(&mut reader, &decoded);
        let (origin, mut errors, unkept) = reader.finish();
        if errors.is_empty() {
            return Ok(Self { origin, ..decoded.config });
        }
        errors.sort_by_key(|error| error.line);
        if unkept > 0 {
            let problem = format!("{unkept} more errors are not shown");
            errors.push(ConfigError::file(file, problem, format!("correct these {MAX_ERRORS} first")));
        }
        Err(errors)
    }

    /// Like [`Config::parse`], from bytes that may not be text.
    pub fn parse_bytes(bytes: &[u8], file: &str) -> Result<Self, Vec<ConfigError>> {
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(vec![too_large(file)]);
        }
        match std::str::from_utf8(bytes) {
            // Editors on other systems put a byte order mark first.
            Ok(text) => Self::parse(text.strip_prefix('\u{feff}').unwrap_or(text), file),
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
                let mut error = ConfigError::file(file, "this is not UTF-8 text", "save the file as UTF-8");
                error.line = Some(line as u32);
                Err(vec![error])
            }
        }
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigError>> {
        let file = path.display().to_string();
        let bytes = read_file(path).map_err(|error| vec![error])?;
        Self::parse_bytes(&bytes, &file)
    }

    /// The configuration as a file that gives the same configuration, every default written out.
    pub fn to_toml(&self) -> String {
        // Every field has a TOML form, so the error cannot occur; the text would say what it was.
        toml::to_string(self)
            .unwrap_or_else(|error| format!("# the configuration cannot be printed: {error}\n"))
    }
}

/// Reads a file of bounded size.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let name = path.display().to_string();
    let failed = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => {
                "make it readable for this user, or run as one who may read it"
            }
            _ => "check the file",
        };
        ConfigError::file(&name, format!("the file cannot be read: {error}"), remedy)
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if metadata.is_dir() {
        return Err(ConfigError::file(&name, "this is a directory", "name the configuration file in it"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    // A pipe or a growing file has no size in advance.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(too_large(&name)) } else { Ok(bytes) }
}

fn too_large(file: &str) -> ConfigError {
    ConfigError::file(
        file,
        "the file is larger than 16 MiB",
        "a configuration is text; check that it is the right file",
    )
}

fn syntax_errors(mut reader: Reader, text: &str, first: toml::de::Error) -> Vec<ConfigError> {
    let errors =
        if text.len() <= MAX_RECOVERY_BYTES { DeTable::parse_recoverable(text).1 } else { vec![first] };
    for error in errors.into_iter().take(MAX_SYNTAX_ERRORS) {
        let remedy = if error.message().starts_with("duplicate key") {
            "write each key and each section once; lists of sections have two brackets: [[service]]"
        } else {
            "correct the TOML; text stands in quotes: key = \"value\""
        };
        reader.syntax_error(error.span(), error.message().to_owned(), remedy);
    }
    let (_, mut errors, _) = reader.finish();
    errors.dedup_by_key(|error| error.line);
    errors
}
