//! `explain`: what is asked, how it is shown, and what nothing takes.

use super::fake::Fake;

const TOLD: &str = r#"{
  "protocol": "tcp", "source": "198.51.100.7:40000", "destination": "192.0.2.10:80", "outcome": "forwarded",
  "service": {"name": "web", "vip": "192.0.2.10", "ports": "80", "mode": "dsr", "tunnel": "gue",
    "scheduler": "maglev", "affinity": "none", "candidates": 2, "panic": false},
  "worker": {"cpu": 3, "why": "by a secret hash"},
  "backend": {"address": "10.1.0.11", "admin": "enabled", "health": "up", "weight": 100, "why": "Maglev: so it is",
    "stable": true},
  "next_hop": {"port": "lan", "address": "10.1.0.254", "mac": "02:00:00:00:00:0b", "state": "reachable"},
  "packet": {"port": "lan", "vlan": 200, "source_mac": "02:00:00:00:00:01", "destination_mac": "02:00:00:00:00:0b",
    "source": "198.51.100.7:40000", "destination": "192.0.2.10:80",
    "tunnel": {"kind": "gue", "source": "10.1.0.1:55000", "destination": "10.1.0.11:6080", "overhead_bytes": 28}},
  "notes": ["a note"]
}"#;

#[test]
fn every_fact_has_its_line() {
    let fake = Fake::start(|_| (200, TOLD.into()));
    let ran = fake.run(&["explain", "tcp", "198.51.100.7:40000", "192.0.2.10:80"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for words in [
        "packet     tcp 198.51.100.7:40000 -> 192.0.2.10:80",
        "outcome    forwarded",
        "service    web (192.0.2.10 port 80, dsr through gue)",
        "scheduler  maglev over 2 backends",
        "worker     CPU 3: by a secret hash",
        "backend    10.1.0.11 (enabled, up, weight 100)",
        "next hop   10.1.0.254 on port lan: 02:00:00:00:00:0b (reachable)",
        "leaves     by port lan tagged 200, 02:00:00:00:00:01 -> 02:00:00:00:00:0b",
        "in         gue 10.1.0.1:55000 -> 10.1.0.11:6080 (+28 bytes)",
        "note: a note",
    ] {
        assert!(ran.stdout.contains(words), "{}\nlacks {words:?}", ran.stdout);
    }
    let wanted = "GET /v1/explain?protocol=tcp&source=198.51.100.7%3A40000&destination=192.0.2.10%3A80";
    assert!(fake.requests().iter().all(|request| request.line == wanted), "{:?}", fake.requests());
}

#[test]
fn what_nothing_takes_is_not_found() {
    let miss = r#"{"error": "the packet is dropped (no_service)", "reason": "VIP 192.0.2.10 exists", "remedy": "x"}"#;
    let fake = Fake::start(move |_| (404, miss.into()));
    let ran = fake.run(&["explain", "tcp", "198.51.100.7:40000", "192.0.2.10:81"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("why: VIP 192.0.2.10 exists"), "{}", ran.stderr);
    assert_eq!(fake.run(&["explain", "sctp", "198.51.100.7:40000", "192.0.2.10:81"]).code, 2);
    assert_eq!(fake.run(&["explain", "tcp", "198.51.100.7", "192.0.2.10:81"]).code, 2);
}
