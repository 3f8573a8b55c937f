//! `backend drain --wait`

use super::fake::{Fake, Request};
use super::samples::backend;
use ctl::api::AdminState::{self, Draining, Enabled};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers the drain, then one state for each look; the last one stays.
fn draining(looks: &'static [(AdminState, u64)]) -> Fake {
    let count = AtomicUsize::new(0);
    Fake::start(move |request: &Request| {
        let json = if request.line.starts_with("POST") {
            serde_json::to_string(&backend("10.1.0.11:8080", Draining, 9))
        } else {
            let (admin, left) = looks[count.fetch_add(1, Ordering::Relaxed).min(looks.len() - 1)];
            serde_json::to_string(&[
                backend("10.1.0.12:8080", Enabled, 4),
                backend("10.1.0.11:8080", admin, left),
            ])
        };
        (200, json.unwrap())
    })
}

const DRAIN: [&str; 5] = ["backend", "drain", "web", "10.1.0.11:8080", "--wait"];

#[test]
fn it_ends_when_no_connection_is_left() {
    let fake = draining(&[(Draining, 5), (Draining, 5), (Draining, 0)]);
    let ran = fake.run(&[&DRAIN[..], &["--deadline", "1m"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stderr,
        "web 10.1.0.11:8080: 5 connections left\nweb 10.1.0.11:8080: 0 connections left\n"
    );
    assert!(ran.stdout.contains("draining"), "{ran:?}");
    assert_eq!(fake.requests()[0].body, r#"{"deadline_seconds":60.0}"#);
}

#[test]
fn json_is_the_last_state_alone() {
    let ran = draining(&[(Draining, 0)]).run(&[&DRAIN[..], &["-o", "json"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let state: ctl::api::Backend = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((state.address.as_str(), state.connections_active), ("10.1.0.11:8080", 0));
}

#[test]
fn the_deadline_exits_with_5() {
    let ran = draining(&[(Draining, 5)]).run(&[&DRAIN[..], &["--deadline", "300ms"]].concat());
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("10.1.0.11:8080 is not drained at its deadline"), "{ran:?}");
    assert!(ran.stderr.contains("why: 5 connections are left"), "{ran:?}");
}

#[test]
fn someone_calls_it_off() {
    let ran = draining(&[(Draining, 5), (Enabled, 5)]).run(&DRAIN);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("was called off"), "{ran:?}");
}

#[test]
fn the_backend_goes_away() {
    let fake = Fake::start(|request| {
        let drained = serde_json::to_string(&backend("10.1.0.11:8080", Draining, 9)).unwrap();
        (200, if request.line.starts_with("POST") { drained } else { "[]".into() })
    });
    let ran = fake.run(&DRAIN);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("10.1.0.11:8080 is gone"), "{ran:?}");
}

#[test]
fn the_deadline_with_reset_is_an_end() {
    let fake = draining(&[(Draining, 5), (Draining, 5), (Draining, 5), (AdminState::Disabled, 0)]);
    let ran = fake.run(&[&DRAIN[..], &["--deadline", "300ms", "--then", "reset"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fake.requests()[0].body, r#"{"deadline_seconds":0.3,"then":"reset"}"#);
}

#[test]
fn a_reset_needs_a_deadline() {
    for wrong in [&["--then", "reset"][..], &["--deadline", "1s", "--then", "explode"]] {
        let fake = draining(&[(Draining, 5)]);
        let ran = fake.run(&[&DRAIN[..], wrong].concat());
        assert_eq!((ran.code, fake.requests().len()), (2, 0), "{ran:?}");
    }
}

#[test]
fn json_lines_are_the_states_on_the_way() {
    let ran = draining(&[(Draining, 5), (Draining, 5), (Draining, 0)])
        .run(&[&DRAIN[..], &["-o", "jsonl"]].concat());
    let left: Vec<u64> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<ctl::api::Backend>(line).unwrap().connections_active)
        .collect();
    assert_eq!((ran.code, ran.stderr.as_str(), left), (0, "", vec![5, 0]));
}
