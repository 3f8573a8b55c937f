//! Every figure beside its target and its reference, in Markdown that also reads well on a terminal.

use super::figure::{Direction, Figure, number};
use serde_json::{Map, Value};
use std::fmt::Write as _;

const HEADINGS: [&str; 7] = ["benchmark", "figure", "value", "spread", "target", "reference", ""];

/// `charts`: part and file name.
pub(super) fn markdown(
    machine: &Map<String, Value>,
    figures: &[Figure],
    charts: &[(String, String)],
) -> String {
    let mut text = String::from("# Benchmarks of Sluice\n\n");
    for (key, value) in machine {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(text, "- {}: {value}", key.replace('_', " "));
    }
    let verdicts: Vec<bool> = figures.iter().filter_map(Figure::met).collect();
    let met = verdicts.iter().filter(|&&met| met).count();
    let _ = writeln!(text, "\n**{met} of {} targets met.**", verdicts.len());
    show(&mut text, charts, "");

    let mut parts: Vec<&str> = Vec::new();
    for figure in figures {
        if !parts.contains(&figure.part()) {
            parts.push(figure.part());
        }
    }
    for part in parts {
        let figures: Vec<&Figure> = figures.iter().filter(|figure| figure.part() == part).collect();
        let _ = write!(text, "\n## {part}\n\n{}", rows(&figures));
        let notes = notes(&figures);
        if !notes.is_empty() {
            let _ = write!(text, "\n{notes}");
        }
        show(&mut text, charts, part);
    }
    text
}

fn show(text: &mut String, charts: &[(String, String)], part: &str) {
    for (_, file) in charts.iter().filter(|(of, _)| of == part) {
        let _ = write!(text, "\n![{}]({file})\n", file.trim_end_matches(".svg"));
    }
}

fn rows(figures: &[&Figure]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(figures.iter().map(|figure| row(figure)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            text.extend(widths.iter().map(|&width| format!("| {} ", "-".repeat(width))));
            text.push_str("|\n");
        }
    }
    text
}

fn row(figure: &Figure) -> [String; HEADINGS.len()] {
    let value = figure.value.map_or_else(
        || "not measured".to_owned(),
        |value| {
            if figure.unit == "ratio" { number(value) } else { format!("{} {}", number(value), figure.unit) }
        },
    );
    let sign = match figure.direction {
        Direction::Higher => "≥",
        Direction::Lower => "≤",
    };
    let reference = match (&figure.reference, figure.reference_value) {
        (Some(name), Some(value)) => format!("{name} {}", number(value)),
        (Some(name), None) => name.clone(),
        (None, value) => value.map(number).unwrap_or_default(),
    };
    let verdict = match figure.met() {
        Some(true) => "met",
        Some(false) => "**MISSED**",
        None => "",
    };
    [
        figure.benchmark.clone(),
        figure.name.clone(),
        value,
        figure.spread().map(|spread| format!("{:.0} %", spread * 100.0)).unwrap_or_default(),
        figure.target.map(|target| format!("{sign} {}", number(target))).unwrap_or_default(),
        reference,
        verdict.to_owned(),
    ]
    .map(|cell| cell.replace('|', "\\|"))
}

/// What there is to say, once for all figures of which it is said.
fn notes(figures: &[&Figure]) -> String {
    let mut notes: Vec<(&str, Vec<String>)> = Vec::new();
    for figure in figures {
        let Some(note) = figure.note.as_deref().filter(|note| !note.is_empty()) else { continue };
        let name = format!("`{}` {}", figure.benchmark, figure.name);
        match notes.iter_mut().find(|(said, _)| *said == note) {
            Some((_, names)) => names.push(name),
            None => notes.push((note, vec![name])),
        }
    }
    notes.into_iter().fold(String::new(), |mut text, (note, names)| {
        let _ = writeln!(text, "- {}: {note}", names.join(", "));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(line: &str) -> Figure {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_missed_target_stands_out_with_its_note() {
        let figures = [
            figure(
                r#"{"benchmark":"idle","figure":"cpu_share","value":0.2,"unit":"ratio","direction":"lower","target":0.05,"note":"tried: longer naps"}"#,
            ),
            figure(
                r#"{"benchmark":"idle","figure":"first_packet","value":41,"unit":"us","direction":"lower","target":50,"reference":"busy","reference_value":8,"samples":[40,41,43]}"#,
            ),
            figure(
                r#"{"benchmark":"tcp/x","figure":"rate","value":null,"unit":"requests/s","direction":"higher"}"#,
            ),
        ];
        let machine = serde_json::from_str(r#"{"cpu_model":"a CPU","cores":2}"#).unwrap();
        let text = markdown(&machine, &figures, &[("idle".into(), "idle-us.svg".into())]);
        for line in [
            "- cpu model: a CPU",
            "- cores: 2",
            "**1 of 2 targets met.**",
            "| idle      | cpu_share    | 0.2   |        | ≤ 0.05 |           | **MISSED** |",
            "| idle      | first_packet | 41 us | 7 %    | ≤ 50   | busy 8    | met        |",
            "- `idle` cpu_share: tried: longer naps",
            "![idle-us](idle-us.svg)",
            "| tcp/x     | rate   | not measured |        |        |           |     |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }
}
