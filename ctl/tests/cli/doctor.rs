//! `sluicectl doctor`, with a daemon and without.

use super::fake::{Fake, run};
use ctl::api::{Diagnosis, Finding, Level};
use std::path::Path;

fn finding(level: Level, check: &str) -> Finding {
    let (why, remedy) =
        if level == Level::Ok { ("", "") } else { ("packets are lost", "sysctl -w vm.nr_hugepages=800") };
    Finding {
        check: check.into(),
        level,
        subject: "machine".into(),
        what: format!("{check} was found"),
        why: why.into(),
        remedy: remedy.into(),
    }
}

fn daemon(findings: Vec<Finding>) -> Fake {
    let diagnosis = Diagnosis::new(true, findings);
    Fake::start(move |request| {
        assert_eq!(request.line, "GET /v1/doctor");
        (200, serde_json::to_string(&diagnosis).unwrap())
    })
}

#[test]
fn a_problem_is_1_and_comes_first() {
    let fake = daemon(vec![
        finding(Level::Ok, "clock"),
        finding(Level::Note, "smt"),
        finding(Level::Problem, "hugepages"),
    ]);
    let ran = fake.run(&["doctor"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(lines[1].starts_with("problem  hugepages"), "{ran:?}");
    assert!(ran.stdout.contains("  why: packets are lost\n  do: sysctl -w vm.nr_hugepages=800\n"), "{ran:?}");
    assert!(!ran.stdout.contains("clock"), "what is all right is shown with --all: {ran:?}");
    assert!(
        ran.stdout.ends_with("1 problems, 0 warnings, 1 checks all right, seen by the daemon\n"),
        "{ran:?}"
    );
    assert!(fake.run(&["doctor", "--all"]).stdout.contains("clock was found"));
}

#[test]
fn warnings_are_0() {
    let fake = daemon(vec![finding(Level::Warning, "isolation")]);
    assert_eq!(fake.run(&["doctor"]).code, 0);
    let json: serde_json::Value = serde_json::from_str(&fake.run(&["-o", "json", "doctor"]).stdout).unwrap();
    assert_eq!(json["problems"], 0);
    assert_eq!(json["warnings"], 1);
    assert_eq!(json["daemon"], true);
    let one = &json["findings"][0];
    assert_eq!(one["check"], "isolation");
    assert_eq!(one["level"], "warning");
    assert_eq!(one["subject"], "machine");
    for key in ["what", "why", "remedy"] {
        assert!(one[key].is_string(), "{one}");
    }
    let lines = fake.run(&["-o", "jsonl", "doctor"]).stdout;
    assert_eq!(lines.lines().count(), 1, "a finding a line: {lines}");
}

#[test]
fn without_a_daemon_it_looks_by_itself() {
    let ran = run(Path::new("/nonexistent/sock"), &["-o", "json", "doctor"]);
    let seen: Diagnosis = serde_json::from_str(&ran.stdout).unwrap();
    assert!(!seen.daemon && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(ran.code, i32::from(seen.problems > 0));
    for check in ["daemon", "clock", "cpu_features"] {
        assert!(seen.findings.iter().any(|finding| finding.check == check), "{check}: {ran:?}");
    }
}

#[test]
fn a_file_says_what_to_look_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let wanted = "[[port]]\nname = \"wan\"\ndevice = \"0000:ff:1f.7\"\naddresses = [\"10.0.0.2/24\"]\n";
    std::fs::write(&file, wanted).unwrap();
    let nowhere = Path::new("/nonexistent/sock");
    let ran = run(nowhere, &["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("there is no PCI device 0000:ff:1f.7"), "{ran:?}");
    std::fs::write(&file, "x = 1").unwrap();
    let ran = run(nowhere, &["doctor", "--config", file.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("the key \"x\" is not known"), "{ran:?}");
}
