//! Each verb: what it asks, and how it shows the answer.

use super::fake::{Fake, Ran};
use super::samples;
use ctl::api::AdminState;
use serde::Serialize;
use serde_json::Value;

/// Answers every request with this object.
fn serving(object: &impl Serialize) -> Fake {
    let body = serde_json::to_string(object).unwrap();
    Fake::start(move |_| (200, body.clone()))
}

/// Runs a verb in all formats: the request is `line`, JSON comes as it was, a table contains `words`.
#[track_caller]
fn check(object: &impl Serialize, arguments: &[&str], line: &str, words: &[&str]) -> Ran {
    let fake = serving(object);
    let with = |format| fake.run(&[arguments, &["-o", format]].concat());
    let json = with("json");
    assert_eq!((json.code, json.stderr.as_str()), (0, ""), "{json:?}");
    let expected = serde_json::to_value(object).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap(), expected);
    assert_eq!(json.stdout, format!("{expected:#}\n"), "the order of keys stays");

    let lines: Vec<Value> =
        with("jsonl").stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let items = match &expected {
        Value::Array(items) => items.clone(),
        Value::Object(map) if map.contains_key("flows") => map["flows"].as_array().unwrap().clone(),
        one => vec![one.clone()],
    };
    assert_eq!(lines, items);

    let table = fake.run(arguments);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""), "{table:?}");
    assert!(!table.stdout.contains('\x1b'), "a pipe gets no escape codes");
    assert!(table.stdout.lines().all(|line| line.trim_end() == line), "{}", table.stdout);
    for word in words {
        assert!(table.stdout.contains(word), "{}\nlacks {word:?}", table.stdout);
    }
    assert!(fake.requests().iter().all(|request| request.line == line), "{:?}", fake.requests());
    table
}

#[test]
fn status() {
    let words = [
        "uptime         1d 02:03:04 (pid 4711)",
        "ports          1 of 2 up",
        "services       1 of 1 up",
        "notice: port lan: no RSS",
    ];
    check(&samples::status(), &["status"], "GET /v1/status", &words);
}

#[test]
fn services() {
    let words = ["SERVICE  VIP         PORTS ", "web      192.0.2.10  tcp/80", "1 of 2"];
    check(&vec![samples::service()], &["service"], "GET /v1/services", &words);
}

#[test]
fn one_service() {
    let words = ["web      192.0.2.10", "10.1.0.11:8080", "up (unchecked)", "down ", "  connection refused"];
    check(&samples::service(), &["service", "web"], "GET /v1/services/web", &words);
}

#[test]
fn names_are_encoded() {
    let fake = serving(&samples::service());
    fake.run(&["service", "tcp-2001:db8::1-80"]);
    assert_eq!(fake.requests()[0].line, "GET /v1/services/tcp-2001%3Adb8%3A%3A1-80");
}

#[test]
fn backends() {
    let list = vec![samples::backend("10.1.0.11:8080", AdminState::Draining, 5)];
    check(&list, &["backend"], "GET /v1/backends", &["draining", "10.1.0.11:8080", "up (unchecked)"]);
    check(&list, &["backend", "list"], "GET /v1/backends", &["draining"]);
    check(&list, &["backend", "list", "web"], "GET /v1/backends?service=web", &["draining"]);
}

#[test]
fn changes_of_a_backend() {
    let backend = samples::backend("10.1.0.11:8080", AdminState::Disabled, 5);
    let path = "POST /v1/services/web/backends/10.1.0.11%3A8080";
    for action in ["enable", "disable", "drain"] {
        let line = format!("{path}/{action}");
        check(
            &backend,
            &["backend", action, "web", "10.1.0.11:8080"],
            &line,
            &["disabled", "10.1.0.11:8080"],
        );
    }
    let arguments = ["backend", "set-weight", "web", "10.1.0.11:8080", "50"];
    check(&backend, &arguments, &format!("{path}/weight"), &["disabled"]);
    let fake = serving(&backend);
    fake.run(&arguments);
    fake.run(&["backend", "drain", "web", "10.1.0.11:8080", "--deadline", "5m"]);
    fake.run(&["backend", "drain", "web", "10.1.0.11:8080"]);
    let bodies: Vec<_> = fake.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [r#"{"weight":50}"#, r#"{"deadline_seconds":300.0}"#, "{}"]);
}

#[test]
fn an_ipv6_backend() {
    let backend = samples::backend("[2001:db8::1]:80", AdminState::Enabled, 0);
    let line = "POST /v1/services/web/backends/%5B2001%3Adb8%3A%3A1%5D%3A80/enable";
    check(&backend, &["backend", "enable", "web", "[2001:db8::1]:80"], line, &["[2001:db8::1]:80"]);
}

#[test]
fn flows() {
    let line = "GET /v1/flows?limit=100";
    let words = ["198.51.100.7:40000", "established", "12.3", "7440.0", "There are more"];
    check(&samples::flows(), &["flow"], line, &words);
    let fake = serving(&samples::flows());
    fake.run(&[
        "flow",
        "--service",
        "web",
        "--backend",
        "10.1.0.11:8080",
        "--client",
        "198.51.100.0/24",
        "--limit",
        "5",
    ]);
    assert_eq!(
        fake.requests()[0].line,
        "GET /v1/flows?service=web&backend=10.1.0.11%3A8080&client=198.51.100.0%2F24&limit=5"
    );
}

#[test]
fn workers() {
    let words = ["BUSY [%]", "87.5", "25.0", "1.0", "MEMORY [MiB]", "128"];
    check(&samples::workers(), &["worker"], "GET /v1/workers", &words);
}

#[test]
fn ports() {
    let words = [
        "net_af_packet",
        "02:00:00:00:00:01",
        "wan: net_af_packet0,iface=eth1 (net_af_packet), 02:00:00:00:00:01",
        "offloads in use: rx_ipv4_checksum",
        "offloads offered and not used: tx_tcp_checksum",
        "notice: checksums in software",
        "wan.100: net_af_packet0,iface=eth1 (net_af_packet), 02:00:00:00:00:01\n  vlan: 100 on wan\n",
    ];
    check(&samples::ports(), &["port"], "GET /v1/ports", &words);
}

#[test]
fn neighbors() {
    let words = ["AGE [s]", "02:00:00:00:00:09", "reachable", "2001:db8::99", "failed"];
    check(&samples::neighbors(), &["neighbor"], "GET /v1/neighbors", &words);
}

#[test]
fn stats() {
    let words =
        ["generation 3, up 00:00:10", "received", "370", "dropped: no_service", "10.1.0.11:8080", "12.5"];
    let table = check(&samples::stats(), &["stats"], "GET /v1/stats", &words);
    assert!(!table.stdout.contains("bad_checksum"), "drops that never occurred are left out");
}

#[test]
fn stats_have_the_promised_keys() {
    let stats = serde_json::to_value(samples::stats()).unwrap();
    for key in [
        "generation",
        "rx_packets",
        "tx_packets",
        "forwarded_packets",
        "consumed_packets",
        "punted_packets",
        "held_packets",
        "generated_packets",
        "drops",
        "services",
        "workers",
    ] {
        assert!(stats.get(key).is_some(), "{key}");
    }
    let service = &stats["services"][0];
    for key in [
        "name",
        "connections_active",
        "connections_total",
        "packets_in",
        "bytes_in",
        "packets_out",
        "bytes_out",
    ] {
        assert!(service.get(key).is_some(), "{key}");
    }
    let backend = &service["backends"][0];
    for key in ["connections_active", "connections_total", "packets_in", "bytes_in"] {
        assert!(backend.get(key).is_some(), "{key}");
    }
    assert_eq!(backend["address"], "10.1.0.11:8080");
    assert_eq!((&backend["admin"], &backend["health"]), (&"enabled".into(), &"up".into()));
    assert_eq!((&backend["weight"], &backend["health_checked"]), (&100.into(), &false.into()));
    for key in ["cpu", "rx_packets", "tx_packets", "busy_ratio", "connections_active", "handoffs"] {
        assert!(stats["workers"][0].get(key).is_some(), "{key}");
    }
}

#[test]
fn keys_of_a_newer_daemon_are_shown_and_do_no_harm() {
    let mut status = serde_json::to_value(samples::status()).unwrap();
    status["a_new_key"] = 5.into();
    check(&status, &["status"], "GET /v1/status", &["1 of 2 up"]);
}
