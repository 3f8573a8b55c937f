//! Health checks over the whole of the control plane: a backend that answers echo requests, or does not.

use super::daemon::{Daemon, PORT_MAC, config, eventually};
use dataplane::wire::ethernet::Mac;
use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};
use std::time::{Duration, Instant};

const CHECKED: &str =
    "[service.health]\ntype = \"icmp\"\ninterval = \"60ms\"\ntimeout = \"40ms\"\nrise = 2\nfall = 2\n";

/// The configuration with a check of the service `web`.
fn checked(health: &str) -> String {
    config("").replacen("[[service.backend]]", &format!("{health}[[service.backend]]"), 1)
}

/// Hosts on the link that answer for some backends, until `done` says so.
fn answer(daemon: &Daemon, alive: &[u8], mut done: impl FnMut() -> bool) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut answered = 0;
    while !done() {
        assert!(Instant::now() < deadline, "never: {}", daemon.get("/v1/services/web").body);
        for wire in &daemon.wires {
            while let Some(frame) = wire.receive() {
                answered += u64::from(reply(daemon, alive, &frame));
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    answered
}

/// Answers one frame, if it is for somebody who is there. Returns whether it was a check.
fn reply(daemon: &Daemon, alive: &[u8], frame: &[u8]) -> bool {
    // ARP for one of them.
    if frame[12..14] == [8, 6] && frame[21] == 1 && alive.contains(&frame[41]) {
        daemon.arp_reply([10, 1, 0, frame[41]], Mac([2, 0, 0, 0, 0, frame[41]]));
    }
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { return false };
    let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else { return false };
    let to = &frame[30..34];
    if !alive.contains(&to[3]) {
        return false;
    }
    assert_eq!(
        (&frame[..6], &frame[6..12]),
        (&[2, 0, 0, 0, 0, to[3]][..], &PORT_MAC.0[..]),
        "to its next hop"
    );
    assert!(echo.id >= dataplane::flow::FIRST_PROBE_PORT);
    assert_eq!(frame[26..30], [10, 1, 0, 1], "from the port's address");
    let mut answer = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, to[3]], PORT_MAC.0)
        .ipv4(to.try_into().unwrap(), [10, 1, 0, 1], 64)
        .icmpv4_echo_reply(echo.id, echo.seq)
        .write(&mut answer, icmp.payload())
        .unwrap();
    // By whichever worker: the second one here.
    daemon.wires[1].send(&answer);
    true
}

fn backend(daemon: &Daemon, last: u8) -> serde_json::Value {
    let address = format!("10.1.0.{last}:8080");
    let service = daemon.get("/v1/services/web").json();
    let backends = service["backends"].as_array().unwrap().clone();
    backends.into_iter().find(|one| one["address"] == *address).unwrap_or_default()
}

/// `up`, or `down: ` and why.
fn health(daemon: &Daemon, last: u8) -> String {
    let backend = backend(daemon, last);
    match backend["health"].as_str() {
        Some("down") => format!("down: {}", backend["health_detail"].as_str().unwrap_or_default()),
        Some(state) if backend["health_detail"] == "" => state.to_owned(),
        Some(state) => format!("{state}: {}", backend["health_detail"].as_str().unwrap_or_default()),
        None => "gone".into(),
    }
}

#[test]
fn who_answers_is_up_and_who_stops_is_down() {
    let daemon = Daemon::start(&checked(CHECKED));
    let both = |one: &str, two: &str| health(&daemon, 11) == one && health(&daemon, 12) == two;
    // Nothing is known of anybody: all are used.
    assert_eq!(backend(&daemon, 11)["health_checked"], true);
    assert_eq!(backend(&daemon, 11)["health"], "up");
    answer(&daemon, &[11], || both("up", "down: 10.1.0.12 does not answer ARP"));
    answer(&daemon, &[11, 12], || both("up", "up"));
    assert!(backend(&daemon, 12)["health_check_seconds"].as_f64().unwrap() < 0.04);
    let generation = daemon.get("/v1/stats").json()["generation"].as_u64().unwrap();
    answer(&daemon, &[11], || both("up", "down: timeout after 40ms"));
    eventually("workers know", || daemon.get("/v1/stats").json()["generation"].as_u64() > Some(generation));
    let status = daemon.get("/v1/status").json();
    assert_eq!((&status["backends"], &status["backends_up"]), (&2.into(), &1.into()));
    assert!(
        daemon
            .get("/metrics")
            .body
            .contains("sluice_backend_up{service=\"web\",backend=\"10.1.0.12:8080\"} 0")
    );
    // Nobody answers: all are used, and that is said.
    answer(&daemon, &[], || both("down: timeout after 40ms", "down: timeout after 40ms"));
    assert_eq!(daemon.get("/v1/services/web").json()["panic"], true);
    let notice = daemon.get("/v1/status").json()["notices"].to_string();
    assert!(
        notice.contains("0 of 2 backends are up, less than panic_threshold = 1 %, so all are used"),
        "{notice}"
    );
    answer(&daemon, &[11, 12], || both("up", "up"));
    assert_eq!(daemon.get("/v1/services/web").json()["panic"], false);
    let stats = daemon.get("/v1/stats").json();
    assert_eq!(stats["drops"]["probe_queue_full"], 0);
}

#[test]
fn a_reload_disturbs_only_what_it_touches() {
    let text = checked(CHECKED);
    let daemon = Daemon::start(&text);
    let both = |one: &str, two: &str| health(&daemon, 11) == one && health(&daemon, 12) == two;
    answer(&daemon, &[11], || both("up", "down: 10.1.0.12 does not answer ARP"));
    let since = backend(&daemon, 11)["health_since_seconds"].as_f64().unwrap();
    // Another backend: it waits until a check has passed.
    let third = "[[service.backend]]\naddress = \"10.1.0.13:8080\"\n";
    assert_eq!(daemon.apply(&format!("{text}{third}")).code, 200);
    assert!(health(&daemon, 13).starts_with("down: "), "{}", health(&daemon, 13));
    assert!(both("up", "down: 10.1.0.12 does not answer ARP"));
    answer(&daemon, &[11, 13], || health(&daemon, 13) == "up");
    assert!(backend(&daemon, 11)["health_since_seconds"].as_f64().unwrap() > since);
    // Another check keeps the verdicts, a file that cannot be read refuses the whole.
    let other =
        text.replace("\"icmp\"", "\"https\"\nport = 443\ntls_verify = true\ntls_ca = \"/nowhere.pem\"");
    let refused = daemon.apply(&other);
    assert_eq!(refused.code, 422, "{}", refused.body);
    assert!(refused.body.contains("/nowhere.pem cannot be read"), "{}", refused.body);
    // Without a check nothing is against anybody.
    assert_eq!(daemon.apply(&config("")).code, 200);
    assert!(both("up: unchecked", "up: unchecked"));
    assert_eq!(backend(&daemon, 11)["health_checked"], false);
}

#[test]
fn nobody_to_ask_from_is_said() {
    let text = checked(CHECKED)
        .replace("\"10.1.0.12:8080\"", "\"10.9.0.12:8080\"")
        .replace("to = \"0.0.0.0/0\"", "to = \"10.8.0.0/16\"");
    let daemon = Daemon::start(&text);
    eventually("no route", || {
        let service = daemon.get("/v1/services/web").json();
        service["backends"][1]["health_detail"] == "no route to 10.9.0.12"
    });
}
