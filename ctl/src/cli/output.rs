//! Tables for people, JSON for programs.

use super::failure::{Failure, UNREACHABLE};
use crate::api::ApiError;
use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Jsonl,
}

/// Where answers go, and how.
pub(super) struct Output {
    pub(super) format: Format,
    color: bool,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        // https://no-color.org: any value but the empty one counts.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, color: io::stdout().is_terminal() && !no_color }
    }

    /// Shows an answer of the API: as it came, or as the table that `render` makes of it.
    ///
    /// With `jsonl` a list becomes one line an element; of an object, `list` names the key that holds
    /// the list.
    pub(super) fn show<T: DeserializeOwned>(
        &self,
        answer: Value,
        list: Option<&str>,
        render: impl FnOnce(&Self, &T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => pretty(&answer),
            Format::Jsonl => {
                let items = list.and_then(|key| answer.get(key)).unwrap_or(&answer);
                match items {
                    Value::Array(items) => items.iter().map(line).collect::<Vec<_>>().concat(),
                    one => line(one),
                }
            }
            Format::Table => {
                let answer = serde_json::from_value(answer).map_err(|error| {
                    let why = format!("its answer has another shape than this version knows: {error}");
                    let error = ApiError::new(
                        "no usable answer from the daemon",
                        why,
                        "use the sluicectl that came with it",
                    );
                    Failure::told(UNREACHABLE, error)
                })?;
                render(self, &answer)
            }
        };
        write(&text)
    }

    /// Shows an object that was made here.
    pub(super) fn show_own<T: Serialize>(
        &self,
        object: &T,
        render: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let value = || serde_json::to_value(object).unwrap_or(Value::Null);
        let text = match self.format {
            Format::Json => pretty(&value()),
            Format::Jsonl => line(&value()),
            Format::Table => render(),
        };
        write(&text)
    }

    /// Words outside of a table, in the colour of a cell that says the same.
    pub(super) fn paint(&self, words: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Care => 33,
            Tone::Bad => 31,
        };
        if self.color { format!("\x1b[{code}m{words}\x1b[0m") } else { words.to_owned() }
    }

    /// A table whose columns with a leading `>` in their title hold numbers.
    pub(super) fn table(&self, titles: &[&str]) -> Rows {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(titles.iter().map(|title| Cell::new(title.trim_start_matches('>'))));
        for (column, title) in table.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Rows { table }
    }
}

/// Writes an answer to stdout.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// A table that is being filled.
pub(super) struct Rows {
    table: Table,
}

impl Rows {
    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(cells);
    }

    /// The lines, each without blanks at its end.
    pub(super) fn render(&self) -> String {
        format!("{}\n", self.table.trim_fmt())
    }
}

pub(super) fn text(value: impl ToString) -> Cell {
    Cell::new(value)
}

/// Something is fine, something is on its way out, something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Care,
    Bad,
}

impl Tone {
    /// Of what has `good` of `all` parts: none is broken, not all is to be looked after.
    pub(super) fn of_share(good: u64, all: u64) -> Self {
        match good {
            good if good >= all => Self::Good,
            0 => Self::Bad,
            _ => Self::Care,
        }
    }
}

pub(super) fn toned(value: impl ToString, tone: Tone) -> Cell {
    Cell::new(value).fg(match tone {
        Tone::Good => Color::DarkGreen,
        Tone::Care => Color::DarkYellow,
        Tone::Bad => Color::DarkRed,
    })
}

/// `0.873` as `87.3`: the unit stands in the title.
pub(super) fn percent(ratio: f64) -> Cell {
    Cell::new(format!("{:.1}", ratio * 100.0))
}

/// Seconds with one decimal.
pub(super) fn seconds(value: f64) -> Cell {
    Cell::new(format!("{value:.1}"))
}

/// `1d 02:03:04`, for times that people read.
pub(super) fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Output {
        Output { format: Format::Table, color: false }
    }

    #[test]
    fn numbers_stand_right_and_no_line_ends_in_blanks() {
        let mut rows = plain().table(&["NAME", ">COUNT", "NOTE"]);
        rows.push([text("a"), text(5), text("")]);
        rows.push([text("longer"), text(12345), text("x")]);
        assert_eq!(rows.render(), "NAME    COUNT  NOTE\na           5\nlonger  12345  x\n");
    }

    #[test]
    fn colours_only_where_wanted() {
        let render = |color| {
            let mut rows = Output { format: Format::Table, color }.table(&["A"]);
            rows.push([toned("down", Tone::Bad)]);
            rows.render()
        };
        assert!(!render(false).contains('\x1b'));
        assert!(render(true).contains('\x1b'));
    }

    #[test]
    fn times_that_people_read() {
        assert_eq!(uptime(59.9), "00:00:59");
        assert_eq!(uptime(93_784.0), "1d 02:03:04");
    }
}
