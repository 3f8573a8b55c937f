//! One figure of a benchmark: a line of `results.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figure {
    /// What ran, by parts: `link/nat/1000`.
    pub(super) benchmark: String,
    /// What of it: `throughput_ratio`.
    #[serde(rename = "figure")]
    pub(super) name: String,
    /// `None`: it could not be measured.
    pub(super) value: Option<f64>,
    pub(super) unit: String,
    /// Which way is better.
    pub(super) direction: Direction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<f64>,
    /// What was measured beside it, and what that did, in the same unit unless the figure is a ratio to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reference_value: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) extra: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Higher,
    Lower,
}

impl Figure {
    /// The part of the matrix that it belongs to: `link`.
    pub(super) fn part(&self) -> &str {
        self.benchmark.split('/').next().unwrap_or_default()
    }

    /// Whether both are measurements of the same thing.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (&self.benchmark, &self.name) == (&other.benchmark, &other.name)
    }

    /// Whether the target is met; `None` without one. What could not be measured is missed.
    pub(super) fn met(&self) -> Option<bool> {
        self.target.map(|_| self.score().is_some_and(|score| score >= 1.0))
    }

    /// How far from the target: 1 is on it, more is better.
    pub(super) fn score(&self) -> Option<f64> {
        let (value, target) = (self.value?, self.target?);
        match self.direction {
            Direction::Higher => Some(value / target),
            Direction::Lower if value <= 0.0 => Some(f64::INFINITY),
            Direction::Lower => Some(target / value),
        }
    }

    /// Distance of the outermost samples, as a share of the value.
    pub(super) fn spread(&self) -> Option<f64> {
        let least = self.samples.iter().copied().reduce(f64::min)?;
        let most = self.samples.iter().copied().reduce(f64::max)?;
        let value = self.value.filter(|value| *value != 0.0 && self.samples.len() > 1)?;
        Some((most - least) / value.abs())
    }

    /// Whether the reference is in the figure's own unit, and so can stand beside it in a chart.
    pub(super) fn comparable_reference(&self) -> Option<f64> {
        self.reference_value.filter(|_| self.unit != "ratio")
    }
}

/// A number with as many digits as it deserves: `15.2 M`, `73.6 k`, `0.931`, `47.2`.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        _ if magnitude >= 999_500.0 => format!("{} M", digits(value / 1e6)),
        _ if magnitude >= 9_999.5 => format!("{} k", digits(value / 1e3)),
        _ => digits(value),
    }
}

/// Three digits, more before the point if there are more.
fn digits(value: f64) -> String {
    let magnitude = value.abs();
    let places = match magnitude {
        _ if magnitude >= 99.95 => 0,
        _ if magnitude >= 9.995 => 1,
        _ if magnitude >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(direction: Direction, value: f64, target: f64) -> Figure {
        Figure {
            benchmark: "link/nat/1000".into(),
            name: "x".into(),
            value: Some(value),
            unit: "ratio".into(),
            direction,
            target: Some(target),
            reference: None,
            reference_value: None,
            samples: vec![0.5 * value, 1.5 * value],
            note: None,
            extra: Value::Null,
        }
    }

    #[test]
    fn better_depends_on_the_direction() {
        assert_eq!(figure(Direction::Higher, 0.9, 0.9).met(), Some(true));
        assert_eq!(figure(Direction::Higher, 0.89, 0.9).met(), Some(false));
        assert_eq!(figure(Direction::Lower, 50.0, 50.0).met(), Some(true));
        assert_eq!(figure(Direction::Lower, 51.0, 50.0).met(), Some(false));
        assert_eq!(figure(Direction::Lower, 0.0, 50.0).met(), Some(true));
        assert_eq!(Figure { value: None, ..figure(Direction::Lower, 1.0, 5.0) }.met(), Some(false));
        assert_eq!(Figure { target: None, ..figure(Direction::Lower, 1.0, 5.0) }.met(), None);
    }

    #[test]
    fn spread_is_relative() {
        assert_eq!(figure(Direction::Higher, 4.0, 1.0).spread(), Some(1.0));
        assert_eq!(Figure { samples: vec![4.0], ..figure(Direction::Higher, 4.0, 1.0) }.spread(), None);
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (15_234_000.0, "15.2 M"),
            (999_900.0, "1 M"),
            (73_612.0, "73.6 k"),
            (1_234.0, "1234"),
            (0.9312, "0.931"),
            (0.9996, "1"),
            (47.25, "47.2"),
            (100.0, "100"),
            (0.0, "0"),
            (-2.5, "-2.5"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }
}
