//! Charts, as SVG.
//!
//! For each part and unit, a bar for each figure with its reference beside it and its target as a mark; for all targets
//! together, how far each figure is from its own; and a chart of curves for each figure that brings some.

use super::figure::{Direction, Figure, number};
use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const MET: RGBColor = RGBColor(46, 125, 80);
const MISSED: RGBColor = RGBColor(192, 57, 43);
const PLAIN: RGBColor = RGBColor(60, 100, 150);
const REFERENCE: RGBColor = RGBColor(190, 195, 200);
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(120, 126, 134);
/// Distinct, also for those who do not tell red from green.
const LINES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Width of a chart, and of its margins, in pixels.
const WIDTH: u32 = 960;
const LEFT: i32 = 340;
const RIGHT: i32 = 130;
const TOP: i32 = 52;
/// Height of one bar with what is between two.
const ROW: i32 = 30;
/// Bars of scores end here: further from the target is not better in any way that matters.
const MOST_SCORE: f64 = 2.0;

/// A curve that a figure brings in its `extra`.
#[derive(Debug, Deserialize)]
struct Curves {
    x: String,
    y: String,
    series: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// One line of a bar chart.
struct Bar {
    label: String,
    value: f64,
    text: String,
    color: RGBColor,
    reference: Option<(String, f64)>,
    target: Option<f64>,
}

/// Draws every chart; part (none for the one of all targets) and file name of each.
pub(super) fn draw_all(directory: &Path, figures: &[Figure]) -> anyhow::Result<Vec<(String, String)>> {
    let mut charts = Vec::new();
    let scores: Vec<Bar> = figures.iter().filter_map(score).collect();
    if !scores.is_empty() {
        let title = "All targets: 1 is on target, longer is better";
        bars(&directory.join("targets.svg"), title, &scores)?;
        charts.push((String::new(), "targets.svg".to_owned()));
    }
    let mut groups: Vec<(&str, &str, Vec<Bar>)> = Vec::new();
    // A figure that brings curves is their summary.
    for figure in figures.iter().filter(|figure| figure.extra.get("curves").is_none()) {
        let Some(bar) = bar(figure) else { continue };
        match groups.iter_mut().find(|(part, unit, _)| (*part, *unit) == (figure.part(), &figure.unit)) {
            Some((_, _, bars)) => bars.push(bar),
            None => groups.push((figure.part(), &figure.unit, vec![bar])),
        }
    }
    for (part, unit, group) in groups {
        let file = format!("{}.svg", slug(&format!("{part} {unit}")));
        bars(&directory.join(&file), &format!("{part}: {unit}"), &group)?;
        charts.push((part.to_owned(), file));
    }
    for figure in figures {
        let Some(extra) = figure.extra.get("curves") else { continue };
        let name = format!("{} {}", figure.benchmark, figure.name);
        let drawn =
            Curves::deserialize(extra).with_context(|| format!("{name}: its curves are not curves"))?;
        let file = format!("{}.svg", slug(&name));
        curves(&directory.join(&file), &name, &drawn)?;
        charts.push((figure.part().to_owned(), file));
    }
    Ok(charts)
}

fn color(figure: &Figure) -> RGBColor {
    match figure.met() {
        Some(true) => MET,
        Some(false) => MISSED,
        None => PLAIN,
    }
}

fn label(figure: &Figure) -> String {
    format!("{} {}", figure.benchmark, figure.name)
}

fn bar(figure: &Figure) -> Option<Bar> {
    let value = figure.value?;
    let named = |value| (figure.reference.clone().unwrap_or_default(), value);
    let sign = match figure.direction {
        Direction::Higher => '≥',
        Direction::Lower => '≤',
    };
    let target = figure.target.map(|target| format!("  ({sign} {})", number(target))).unwrap_or_default();
    Some(Bar {
        label: label(figure),
        value,
        text: format!("{}{target}", number(value)),
        color: color(figure),
        reference: figure.comparable_reference().map(named),
        target: figure.target,
    })
}

fn score(figure: &Figure) -> Option<Bar> {
    figure.target?;
    let score = figure.score().unwrap_or(0.0);
    Some(Bar {
        label: label(figure),
        value: score.min(MOST_SCORE),
        text: if score > MOST_SCORE { format!("{MOST_SCORE} or more") } else { number(score) },
        color: color(figure),
        reference: None,
        target: Some(1.0),
    })
}

/// A file name of words: letters and digits, the rest as hyphens.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Where a row begins.
fn top_of(row: usize) -> i32 {
    TOP + ROW * i32::try_from(row).unwrap_or(0)
}

fn bars(path: &Path, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    let bottom = top_of(bars.len());
    let root = SVGBackend::new(path, (WIDTH, bottom as u32 + 14)).into_drawing_area();
    let ends = bars.iter().flat_map(|bar| [Some(bar.value), bar.target, bar.reference.as_ref().map(|r| r.1)]);
    let longest = ends.flatten().filter(|end| end.is_finite()).fold(0.0, f64::max);
    let full = f64::from(WIDTH) - f64::from(LEFT + RIGHT);
    let scale = move |value: f64| {
        let share = if longest > 0.0 { (value / longest).clamp(0.0, 1.0) } else { 0.0 };
        LEFT + (share * full) as i32
    };
    let draw = || -> Result<(), Box<dyn std::error::Error + '_>> {
        root.fill(&WHITE)?;
        write(&root, title, (16, 26), 18, INK, HPos::Left)?;
        for (row, bar) in bars.iter().enumerate() {
            one_bar(&root, bar, top_of(row), &scale)?;
        }
        root.draw(&PathElement::new([(LEFT, TOP - 4), (LEFT, bottom)], FAINT))?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn one_bar<'a>(
    root: &Area<'a>,
    bar: &Bar,
    top: i32,
    scale: &impl Fn(f64) -> i32,
) -> Result<(), Box<dyn std::error::Error + 'a>>
where
    SVGBackend<'a>: 'a,
{
    let middle = top + 9;
    let mut text_from = scale(bar.value);
    write(root, &bar.label, (LEFT - 10, middle), 12, INK, HPos::Right)?;
    root.draw(&Rectangle::new([(LEFT, top + 2), (scale(bar.value), top + 16)], bar.color.filled()))?;
    if let Some((name, value)) = &bar.reference {
        let end = scale(*value);
        root.draw(&Rectangle::new([(LEFT, top + 17), (end, top + 23)], REFERENCE.filled()))?;
        write(root, &format!("{name} {}", number(*value)), (end + 6, top + 21), 10, FAINT, HPos::Left)?;
    }
    if let Some(target) = bar.target {
        let x = scale(target);
        root.draw(&PathElement::new([(x, top - 2), (x, top + 20)], INK.stroke_width(2)))?;
        if (0..8).contains(&(x - text_from)) {
            text_from = x;
        }
    }
    write(root, &bar.text, (text_from + 6, middle), 12, INK, HPos::Left)?;
    Ok(())
}

fn write<'a>(
    root: &Area<'a>,
    text: &str,
    at: (i32, i32),
    size: i32,
    color: RGBColor,
    side: HPos,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let style = ("sans-serif", size).into_font().color(&color).pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn curves(path: &Path, title: &str, curves: &Curves) -> anyhow::Result<()> {
    let points = || curves.series.iter().flat_map(|series| &series.points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let (right, top) = (most(|p| p.0) * 1.02, most(|p| p.1) * 1.05);
    let root = SVGBackend::new(path, (WIDTH, 540)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error + '_>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18).into_font().color(&INK))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right.max(1.0), 0.0..top.max(f64::MIN_POSITIVE))?;
        chart
            .configure_mesh()
            .x_desc(&curves.x)
            .y_desc(&curves.y)
            .axis_style(FAINT)
            .bold_line_style(REFERENCE.mix(0.5))
            .light_line_style(WHITE)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()?;
        for (series, color) in curves.series.iter().zip(LINES.iter().cycle()) {
            let line = chart.draw_series(LineSeries::new(series.points.clone(), color.stroke_width(2)))?;
            line.label(&series.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(series.points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(REFERENCE)
            .label_font(("sans-serif", 13).into_font().color(&INK))
            .draw()?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}
