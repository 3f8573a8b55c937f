//! The loop on a terminal: one thread asks the daemon, one hears keys, one hears signals; this one draws.

use super::app::{App, Next};
use super::model::Reading;
use super::view::{Palette, draw};
use crate::api::ApiError;
use crate::cli::failure::{Failure, REFUSED};
use crate::client::{Client, ClientError};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// What wakes the loop.
enum Message {
    Heard(Box<Reading>),
    Lost(ClientError),
    Terminal(Event),
    Stop,
}

pub(super) fn run(client: &Client, interval: Duration, app: App) -> Result<(), Failure> {
    let (sender, messages) = channel();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // It also has a panic, of whichever thread, give the terminal back first.
    let mut terminal = ratatui::try_init().map_err(|error| super::no_terminal(&error.to_string()))?;
    let stop = sender.clone();
    spawn(move || {
        if signals.forever().next().is_some() {
            let _ = stop.send(Message::Stop);
        }
    });
    let keys = sender.clone();
    spawn(move || hear_terminal(&keys));
    let client = client.clone();
    spawn(move || ask(&client, interval, &sender));
    let ended = turn(&mut terminal, app, &messages, Palette { color });
    ratatui::restore();
    ended.map_err(|error| {
        let remedy = "try another terminal, or use \"top --once\"";
        Failure::told(REFUSED, ApiError::new("the terminal cannot be drawn on", error.to_string(), remedy))
    })
}

fn turn(
    terminal: &mut DefaultTerminal,
    mut app: App,
    messages: &Receiver<Message>,
    palette: Palette,
) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, &mut app, palette))?;
        // One drawing for all that has come meanwhile.
        let Ok(first) = messages.recv() else { return Ok(()) };
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Heard(reading) => app.hear(*reading),
                Message::Lost(error) => {
                    let error = error.explain();
                    app.lose(format!("{} ({})", error.error, error.reason), begin.elapsed());
                }
                Message::Terminal(Event::Key(key)) if app.key(key) == Next::Quit => return Ok(()),
                // A new size is seen when it is drawn.
                Message::Terminal(_) => {}
                Message::Stop => return Ok(()),
            }
        }
    }
}

/// Until nobody listens; a terminal that is gone is the end.
fn hear_terminal(sender: &Sender<Message>) {
    while let Ok(event) = event::read() {
        if sender.send(Message::Terminal(event)).is_err() {
            return;
        }
    }
    let _ = sender.send(Message::Stop);
}

/// Asks every interval, also while nobody answers.
fn ask(client: &Client, interval: Duration, sender: &Sender<Message>) {
    loop {
        let begin = Instant::now();
        let message = match super::read(client) {
            Ok(reading) => Message::Heard(Box::new(reading)),
            Err(error) => Message::Lost(error),
        };
        if sender.send(message).is_err() {
            return;
        }
        sleep(interval.saturating_sub(begin.elapsed()));
    }
}
