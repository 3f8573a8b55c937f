//! Reading tables of a TOML document value by value: what is wrong is noted with its line, and reading
//! goes on.

use super::error::ConfigError;
use super::origin::Origin;
use super::suggest::nearest;
use super::types::quote;
use super::value::FromValue;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// More errors than this are counted, not kept: nobody reads them, and a hostile file has millions.
pub(super) const MAX_ERRORS: usize = 100;

/// A value that was there but could not be read, or was required and not there. The error is noted already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bad;

/// Byte offsets to lines.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Counted from 1.
    fn of(&self, offset: usize) -> u32 {
        self.starts.partition_point(|&start| start <= offset) as u32
    }
}

/// Errors so far, and where everything stands.
pub(super) struct Reader {
    pub(super) origin: Origin,
    lines: Lines,
    errors: Vec<ConfigError>,
    unkept: usize,
}

/// A table that is being read.
pub(super) struct Table<'d, 'i> {
    pub(super) path: String,
    entries: &'d DeTable<'i>,
    /// Known keys that a typo stands for; they are not missed as well.
    meant: Vec<&'static str>,
}

impl Table<'_, '_> {
    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Reader {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { origin: Origin::new(file), lines: Lines::new(text), errors: Vec::new(), unkept: 0 }
    }

    /// Notes an error at a path.
    pub(super) fn error(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ConfigError::at(&self.origin, path, problem, remedy));
        } else {
            self.unkept += 1;
        }
    }

    /// Notes an error that belongs to no key.
    pub(super) fn syntax_error(&mut self, span: Option<Range<usize>>, problem: String, remedy: &str) {
        let mut error = ConfigError::file(self.origin.file(), problem, remedy);
        error.line = span.map(|span| self.lines.of(span.start));
        self.errors.push(error);
    }

    /// Where things stand, the errors, and how many more there were.
    pub(super) fn finish(self) -> (Origin, Vec<ConfigError>, usize) {
        (self.origin, self.errors, self.unkept)
    }

    /// Begins to read a table: notes its line and every key that is not known.
    pub(super) fn open<'d, 'i>(
        &mut self,
        path: String,
        span: Range<usize>,
        entries: &'d DeTable<'i>,
        known: &'static [&'static str],
    ) -> Table<'d, 'i> {
        if !path.is_empty() {
            self.origin.set(&path, self.lines.of(span.start));
        }
        let mut table = Table { path, entries, meant: Vec::new() };
        for (key, value) in entries {
            let path = table.key_path(key.get_ref());
            if known.contains(&key.get_ref().as_ref()) {
                self.origin.set(&path, self.lines.of(key.span().start));
                continue;
            }
            let key_text = quote(key.get_ref());
            let suggestion = nearest(key.get_ref(), known);
            let remedy = match suggestion {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("remove it; the keys here are {}", known.join(", ")),
            };
            let mut error =
                ConfigError::at(&self.origin, &path, format!("the key {key_text} is not known"), remedy);
            error.line = Some(self.lines.of(key.span().start));
            if error.key.len() > 80 {
                error.key = super::error::without_indices(&table.path);
            }
            if matches!(value.get_ref(), DeValue::Table(_))
                || matches!(value.get_ref(), DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()))
            {
                error.problem = format!("the section {key_text} is not known");
            }
            if self.errors.len() < MAX_ERRORS {
                self.errors.push(error);
            } else {
                self.unkept += 1;
            }
            table.meant.extend(suggestion);
        }
        table
    }

    /// Reads a value that may be left out.
    pub(super) fn maybe<T: FromValue>(&mut self, table: &Table<'_, '_>, key: &str) -> Result<Option<T>, Bad> {
        let Some(value) = table.entries.get(key) else { return Ok(None) };
        match T::from_value(value.get_ref()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.error(&table.key_path(key), error.problem, error.remedy);
                Err(Bad)
            }
        }
    }

    /// Reads a value that has a default.
    pub(super) fn or<T: FromValue>(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
        default: T,
    ) -> Result<T, Bad> {
        Ok(self.maybe(table, key)?.unwrap_or(default))
    }

    /// Reads a value that must be there.
    pub(super) fn required<T: FromValue>(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
        example: &str,
    ) -> Result<T, Bad> {
        if let Some(value) = self.maybe(table, key)? {
            return Ok(value);
        }
        if !table.meant.contains(&key) {
            self.missing(table, key, &format!("add {key} = {example}"));
        }
        Err(Bad)
    }

    /// Notes that a key is missing, on the line of its table.
    pub(super) fn missing(&mut self, table: &Table<'_, '_>, key: &str, remedy: &str) {
        self.error(&table.key_path(key), format!("{key:?} is missing"), remedy);
    }

    /// Reads a list; each bad element is an error of its own.
    pub(super) fn list<T: FromValue>(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
    ) -> Result<Option<Vec<T>>, Bad> {
        let Some(value) = table.entries.get(key) else { return Ok(None) };
        let DeValue::Array(items) = value.get_ref() else {
            let remedy = format!("put it in brackets: {key} = [ … ]");
            self.error(&table.key_path(key), "a list is wanted here", remedy);
            return Err(Bad);
        };
        let mut list = Vec::with_capacity(items.len());
        let mut bad = false;
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", table.key_path(key));
            self.origin.set(&path, self.lines.of(item.span().start));
            match T::from_value(item.get_ref()) {
                Ok(item) => list.push(item),
                Err(error) => {
                    self.error(&path, error.problem, error.remedy);
                    bad = true;
                }
            }
        }
        if bad { Err(Bad) } else { Ok(Some(list)) }
    }

    /// Reads a sub-table that may be left out.
    pub(super) fn section<T>(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
        known: &'static [&'static str],
        read: impl FnOnce(&mut Self, &Table<'_, '_>) -> Result<T, Bad>,
    ) -> Result<Option<T>, Bad> {
        let Some(value) = table.entries.get(key) else { return Ok(None) };
        let path = table.key_path(key);
        let DeValue::Table(entries) = value.get_ref() else {
            let header = super::error::without_indices(&path);
            self.error(&path, "a section is wanted here", format!("write [{header}] on a line of its own"));
            return Err(Bad);
        };
        let section = self.open(path, value.span(), entries, known);
        read(self, &section).map(Some)
    }

    /// Reads an array of tables. Those that cannot be read are left out, and the second value is `false`.
    pub(super) fn sections<T>(
        &mut self,
        table: &Table<'_, '_>,
        key: &str,
        known: &'static [&'static str],
        mut read: impl FnMut(&mut Self, &Table<'_, '_>) -> Result<T, Bad>,
    ) -> (Vec<T>, bool) {
        let mut list = Vec::new();
        let mut complete = true;
        let Some(value) = table.entries.get(key) else { return (list, complete) };
        let path = table.key_path(key);
        let header = super::error::without_indices(&path);
        let DeValue::Array(items) = value.get_ref() else {
            self.error(&path, "this section is a list", format!("write [[{header}]] with two brackets"));
            return (list, false);
        };
        for item in items {
            // Indices are those of the model, so that what is checked later finds its line here.
            let path = format!("{path}[{}]", list.len());
            let read = if let DeValue::Table(entries) = item.get_ref() {
                let section = self.open(path.clone(), item.span(), entries, known);
                read(self, &section)
            } else {
                self.error(
                    &path,
                    "this section is a list of tables",
                    format!("write [[{header}]] on a line of its own"),
                );
                Err(Bad)
            };
            if let Ok(section) = read {
                list.push(section);
            } else {
                complete = false;
                self.origin.forget(&path);
            }
        }
        (list, complete)
    }
}
