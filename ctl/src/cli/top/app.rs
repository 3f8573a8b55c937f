//! What `top` remembers: the readings, what is looked at, and what each key does to that.

use super::model::{Reading, Sample};
use super::table::{self, Row, Sort, View};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::VecDeque;
use std::time::Duration;

/// Samples of the little chart.
const HISTORY: usize = 240;
/// Longest filter, in characters.
const MAX_FILTER: usize = 64;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Quit,
}

/// The daemon does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    /// On the clock of who calls.
    since: Duration,
    now: Duration,
    pub(super) reason: String,
}

impl Away {
    pub(super) fn seconds(&self) -> u64 {
        self.now.saturating_sub(self.since).as_secs()
    }
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) view: View,
    sorts: [Sort; View::ALL.len()],
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) editing: bool,
    pub(super) paused: bool,
    /// The first row that is seen.
    pub(super) top: usize,
    /// Rows that there was room for when it was drawn last.
    pub(super) page: usize,
    last: Option<Reading>,
    pub(super) sample: Option<Sample>,
    /// What the daemon says an operator should know.
    pub(super) notices: Vec<String>,
    pub(super) version: String,
    /// Packets received per second, the newest last.
    pub(super) history: VecDeque<f64>,
    pub(super) away: Option<Away>,
}

impl App {
    pub(super) fn new(view: View, filter: String) -> Self {
        Self {
            view,
            sorts: View::ALL.map(View::usual_sort),
            filter,
            editing: false,
            paused: false,
            top: 0,
            page: 1,
            last: None,
            sample: None,
            notices: Vec::new(),
            version: String::new(),
            history: VecDeque::new(),
            away: None,
        }
    }

    /// The daemon has answered.
    pub(super) fn hear(&mut self, reading: Reading) {
        self.away = None;
        let sample = Sample::new(self.last.as_ref(), &reading);
        if let Some(rate) = sample.total.rx_packets_per_second {
            self.history.push_back(rate);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        if !self.paused {
            self.notices.clone_from(&reading.status.notices);
            self.version.clone_from(&reading.status.version);
            self.sample = Some(sample);
        }
        self.last = Some(reading);
    }

    /// It has not. What was known stays to be seen.
    pub(super) fn lose(&mut self, reason: String, now: Duration) {
        let since = self.away.as_ref().map_or(now, |away| away.since);
        self.away = Some(Away { since, now, reason });
    }

    pub(super) fn sort(&self) -> Sort {
        self.sorts[self.view as usize]
    }

    /// All rows of the view, as they are wanted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = self.sample.as_ref().map(|sample| table::rows(sample, self.view));
        table::arrange(rows.unwrap_or_default(), self.sort(), &self.filter)
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Next::Quit } else { Next::Stay };
        }
        if self.editing {
            self.edit(key.code);
            return Next::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Tab => self.look_at(self.view.following(1)),
            KeyCode::BackTab => self.look_at(self.view.following(View::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='5') => self.look_at(View::ALL[digit as usize - '1' as usize]),
            KeyCode::Char('s') | KeyCode::Right => self.turn_sort(1),
            KeyCode::Char('S') | KeyCode::Left => self.turn_sort(self.view.columns().len() - 1),
            KeyCode::Char('r') => {
                let sort = &mut self.sorts[self.view as usize];
                sort.descending = !sort.descending;
            }
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => self.top = self.top.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            KeyCode::PageDown => self.top = self.top.saturating_add(self.page),
            KeyCode::PageUp => self.top = self.top.saturating_sub(self.page),
            KeyCode::Home => self.top = 0,
            // Drawing brings it back to the last page.
            KeyCode::End => self.top = usize::MAX,
            _ => {}
        }
        Next::Stay
    }

    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter | KeyCode::Tab => self.editing = false,
            KeyCode::Esc => {
                self.editing = false;
                self.set_filter(String::new());
            }
            KeyCode::Backspace => {
                let mut filter = self.filter.clone();
                filter.pop();
                self.set_filter(filter);
            }
            KeyCode::Char(letter) if self.filter.chars().count() < MAX_FILTER => {
                self.set_filter(format!("{}{letter}", self.filter));
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        (self.filter, self.top) = (filter, 0);
    }

    fn look_at(&mut self, view: View) {
        (self.view, self.top) = (view, 0);
    }

    fn turn_sort(&mut self, step: usize) {
        let columns = self.view.columns().len();
        self.sorts[self.view as usize] = Sort::by(self.view, (self.sort().column + step) % columns);
    }
}
