//! What the fuzzers found worth keeping (`fuzz/corpus`), and what they once broke, as ordinary tests.

mod bed;
#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/parser.rs"]
mod parser;
#[path = "../../fuzz/checks/pipeline/mod.rs"]
mod pipeline;
#[path = "../../fuzz/checks/plain.rs"]
mod plain;

use std::path::Path;

/// Every input of a target, in the order of their names.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} inputs in {}", files.len(), folder.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| check(&input)) {
            eprintln!("the input is {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn parser_inputs() {
    replay("parser", parser::check);
}

#[test]
fn pipeline_inputs() {
    replay("pipeline", pipeline::check);
}

#[test]
fn config_inputs() {
    replay("config", config::check);
}
