//! How it is drawn. What does not fit is left out, the least telling first.

use super::app::App;
use super::table::{Column, Row, Value, View, short};
use crate::cli::output::{Tone, uptime};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Blanks between columns.
const GAP: usize = 2;
/// Widest a name is let become where other columns are to be seen too.
const MAX_NAME: usize = 40;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub(super) color: bool,
}

impl Palette {
    fn accent(self) -> Style {
        if self.color { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    fn tone(self, tone: Tone) -> Style {
        let color = match tone {
            Tone::Good => Color::Green,
            Tone::Care => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        let style = if self.color { Style::new().fg(color) } else { Style::new() };
        // Without colours, what is broken still stands out.
        if matches!(tone, Tone::Bad) { style.add_modifier(Modifier::BOLD) } else { style }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The lines above the table, the table, and one line of help.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, palette: Palette) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    // The table has at least its titles and two rows; of the lines above it, the first say most.
    let mut lines = head(app, width, palette);
    lines.truncate(height.saturating_sub(4).max(usize::from(height > 1)));
    let footer = usize::from(height > 2);
    app.page = height.saturating_sub(lines.len() + 1 + footer);
    let rows = app.rows();
    app.top = app.top.min(rows.len().saturating_sub(app.page));
    lines.extend(table(app, &rows, width, palette));
    for (line, y) in lines.into_iter().zip(0..area.height.saturating_sub(footer as u16)) {
        frame.render_widget(line, Rect::new(area.x, area.y + y, area.width, 1));
    }
    if footer == 1 {
        let place = Rect::new(area.x, area.bottom() - 1, area.width, 1);
        frame.render_widget(foot(app, rows.len(), width, palette), place);
    }
}

/// Puts parts beside each other as long as they fit.
fn fit(parts: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let mut line = Line::default();
    for part in parts {
        let gap = if line.spans.is_empty() { 0 } else { GAP };
        if !line.spans.is_empty() && line.width() + gap + part.width() > width {
            break;
        }
        if gap > 0 {
            line.push_span(Span::raw(" ".repeat(gap)));
        }
        line.push_span(part);
    }
    line
}

fn head(app: &App, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(away) = &app.away {
        let what = format!("no answer for {} s, trying on: {}", away.seconds(), away.reason);
        lines.push(Line::from(Span::styled(what, palette.tone(Tone::Bad))));
    }
    let Some(sample) = &app.sample else {
        if app.away.is_none() {
            lines.push(Line::from("asking the daemon ..."));
        }
        return lines;
    };
    let total = &sample.total;
    let share = |what: &str, up: u64, all: u64| {
        Span::styled(format!("{what} {up} of {all} up"), palette.tone(Tone::of_share(up, all)))
    };
    let mut first = vec![Span::styled(format!("sluice {}", app.version), BOLD)];
    if app.paused {
        first.push(Span::styled("PAUSED", REVERSED));
    }
    first.extend([
        share("services", total.services.saturating_sub(total.services_down), total.services),
        share("backends", total.backends_up, total.backends),
        Span::raw(format!("up {}", uptime(sample.uptime_seconds))),
        Span::styled(format!("generation {}", sample.generation), DIM),
    ]);
    lines.push(fit(first, width));
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), short);
    let drops = Span::styled(
        format!("drops {}/s", rate(total.drops_per_second)),
        Value::Loss(total.drops_per_second).tone().map_or(Style::new(), |tone| palette.tone(tone)),
    );
    lines.push(fit(
        vec![
            Span::raw(format!("rx {} pkt/s", rate(total.rx_packets_per_second))),
            Span::raw(format!("tx {} pkt/s", rate(total.tx_packets_per_second))),
            drops,
            Span::raw(format!("busy {:.1} %", total.busy_ratio_max * 100.0)),
            Span::raw(format!("rx {}bit/s", spaced(total.rx_bits_per_second))),
            Span::raw(format!("tx {}bit/s", spaced(total.tx_bits_per_second))),
        ],
        width,
    ));
    lines.push(fit(
        vec![
            Span::raw(format!(
                "connections {} of {}",
                short(total.connections_active as f64),
                short(total.connections_max as f64)
            )),
            Span::raw(format!("new {}/s", rate(total.connections_per_second))),
            Span::styled(chart(app, width.saturating_sub(46).min(40)), palette.accent()),
        ],
        width,
    ));
    for notice in app.notices.iter().take(2) {
        lines.push(Line::from(Span::styled(format!("notice: {notice}"), palette.tone(Tone::Care))));
    }
    lines.push(tabs(app, width, palette));
    lines
}

/// `1.23 M` before a unit, `- ` when it is not known.
fn spaced(rate: Option<f64>) -> String {
    let text = rate.map_or_else(|| "-".to_owned(), short);
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    format!("{} {}", &text[..at], &text[at..])
}

/// The latest packets per second as blocks, the highest of them full.
fn chart(app: &App, width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let seen = app.history.len().min(width);
    let values = app.history.range(app.history.len() - seen..);
    let most = values.clone().copied().fold(0.0, f64::max);
    let height = |rate: &f64| if most > 0.0 { (rate / most * 7.0).round() as usize } else { 0 };
    values.map(|rate| BLOCKS[height(rate).min(7)]).collect()
}

fn tabs(app: &App, width: usize, palette: Palette) -> Line<'static> {
    let tab = |(number, view): (usize, &View)| {
        let text = format!(" {} {} ", number + 1, view.as_str());
        let style = match (*view == app.view, palette.color) {
            (true, true) => Style::new().fg(Color::Black).bg(Color::Cyan),
            (true, false) => REVERSED,
            (false, _) => DIM,
        };
        Span::styled(text, style)
    };
    let all: Vec<_> = View::ALL.iter().enumerate().map(tab).collect();
    if all.iter().map(Span::width).sum::<usize>() <= width {
        return Line::from(all);
    }
    // No room for all: the one that is looked at.
    Line::from(
        View::ALL.iter().enumerate().filter(|(_, view)| **view == app.view).map(tab).collect::<Vec<_>>(),
    )
}

/// Titles and the rows that are seen.
fn table(app: &App, rows: &[Row], width: usize, palette: Palette) -> Vec<Line<'static>> {
    let (columns, sort) = (app.view.columns(), app.sort());
    let title = |at: usize, column: &Column| {
        let mark = match (at == sort.column, sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        format!("{}{mark}", column.title)
    };
    let titles: Vec<String> = columns.iter().enumerate().map(|(at, column)| title(at, column)).collect();
    // As wide as the widest of all rows, so that scrolling moves nothing.
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let most = rows.iter().map(|row| Span::raw(row[at].show()).width()).max().unwrap_or(0);
            // Room for the mark, wherever it is.
            most.max(Span::raw(title).width().max(columns[at].title.len() + 1))
        })
        .collect();
    let (shown, widths) = choose(columns, &widths, width);
    let cell = |at: usize, text: String, style: Style| {
        let place = widths[at];
        let mut text = clip(text, place);
        let blanks = " ".repeat(place.saturating_sub(Span::raw(text.as_str()).width()));
        let last = Some(&at) == shown.last();
        text = match (columns[at].number, last) {
            (true, _) => format!("{blanks}{text}"),
            (false, true) => text,
            (false, false) => format!("{text}{blanks}"),
        };
        let gap = if Some(&at) == shown.first() { "" } else { "  " };
        [Span::raw(gap), Span::styled(text, style)]
    };
    let heads = shown.iter().flat_map(|&at| {
        let style = if at == sort.column { BOLD.add_modifier(Modifier::UNDERLINED) } else { BOLD };
        cell(at, titles[at].clone(), style)
    });
    let mut lines = vec![Line::from(heads.collect::<Vec<_>>())];
    if rows.is_empty() {
        lines.push(Line::from(Span::styled(nothing(app), DIM)));
    }
    lines.extend(rows.iter().skip(app.top).take(app.page).map(|row| {
        let cells = shown.iter().flat_map(|&at| {
            let value = &row[at];
            let style = match value.tone() {
                Some(tone) => palette.tone(tone),
                None if app.away.is_some() => DIM,
                None => Style::new(),
            };
            cell(at, value.show(), style)
        });
        Line::from(cells.collect::<Vec<_>>())
    }));
    lines
}

/// Why there is no row.
fn nothing(app: &App) -> String {
    match (app.sample.is_some(), app.filter.as_str(), app.view) {
        (false, ..) => String::new(),
        (true, "", View::Drops) => "nothing was dropped".into(),
        (true, "", view) => format!("no {}", view.as_str()),
        (true, filter, _) => format!("nothing has {filter:?} in it; Esc shows all"),
    }
}

/// The columns that are shown, and how wide: those of the highest rank go until the rest fits; the first one is cut.
fn choose(columns: &[Column], widths: &[usize], room: usize) -> (Vec<usize>, Vec<usize>) {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let mut widths = widths.to_vec();
    let total = |shown: &[usize], widths: &[usize]| {
        shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    while total(&shown, &widths) > room {
        let name = widths[0].min(MAX_NAME);
        if widths[0] > name {
            widths[0] = name;
            continue;
        }
        let Some(place) = (1..shown.len())
            .filter(|&place| columns[shown[place]].rank > 0)
            .max_by_key(|&place| columns[shown[place]].rank)
        else {
            break;
        };
        // What explains is rather cut than left out.
        let at = shown[place];
        let rest = room.saturating_sub(total(&shown, &widths) - widths[at]);
        if !columns[at].number && at + 1 == columns.len() && rest >= 12 {
            widths[at] = rest;
            continue;
        }
        shown.remove(place);
    }
    let excess = total(&shown, &widths).saturating_sub(room);
    widths[0] = widths[0].saturating_sub(excess).max(1);
    (shown, widths)
}

/// At most so wide, with a sign that something is missing.
fn clip(text: String, width: usize) -> String {
    if Span::raw(text.as_str()).width() <= width {
        return text;
    }
    let mut out = String::new();
    for letter in text.chars() {
        let longer = format!("{out}{letter}");
        if Span::raw(longer.as_str()).width() + 1 > width {
            break;
        }
        out = longer;
    }
    out + "…"
}

fn foot(app: &App, rows: usize, width: usize, palette: Palette) -> Line<'static> {
    if app.editing {
        let style = palette.accent().add_modifier(Modifier::BOLD);
        return Line::from(vec![
            Span::styled(format!("/{}", app.filter), style),
            Span::styled("▏", style),
            Span::styled("  Enter keeps, Esc clears", DIM),
        ]);
    }
    let mut parts = Vec::new();
    if !app.filter.is_empty() {
        parts.push(Span::styled(format!("filter {:?}", app.filter), BOLD));
    }
    if rows > app.page && app.page > 0 {
        let last = (app.top + app.page).min(rows);
        parts.push(Span::raw(format!("{}-{last} of {rows}", app.top + 1)));
    }
    let help = ["q quit", "Tab view", "s sort", "r reverse", "/ filter", "↑↓ scroll", "space pause"];
    parts.extend(help.map(|text| Span::styled(text, DIM)));
    fit(parts, width)
}
