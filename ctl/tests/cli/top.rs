//! `top` without a terminal. With one, it is tested in scripts/net/top.sh.

use super::fake::Fake;
use super::samples;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// A daemon whose time and packets go on by half a second and 50 packets a reading.
fn running() -> Fake {
    let turn = AtomicU64::new(0);
    Fake::start(move |request| {
        let body = match request.line.as_str() {
            "GET /v1/status" => serde_json::to_string(&samples::status()),
            "GET /v1/workers" => serde_json::to_string(&samples::workers()),
            "GET /v1/ports" => serde_json::to_string(&samples::ports()),
            "GET /v1/stats" => {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                let mut stats = samples::stats();
                stats.uptime_seconds += turn as f64 / 2.0;
                stats.services[0].packets_in += 50 * turn;
                *stats.drops.get_mut("no_service").unwrap() += turn;
                serde_json::to_string(&stats)
            }
            other => panic!("{other}"),
        };
        (200, body.unwrap())
    })
}

#[test]
fn one_sample_as_json_has_units_in_its_keys() {
    for arguments in [&["-o", "json", "top"][..], &["-o", "json", "top", "--once"]] {
        let fake = running();
        let ran = fake.run(&[arguments, &["--interval", "100ms"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        let sample: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(sample["interval_seconds"], 0.5);
        assert_eq!(sample["services"][0]["packets_in_per_second"], 100.0);
        assert_eq!(sample["backends"][0]["address"], "10.1.0.11:8080");
        assert_eq!(sample["workers"][0]["busy_ratio"], 0.875);
        assert_eq!(sample["drops"][0]["packets_per_second"], 2.0);
        assert_eq!(sample["ports"][0]["link"], "up");
        assert_eq!(fake.requests().len(), 8);
    }
}

#[test]
fn one_sample_as_tables() {
    let ran = running().run(&["top", "--once", "--interval", "100ms"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(!ran.stdout.contains('\x1b'));
    for words in ["SERVICE  ENDPOINT", "web      tcp 192.0.2.10:80  1 of 1", "no_service", "unchecked", "wan"]
    {
        assert!(ran.stdout.contains(words), "{}\nlacks {words:?}", ran.stdout);
    }
    let filtered = running().run(&["top", "--once", "--interval", "100ms", "--filter", "SERVICE"]);
    assert!(filtered.stdout.starts_with("REASON"), "{filtered:?}");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let fake = running();
    let ran = fake.run(&["top"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("needs a terminal") && ran.stderr.contains("--once"), "{ran:?}");
    assert_eq!(fake.requests(), []);
    for interval in ["0s", "99ms", "2h", "soon"] {
        assert_eq!(fake.run(&["top", "--once", "--interval", interval]).code, 2);
    }
}

#[test]
fn an_absent_daemon_is_a_failure_without_a_terminal() {
    let ran = super::fake::run(std::path::Path::new("/nonexistent/sock"), &["top", "--once"]);
    assert_eq!(ran.code, 3, "{ran:?}");
}
