//! `events`: all at once, and as they happen.

use super::fake::Fake;
use ctl::api::{Event, EventKind, Events};
use std::sync::atomic::{AtomicU64, Ordering};

fn event(number: u64, kind: EventKind, message: &str) -> Event {
    Event {
        number,
        time: "2026-11-26T20:17:03.250Z".into(),
        kind,
        severity: kind.severity(),
        message: message.into(),
        service: Some("web".into()),
        backend: None,
        port: None,
        neighbor: None,
        worker: None,
        summarised: None,
    }
}

fn answer(run: &str, numbers: std::ops::RangeInclusive<u64>, missed: u64) -> String {
    let last = *numbers.end();
    let events = numbers.map(|number| event(number, EventKind::HealthDown, &format!("{run} {number}")));
    let answer = Events { last, missed, run: run.into(), events: events.collect() };
    serde_json::to_string(&answer).unwrap()
}

#[test]
fn all_at_once() {
    let fake = Fake::start(|_| (200, answer("a", 8..=9, 7)));
    let table = fake.run(&["events", "--since", "0"]);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""));
    assert!(
        table.stdout.contains("2026-11-26T20:17:03.250Z       8  warning   health_down  a 8\n"),
        "{}",
        table.stdout
    );
    assert!(table.stdout.ends_with("7 events before these are kept no more.\n"));
    let lines = fake.run(&["events", "-o", "jsonl"]).stdout;
    assert_eq!(lines.lines().count(), 2);
    assert!(fake.requests().iter().all(|request| request.line == "GET /v1/events?since=0&follow=false"));
}

/// Two answers, a restart of the daemon, and its end.
#[test]
fn as_they_happen() {
    let asked = AtomicU64::new(0);
    let fake = Fake::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => (200, answer("a", 4..=5, 3)),
        1 => (200, answer("a", 6..=6, 0)),
        2 => (200, answer("b", 7..=8, 6)),
        3 => (200, answer("b", 1..=8, 0)),
        _ => (503, "{\"error\":\"x\",\"reason\":\"y\",\"remedy\":\"z\"}".into()),
    });
    let ran = fake.run(&["events", "--follow", "-o", "jsonl"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let seen: Vec<String> =
        ran.stdout.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().message).collect();
    assert_eq!(seen, ["a 4", "a 5", "a 6", "b 1", "b 2", "b 3", "b 4", "b 5", "b 6", "b 7", "b 8"]);
    let lines: Vec<String> = fake.requests().into_iter().map(|request| request.line).collect();
    let wanted = [
        "since=0&follow=false",
        "since=5&follow=true",
        "since=6&follow=true",
        "since=0&follow=true",
        "since=8&follow=true",
    ];
    assert_eq!(lines, wanted.map(|query| format!("GET /v1/events?{query}")));
}
