//! A sample as tables: columns, cells, what is sorted how, and what a filter leaves.

use super::model::{BackendRow, DropRow, PortRow, Sample, ServiceRow, Traffic, WorkerRow};
use crate::api::Link;
use crate::cli::output::Tone;
use std::cmp::Ordering;

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Services,
    Backends,
    Workers,
    Drops,
    Ports,
}

impl View {
    pub(super) const ALL: [Self; 5] =
        [Self::Services, Self::Backends, Self::Workers, Self::Drops, Self::Ports];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Backends => "backends",
            Self::Workers => "workers",
            Self::Drops => "drops",
            Self::Ports => "ports",
        }
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Services => SERVICES,
            Self::Backends => BACKENDS,
            Self::Workers => WORKERS,
            Self::Drops => DROPS,
            Self::Ports => PORTS,
        }
    }

    /// The busiest first, but workers and ports by their names.
    pub(super) const fn usual_sort(self) -> Sort {
        match self {
            Self::Services => Sort { column: 5, descending: true },
            Self::Backends => Sort { column: 6, descending: true },
            Self::Drops => Sort { column: 1, descending: true },
            Self::Workers | Self::Ports => Sort { column: 0, descending: false },
        }
    }

    pub(super) fn following(self, step: usize) -> Self {
        let at = self as usize + step;
        Self::ALL[at % Self::ALL.len()]
    }
}

/// A column, and how soon it goes when there is no room: the highest rank first, 0 never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) rank: u8,
    pub(super) number: bool,
}

const fn words(title: &'static str, rank: u8) -> Column {
    Column { title, rank, number: false }
}

const fn number(title: &'static str, rank: u8) -> Column {
    Column { title, rank, number: true }
}

const SERVICES: &[Column] = &[
    words("SERVICE", 0),
    words("ENDPOINT", 6),
    words("UP", 2),
    number("ACTIVE", 2),
    number("NEW/s", 3),
    number("IN pkt/s", 1),
    number("IN bit/s", 4),
    number("OUT pkt/s", 7),
    number("OUT bit/s", 5),
];
const BACKENDS: &[Column] = &[
    words("BACKEND", 0),
    words("SERVICE", 4),
    words("STATE", 1),
    number("WEIGHT", 7),
    number("ACTIVE", 2),
    number("NEW/s", 3),
    number("IN pkt/s", 1),
    number("IN bit/s", 5),
    number("OUT pkt/s", 8),
    number("OUT bit/s", 6),
    words("WHY", 9),
];
const WORKERS: &[Column] = &[
    number("CPU", 0),
    number("BUSY %", 0),
    number("RX pkt/s", 1),
    number("TX pkt/s", 2),
    number("DROPS/s", 2),
    number("ACTIVE", 3),
    number("NEW/s", 3),
    number("TABLE %", 5),
    number("HANDOFFS/s", 4),
    number("TAKEN/s", 6),
    number("EVICTED/s", 7),
];
const DROPS: &[Column] =
    &[words("REASON", 0), number("DROPS/s", 0), number("OF RX %", 2), number("TOTAL", 1)];
const PORTS: &[Column] = &[
    words("PORT", 0),
    words("LINK", 1),
    number("RX pkt/s", 1),
    number("RX bit/s", 3),
    number("TX pkt/s", 2),
    number("TX bit/s", 4),
    number("MISSED/s", 2),
    number("ERRORS/s", 5),
];

/// A cell: what it says and what it is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    State(String, Tone),
    Count(u64),
    /// A rate; `None` is not known yet.
    Rate(Option<f64>),
    /// A share, and from which on it deserves attention.
    Percent(Option<f64>, f64),
    /// A rate that should be nothing.
    Loss(Option<f64>),
}

impl Value {
    pub(super) fn show(&self) -> String {
        match self {
            Self::Text(text) | Self::State(text, _) => text.clone(),
            Self::Count(count) => short(*count as f64),
            Self::Rate(None) | Self::Loss(None) | Self::Percent(None, _) => "-".into(),
            Self::Rate(Some(rate)) | Self::Loss(Some(rate)) => short(*rate),
            Self::Percent(Some(ratio), _) => format!("{:.1}", ratio * 100.0),
        }
    }

    pub(super) fn tone(&self) -> Option<Tone> {
        match self {
            Self::State(_, tone) => Some(*tone),
            Self::Loss(Some(rate)) if *rate > 0.0 => Some(Tone::Care),
            Self::Percent(Some(ratio), care) if ratio >= care => Some(Tone::Care),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(_) | Self::State(..) => None,
            Self::Count(count) => Some(*count as f64),
            Self::Rate(number) | Self::Loss(number) | Self::Percent(number, _) => *number,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one) | Self::State(one, _), Self::Text(two) | Self::State(two, _)) => one.cmp(two),
            // What is not known is less than nothing.
            _ => self.number().unwrap_or(-1.0).total_cmp(&other.number().unwrap_or(-1.0)),
        }
    }
}

/// Three digits and a unit of thousands: `0`, `0.5`, `12`, `1.23k`, `45.6M`.
pub(super) fn short(number: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if number < 9.95 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let (mut number, mut unit) = (number, 0);
    // 999.5 is a thousand in three digits.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    let digits = match number {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", UNITS[unit])
}

pub(super) type Row = Vec<Value>;

/// By which column, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    pub(super) descending: bool,
}

impl Sort {
    /// Numbers begin with the largest, words with the first of the alphabet.
    pub(super) fn by(view: View, column: usize) -> Self {
        Self { column, descending: view.columns()[column].number }
    }
}

/// The rows of a view in the order of the configuration.
pub(super) fn rows(sample: &Sample, view: View) -> Vec<Row> {
    match view {
        View::Services => sample.services.iter().map(service).collect(),
        View::Backends => sample.backends.iter().map(backend).collect(),
        View::Workers => sample.workers.iter().map(worker).collect(),
        View::Drops => sample.drops.iter().map(drops).collect(),
        View::Ports => sample.ports.iter().map(port).collect(),
    }
}

/// The rows with `filter` in one of their words, whatever its case, sorted; equal ones stay as they were.
pub(super) fn arrange(mut rows: Vec<Row>, sort: Sort, filter: &str) -> Vec<Row> {
    let filter = filter.to_lowercase();
    if !filter.is_empty() {
        rows.retain(|row| {
            row.iter().any(|value| match value {
                Value::Text(text) | Value::State(text, _) => text.to_lowercase().contains(&filter),
                _ => false,
            })
        });
    }
    rows.sort_by(|one, two| {
        let order = one[sort.column].order(&two[sort.column]);
        if sort.descending { order.reverse() } else { order }
    });
    rows
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn traffic(traffic: &Traffic) -> [Value; 6] {
    [
        Value::Count(traffic.connections_active),
        Value::Rate(traffic.connections_per_second),
        Value::Rate(traffic.packets_in_per_second),
        Value::Rate(traffic.bits_in_per_second),
        Value::Rate(traffic.packets_out_per_second),
        Value::Rate(traffic.bits_out_per_second),
    ]
}

fn service(row: &ServiceRow) -> Row {
    // A service without backends serves nobody.
    let tone = if row.backends_up == 0 { Tone::Bad } else { Tone::of_share(row.backends_up, row.backends) };
    let up = Value::State(format!("{} of {}", row.backends_up, row.backends), tone);
    [text(&row.name), text(&row.endpoint), up].into_iter().chain(traffic(&row.traffic)).collect()
}

fn backend(row: &BackendRow) -> Row {
    let (state, tone) = row.state();
    let weight = match row.tier {
        0 => Value::Count(row.weight.into()),
        tier => Value::Text(format!("{} (tier {tier})", row.weight)),
    };
    [text(&row.address), text(&row.service), Value::State(state, tone), weight]
        .into_iter()
        .chain(traffic(&row.traffic))
        .chain([text(row.reason())])
        .collect()
}

fn worker(row: &WorkerRow) -> Row {
    vec![
        Value::Count(row.cpu.into()),
        Value::Percent(Some(row.busy_ratio), 0.9),
        Value::Rate(row.rx_packets_per_second),
        Value::Rate(row.tx_packets_per_second),
        Value::Loss(row.drops_per_second),
        Value::Count(row.connections_active),
        Value::Rate(row.connections_per_second),
        Value::Percent(Some(row.table_load_ratio), 0.9),
        Value::Rate(row.handoffs_per_second),
        Value::Rate(row.handoffs_in_per_second),
        Value::Loss(row.evictions_per_second),
    ]
}

fn drops(row: &DropRow) -> Row {
    vec![
        text(&row.reason),
        Value::Loss(row.packets_per_second),
        Value::Percent(row.received_ratio, 0.01),
        Value::Count(row.packets),
    ]
}

fn port(row: &PortRow) -> Row {
    let tone = match row.link {
        Link::Up => Tone::Good,
        Link::Down => Tone::Bad,
        Link::Unknown => Tone::Care,
    };
    vec![
        text(&row.name),
        Value::State(row.link.as_str().into(), tone),
        Value::Rate(row.rx_packets_per_second),
        Value::Rate(row.rx_bits_per_second),
        Value::Rate(row.tx_packets_per_second),
        Value::Rate(row.tx_bits_per_second),
        Value::Loss(row.missed_per_second),
        Value::Loss(row.errors_per_second),
    ]
}
