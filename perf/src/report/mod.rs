//! Table and charts of what `perf/run.sh` measured.
//!
//! In: `results.jsonl`, a line for each figure, and `machine.json`, where they were measured. Out, beside them:
//! `results.json` with both, `table.md` with every figure beside its target and reference, and the charts.

mod chart;
mod figure;
mod table;

use anyhow::{Context, ensure};
use clap::Args;
use figure::Figure;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where results.jsonl is, and everything else will be
    directory: PathBuf,
}

/// What `results.json` holds.
#[derive(Debug, Serialize)]
struct Results<'a> {
    #[serde(flatten)]
    machine: &'a Map<String, Value>,
    targets: usize,
    targets_met: usize,
    /// Speeds of the vhost ring's stable states, wherever a benchmark saw one.
    vhost_ring_states: Vec<RingState<'a>>,
    figures: &'a [Figure],
}

#[derive(Debug, Serialize)]
struct RingState<'a> {
    benchmark: &'a str,
    states: &'a Value,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let directory = &options.directory;
    let figures = figures(&directory.join("results.jsonl"))?;
    ensure!(!figures.is_empty(), "{} holds no figure yet", directory.join("results.jsonl").display());
    let machine = machine(&directory.join("machine.json"))?;
    let verdicts = || figures.iter().filter_map(Figure::met);
    let results = Results {
        machine: &machine,
        targets: verdicts().count(),
        targets_met: verdicts().filter(|&met| met).count(),
        vhost_ring_states: ring_states(&figures),
        figures: &figures,
    };
    write(&directory.join("results.json"), &(serde_json::to_string_pretty(&results)? + "\n"))?;
    let charts = chart::draw_all(directory, &figures)?;
    write(&directory.join("table.md"), &table::markdown(&machine, &figures, &charts))
}

/// The lines of a results file. A figure that was measured again replaces the one before.
fn figures(path: &Path) -> anyhow::Result<Vec<Figure>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut figures: Vec<Figure> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let figure: Figure = serde_json::from_str(line)
            .with_context(|| format!("{}:{} is no figure: {line}", path.display(), number + 1))?;
        match figures.iter_mut().find(|earlier| earlier.is_of(&figure)) {
            Some(earlier) => *earlier = figure,
            None => figures.push(figure),
        }
    }
    Ok(figures)
}

/// Where it was measured; nothing is known of it where the file is not there.
fn machine(path: &Path) -> anyhow::Result<Map<String, Value>> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn ring_states(figures: &[Figure]) -> Vec<RingState<'_>> {
    let state = |figure: &'_ Figure| figure.extra.get("ring_states").is_some();
    figures
        .iter()
        .filter(|figure| state(figure))
        .map(|figure| RingState { benchmark: &figure.benchmark, states: &figure.extra["ring_states"] })
        .collect()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"
{"benchmark":"pipeline/nat/v4/1000","figure":"cycles_per_packet","value":61.5,"unit":"cycles/packet","direction":"lower","target":50,"samples":[61,61.5,64],"note":"tried: nothing yet"}
{"benchmark":"link/nat/1000","figure":"throughput_ratio","value":0.5,"unit":"ratio","direction":"higher","target":0.9}
{"benchmark":"link/nat/1000","figure":"throughput_ratio","value":0.93,"unit":"ratio","direction":"higher","target":0.9,"reference":"testpmd macswap","reference_value":15200000,"extra":{"ring_states":{"low":8100000,"high":17900000}}}
{"benchmark":"scaling/model","figure":"speedup","value":60.1,"unit":"workers","direction":"higher","extra":{"curves":{"x":"workers","y":"speedup","series":[{"name":"steered","points":[[1,1],[64,60.1]]}]}}}
"#;

    fn report(lines: &str) -> anyhow::Result<tempfile::TempDir> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("results.jsonl"), lines)?;
        fs::write(directory.path().join("machine.json"), r#"{"commit":"abc1234","cpu_model":"a CPU"}"#)?;
        run(&Options { directory: directory.path().into() })?;
        Ok(directory)
    }

    #[test]
    fn everything_is_written_once() {
        let directory = report(LINES).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let results: Value = serde_json::from_str(&read("results.json")).unwrap();
        assert_eq!(results["commit"], "abc1234");
        assert_eq!((&results["targets"], &results["targets_met"]), (&Value::from(2), &Value::from(1)));
        assert_eq!(results["figures"].as_array().unwrap().len(), 3, "the later figure replaces the earlier");
        assert_eq!(results["vhost_ring_states"][0]["states"]["high"], 17_900_000);
        let table = read("table.md");
        assert!(table.contains("1 of 2 targets met"), "{table}");
        for name in ["targets.svg", "pipeline-cycles-packet.svg", "scaling-model-speedup.svg"] {
            assert!(table.contains(name), "{name} is not in {table}");
            assert!(read(name).contains("</svg>"), "{name} is not finished");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = format!("{:#}", report("\n{\"benchmark\":1}\n").unwrap_err());
        assert!(error.contains("results.jsonl:2 is no figure"), "{error}");
        assert!(format!("{:#}", report("").unwrap_err()).contains("holds no figure"));
    }
}
