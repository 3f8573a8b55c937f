//! What happens is told: in order, to those who wait, and to a bounded number of them.

use super::daemon::{Daemon, config, eventually};
use ctl::api::{EventKind, Events};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn events(daemon: &Daemon, since: u64) -> Events {
    serde_json::from_value(daemon.get(&format!("/v1/events?since={since}")).json()).unwrap()
}

fn kinds(daemon: &Daemon, since: u64) -> Vec<EventKind> {
    events(daemon, since).events.iter().map(|event| event.kind).collect()
}

#[test]
fn what_operators_do_is_told() {
    let daemon = Daemon::start(&config(""));
    let mut since = events(&daemon, 0).last;
    let mut told = |kind: EventKind, words: &str| {
        let mut found = None;
        eventually(words, || {
            let list = events(&daemon, since).events;
            found = list.into_iter().find(|event| event.kind == kind && event.message.contains(words));
            found.is_some()
        });
        let event = found.unwrap();
        since = event.number;
        event
    };
    let act = |action: &str, body: &str| {
        let path = format!("/v1/services/web/backends/10.1.0.11:8080/{action}");
        assert_eq!(daemon.post(&path, "application/json", body).code, 200);
    };
    act("weight", "{\"weight\": 7}");
    let event = told(EventKind::BackendChanged, "is of weight 7 now");
    assert_eq!((event.service.as_deref(), event.backend.as_deref()), (Some("web"), Some("10.1.0.11:8080")));
    act("disable", "");
    told(EventKind::BackendChanged, "is disabled now");
    act("enable", "");
    told(EventKind::BackendChanged, "is enabled now");
    act("drain", "");
    told(EventKind::DrainBegun, "is draining now");
    told(EventKind::DrainEnded, "backend 10.1.0.11:8080 of service \"web\" is drained");
    assert_eq!(daemon.apply("[").code, 422);
    told(EventKind::ConfigRefused, "was not applied and nothing was changed");
    assert_eq!(daemon.apply(&config("")).code, 200);
    told(EventKind::ConfigApplied, "applied as generation");
    // Nobody is at the other end of the wire.
    let lost = told(EventKind::NeighborLost, "10.1.0.12 on port lan does not answer");
    assert_eq!(lost.neighbor.as_deref(), Some("10.1.0.12"));
}

#[test]
fn panic_begins_and_ends_once() {
    let check = "[service.health]\ntype = \"icmp\"\ninterval = \"50ms\"\ntimeout = \"40ms\"\nfall = 1\n";
    let checked = config("").replacen("[[service.backend]]", &format!("{check}[[service.backend]]"), 1);
    let daemon = Daemon::start(&checked);
    eventually("panic", || kinds(&daemon, 0).contains(&EventKind::PanicBegun));
    let down = kinds(&daemon, 0).iter().filter(|kind| **kind == EventKind::HealthDown).count();
    assert_eq!(down, 2);
    assert_eq!(daemon.apply(&config("")).code, 200);
    let all = kinds(&daemon, 0);
    let count = |wanted| all.iter().filter(|kind| **kind == wanted).count();
    assert_eq!((count(EventKind::PanicBegun), count(EventKind::PanicEnded)), (1, 1), "{all:?}");
}

#[test]
fn who_waits_is_answered_when_something_happens() {
    let daemon = Daemon::start(&config(""));
    // Until nothing is left to say about the neighbours.
    let mut last = 0;
    eventually("quiet", || {
        std::thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, events(&daemon, 0).last);
        before == last
    });
    let ask = || {
        let mut stream = daemon.connect();
        let request = format!(
            "GET /v1/events?since={last}&follow=true HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..16).map(|_| ask()).collect();
    eventually("one too many is refused", || {
        let mut stream = daemon.connect();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let request = format!(
            "GET /v1/events?since={last}&follow=true HTTP/1.1\r\nConnection: close\r\nHost: s\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 429")
    });
    // Others are served meanwhile.
    let begun = Instant::now();
    assert_eq!(daemon.get("/v1/status").code, 200);
    assert_eq!(daemon.post("/v1/services/web/backends/10.1.0.12:8080/disable", "", "").code, 200);
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("is disabled now"), "{answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(12));
    assert_eq!(daemon.get("/v1/events?since=minus").code, 400);
}
