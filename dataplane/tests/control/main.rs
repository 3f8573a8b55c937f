//! The control plane over its real socket, with workers on in-memory ports.
#![allow(unreachable_pub, missing_debug_implementations, reason = "a test")]

mod daemon;
mod events;
mod explain;
mod health;
mod safety;
mod status_page;

use daemon::{DNS, Daemon, PORT_MAC, config, eventually};
use dataplane::wire::ethernet::{Ethernet, Mac, ethertype};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn every_path_answers_with_its_type() {
    let daemon = Daemon::start(&config(DNS));
    let status: ctl::api::Status = serde_json::from_value(daemon.get("/v1/status").json()).unwrap();
    assert_eq!((status.generation, status.services, status.backends, status.workers), (1, 2, 3, 2));
    assert_eq!(status.notices, ["a notice"]);
    let _: ctl::api::Stats = serde_json::from_value(daemon.get("/v1/stats").json()).unwrap();
    let services: Vec<ctl::api::Service> = serde_json::from_value(daemon.get("/v1/services").json()).unwrap();
    assert_eq!(services[0].name, "web");
    let _: ctl::api::Service = serde_json::from_value(daemon.get("/v1/services/dns").json()).unwrap();
    let backends: Vec<ctl::api::Backend> =
        serde_json::from_value(daemon.get("/v1/backends?service=web").json()).unwrap();
    assert_eq!(backends.len(), 2);
    let _: Vec<ctl::api::Worker> = serde_json::from_value(daemon.get("/v1/workers").json()).unwrap();
    let ports: Vec<ctl::api::Port> = serde_json::from_value(daemon.get("/v1/ports").json()).unwrap();
    assert_eq!(ports[0].mac, "02:00:00:00:00:01");
    let _: Vec<ctl::api::Neighbor> = serde_json::from_value(daemon.get("/v1/neighbors").json()).unwrap();
    let doctor: ctl::api::Diagnosis = serde_json::from_value(daemon.get("/v1/doctor").json()).unwrap();
    assert!(
        doctor.daemon && doctor.findings.iter().any(|finding| finding.subject == "port lan"),
        "{doctor:?}"
    );
    let _: ctl::api::Flows = serde_json::from_value(daemon.get("/v1/flows").json()).unwrap();
    let export: ctl::api::ConfigExport = serde_json::from_value(daemon.get("/v1/config").json()).unwrap();
    assert_eq!(export.config.services.len(), 2);
    let metrics = daemon.get("/metrics");
    assert_eq!(metrics.code, 200);
    assert!(metrics.body.contains("sluice_backend_weight{service=\"web\",backend=\"10.1.0.11:8080\"} 100"));
    assert!(metrics.body.contains("sluice_drops_total{reason=\"no_service\"}"));
    assert!(metrics.body.trim_end().ends_with("# EOF"));
}

#[test]
fn what_makes_no_sense_gets_a_4xx_in_json() {
    let daemon = Daemon::start(&config(""));
    let long = format!("/v1/{}", "a".repeat(3000));
    for (path, code) in [
        ("/", 404),
        ("/v1/nothing", 404),
        (long.as_str(), 404),
        ("/v1/services/nowhere", 404),
        ("/v1/services/%ff", 400),
        ("/v1/backends?service=nowhere", 404),
        ("/v1/backends?color=blue", 400),
        ("/v1/flows?limit=many", 400),
        ("/v1/flows?backend=10.1.0.99:1", 404),
        ("/v1/services/web/backends/10.1.0.11:8080/enable", 405),
        ("/v1/config/apply", 405),
    ] {
        let answer = daemon.get(path);
        assert_eq!(answer.code, code, "{path}: {}", answer.body);
        let error: ctl::api::ApiError = serde_json::from_value(answer.json()).unwrap();
        assert!(!error.error.is_empty() && !error.reason.is_empty() && !error.remedy.is_empty());
    }
    let place = "/v1/services/web/backends/10.1.0.11:8080";
    for (path, body, code) in [
        ("/v1/stats".to_owned(), "{}", 405),
        (format!("{place}/weight"), "", 400),
        (format!("{place}/weight"), "{\"weight\": 70000}", 400),
        (format!("{place}/weight"), "{\"weight\": 1, \"x\": 1}", 400),
        (format!("{place}/drain"), "{\"deadline_seconds\": -1}", 400),
        ("/v1/services/web/backends/10.1.0.99:80/enable".to_owned(), "", 404),
        ("/v1/services/web/backends/what/enable".to_owned(), "", 404),
        ("/v1/services/nowhere/backends/10.1.0.11:8080/enable".to_owned(), "", 404),
        ("/v1/config/apply".to_owned(), "null", 400),
        ("/v1/config/apply".to_owned(), "{\"file\": \"x\", \"text\": \"x = 1\"}", 422),
    ] {
        let answer = daemon.post(&path, "application/json", body);
        assert_eq!(answer.code, code, "{path} {body}: {}", answer.body);
        assert!(answer.json()["error"].is_string());
    }
    let big = " ".repeat(100_000);
    assert_eq!(daemon.post(&format!("{place}/drain"), "application/json", &big).code, 413);
    assert_eq!(daemon.post("/v1/config/apply", "text/plain", "x").code, 400);
    for garbage in [&b"\x16\x03\x01\x02\x00\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / SLUICE/9\r\n\r\n"] {
        let code = daemon.raw(garbage).code;
        assert!(code == 400 || code == 0, "{code}");
    }
    let mut head = b"GET /v1/stats HTTP/1.1\r\nX-Long: ".to_vec();
    head.extend(vec![b'a'; 200_000]);
    let code = daemon.raw(&head).code;
    assert!((400..500).contains(&code) || code == 0, "{code}");
    assert_eq!(daemon.get("/v1/status").code, 200);
}

#[test]
fn slow_peers_are_hung_up_on_and_do_not_stop_others() {
    let daemon = Daemon::start(&config(""));
    let begin = Instant::now();
    let mut silent: Vec<_> = (0..20).map(|_| daemon.connect()).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        let parts: [&[u8]; 3] =
            [b"", b"GET /v1/st", b"POST /v1/config/apply HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"];
        stream.write_all(parts[index % 3]).unwrap();
    }
    assert_eq!(daemon.get("/v1/status").code, 200);
    assert!(begin.elapsed() < Duration::from_secs(2));
    for mut stream in silent {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(40));
}

#[test]
fn too_many_connections_are_turned_away() {
    let daemon = Daemon::start(&config(""));
    let idle: Vec<_> = (0..64).map(|_| daemon.connect()).collect();
    eventually("the next one is turned away", || daemon.get("/v1/status").code == 503);
    drop(idle);
    eventually("there is room again", || daemon.get("/v1/status").code == 200);
}

#[test]
fn the_socket_is_one_daemons() {
    let daemon = Daemon::start(&config(""));
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let error =
        dataplane::control::socket::ControlSocket::take(&daemon.socket(), None).unwrap_err().to_string();
    assert!(error.contains("control.sock") && error.contains("another sluiced is running"), "{error}");
    let path = daemon.socket();
    let stale = daemon.folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    dataplane::control::socket::ControlSocket::take(&stale, None).unwrap();
    assert!(!stale.exists());
    std::fs::write(&stale, "mine").unwrap();
    assert!(dataplane::control::socket::ControlSocket::take(&stale, None).is_err());
    assert!(stale.exists());
    drop(daemon);
    assert!(!path.exists());
}

#[test]
fn operators_change_backends() {
    let daemon = Daemon::start(&config(""));
    let act = |action: &str, body: &str| {
        daemon.post(&format!("/v1/services/web/backends/10.1.0.11:8080/{action}"), "application/json", body)
    };
    let disabled = act("disable", "");
    assert_eq!((disabled.code, disabled.json()["admin"].as_str()), (200, Some("disabled")));
    assert_eq!(daemon.get("/v1/stats").json()["generation"], 2);
    assert_eq!(act("weight", "{\"weight\": 7}").json()["weight"], 7);
    assert_eq!(act("enable", "").json()["admin"], "enabled");
    // A change of the file elsewhere leaves it, one of this weight does not.
    assert_eq!(daemon.apply(&config(DNS)).code, 200);
    let weight = || daemon.get("/v1/services/web").json()["backends"][0]["weight"].clone();
    assert_eq!(weight(), 7);
    let heavier =
        config("").replacen("address = \"10.1.0.11:8080\"", "address = \"10.1.0.11:8080\"\nweight = 9", 1);
    let applied = daemon.apply(&heavier);
    assert_eq!(
        applied.json()["changes"],
        serde_json::json!([
            "service \"web\": backend 10.1.0.11:8080 weight 100 to 9",
            "service \"dns\" removed"
        ])
    );
    assert_eq!(weight(), 9);
    // Without connections a drain is soon done.
    let drained = act("drain", "{\"deadline_seconds\": 60}").json();
    assert!(drained["admin"] == "draining" || drained["admin"] == "disabled");
    eventually("drained", || daemon.get("/v1/services/web").json()["backends"][0]["admin"] == "disabled");
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let daemon = Daemon::start(&config(""));
    let twin = "\n[[service]]\nname = \"twin\"\nvip = \"192.0.2.10\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
                [[service.backend]]\naddress = \"10.1.0.13:80\"\n";
    let unavailable = config(DNS).replacen("mode = \"nat\"", "mode = \"nat\"\nscheduler = \"random\"", 1);
    let workers = config("").replacen("workers = [0, 1]", "workers = [0]", 1);
    for text in [config(twin), config("[[service]]"), unavailable, workers, "[".into()] {
        let check = daemon.post("/v1/config/check", "application/toml", &text);
        assert_eq!((check.code, &check.json()["ok"]), (200, &serde_json::json!(false)), "{}", check.body);
        let refused = daemon.apply(&text);
        assert_eq!(refused.code, 422, "{}", refused.body);
        assert!(refused.json()["config_errors"][0]["remedy"].is_string());
    }
    let stats = daemon.get("/v1/stats").json();
    assert_eq!((stats["generation"].as_u64(), stats["services"].as_array().unwrap().len()), (Some(1), 1));
    // Without a body: the daemon's own file.
    assert_eq!(daemon.post("/v1/config/apply", "", "").json()["generation"], 2);
    std::fs::write(daemon.folder.path().join("sluice.toml"), config(DNS)).unwrap();
    assert_eq!(daemon.post("/v1/config/apply", "", "").json()["services"], 2);
}

#[test]
fn addresses_and_routes_change_while_it_runs() {
    let daemon = Daemon::start(&config(""));
    let moved = config("").replace("10.1.0.1/24", "10.1.0.2/24").replace("10.1.0.254", "10.1.0.253");
    let applied = daemon.apply(&moved);
    assert_eq!(
        applied.json()["changes"],
        serde_json::json!(["port \"lan\": addresses changed", "routes changed"])
    );
    assert_eq!(daemon.get("/v1/ports").json()[0]["addresses"][0], "10.1.0.2/24");
}

#[test]
fn backends_and_gateways_are_resolved_before_they_are_needed() {
    let daemon = Daemon::start(&config(""));
    let mut asked = BTreeSet::new();
    eventually("gateway and both backends are asked for", || {
        while let Some(frame) = daemon.wires[0].receive() {
            let header = Ethernet::parse(&frame).unwrap();
            if header.ethertype() == ethertype::ARP && frame[21] == 1 {
                assert_eq!((header.source(), header.destination()), (PORT_MAC, Mac::BROADCAST));
                asked.insert(frame[38..42].to_vec());
            }
        }
        [254, 11, 12].iter().all(|last| asked.contains(&vec![10, 1, 0, *last]))
    });
    assert!(asked.contains(&vec![10, 1, 0, 1]), "the port announces itself");
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    eventually("it is reachable", || {
        let neighbors = daemon.get("/v1/neighbors").json();
        let found = neighbors.as_array().unwrap().iter().find(|one| one["address"] == "10.1.0.11").cloned();
        found.is_some_and(|one| one["state"] == "reachable" && one["mac"] == "02:00:00:00:00:0b")
    });
    eventually("the dead one is given up", || {
        let neighbors = daemon.get("/v1/neighbors").json();
        neighbors
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["address"] == "10.1.0.12" && one["state"] == "failed")
    });
}

#[test]
fn flows_are_listed_and_counters_survive_changes() {
    let daemon = Daemon::start(&config(DNS));
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    for port in 0..40 {
        daemon.datagram(usize::from(port % 2), Ipv4Addr::new(198, 51, 100, 7), 40_000 + port);
    }
    let dns = || daemon.get("/v1/services/dns").json();
    eventually("all are counted", || dns()["packets_in"] == 40);
    let flows = daemon.get("/v1/flows?service=dns&client=198.51.100.0/24").json();
    assert_eq!(
        (flows["flows"].as_array().unwrap().len(), &flows["truncated"]),
        (40, &serde_json::json!(false))
    );
    assert_eq!(flows["flows"][0]["backend"], "10.1.0.11:53");
    let few = daemon.get("/v1/flows?limit=10").json();
    assert_eq!((few["flows"].as_array().unwrap().len(), &few["truncated"]), (10, &serde_json::json!(true)));
    assert_eq!(daemon.get("/v1/flows?client=203.0.113.1").json()["flows"].as_array().unwrap().len(), 0);
    // Another backend takes its place: what the service counted stays, and the new one starts at nothing.
    let other = config(DNS).replace("10.1.0.11:53", "10.1.0.14:53");
    assert_eq!(daemon.apply(&other).code, 200);
    let after = dns();
    assert_eq!((&after["packets_in"], &after["connections_active"]), (&40.into(), &40.into()));
    assert_eq!(after["backends"][0]["packets_in"], 0);
    // And back: its connections never went.
    assert_eq!(daemon.apply(&config(DNS)).code, 200);
    let back = dns();
    assert_eq!((&back["packets_in"], &back["backends"][0]["packets_in"]), (&40.into(), &40.into()));
    // A drain waits for connections.
    let place = "/v1/services/dns/backends/10.1.0.11:53/drain";
    assert_eq!(
        daemon.post(place, "application/json", "{\"deadline_seconds\": 0.2}").json()["admin"],
        "draining"
    );
    std::thread::sleep(Duration::from_millis(400));
    let backend = dns()["backends"][0].clone();
    assert_eq!(
        (backend["admin"].as_str(), backend["drain_remaining_seconds"].as_f64()),
        (Some("draining"), Some(0.0))
    );
}

#[test]
fn a_drain_with_reset_ends_at_its_deadline() {
    let daemon = Daemon::start(&config(DNS));
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    for port in 0..20 {
        daemon.datagram(usize::from(port % 2), Ipv4Addr::new(198, 51, 100, 7), 40_000 + port);
    }
    let backends = || daemon.get("/v1/backends?service=dns").json();
    eventually("all are there", || backends()[0]["connections_active"] == 20);
    let place = "/v1/services/dns/backends/10.1.0.11:53/drain";
    let drain = |body: &str| daemon.post(place, "application/json", body);
    assert_eq!(drain("{\"then\": \"reset\"}").code, 400);
    assert_eq!(drain("{\"deadline_seconds\": 0.2, \"then\": \"explode\"}").code, 400);
    let begun = drain("{\"deadline_seconds\": 0.2, \"then\": \"reset\"}");
    assert_eq!((begun.code, &begun.json()["admin"]), (200, &"draining".into()));
    eventually("none is left", || {
        let one = &backends()[0];
        one["connections_active"] == 0 && one["admin"] == "disabled"
    });
    let enabled = daemon.post("/v1/services/dns/backends/10.1.0.11:53/enable", "", "");
    assert_eq!(enabled.json()["admin"], "enabled");
    daemon.datagram(0, Ipv4Addr::new(198, 51, 100, 8), 50_000);
    eventually("it serves again", || backends()[0]["connections_active"] == 1);
}

#[test]
fn a_removed_backend_is_listed_until_its_connections_are_gone() {
    let daemon = Daemon::start(&config(DNS));
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    daemon.datagram(0, Ipv4Addr::new(198, 51, 100, 7), 40_000);
    let backends = || daemon.get("/v1/backends?service=dns").json();
    eventually("it is there", || backends()[0]["connections_active"] == 1);
    let place = "/v1/services/dns/backends/10.1.0.11:53/drain";
    let drain = "{\"deadline_seconds\": 3, \"then\": \"reset\"}";
    assert_eq!(daemon.post(place, "application/json", drain).code, 200);
    assert_eq!(daemon.apply(&config(DNS).replace("10.1.0.11:53", "10.1.0.14:53")).code, 200);
    let both = backends();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(
        (&both[0]["address"], &both[0]["removed"]),
        (&"10.1.0.14:53".into(), &serde_json::Value::Null)
    );
    let going = &both[1];
    assert_eq!(
        (&going["address"], &going["removed"], &going["admin"], &going["connections_active"]),
        (&"10.1.0.11:53".into(), &true.into(), &"draining".into(), &1.into())
    );
    assert!(going["drain_remaining_seconds"].as_f64().is_some_and(|rest| rest > 0.0), "{going}");
    eventually("the drain goes on to its end", || backends().as_array().unwrap().len() == 1);
}
