//! Configurations that cannot hurt: differences, trials, rolling back, and large ones.

use super::daemon::{DNS, Daemon, config, eventually};
use dataplane::wire::ethernet::Mac;
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

fn toml(daemon: &Daemon, path: &str, text: &str) -> super::daemon::Answer {
    daemon.post(path, "application/toml", text)
}

fn act(daemon: &Daemon, action: &str, body: &str) {
    let path = format!("/v1/services/web/backends/10.1.0.11:8080/{action}");
    assert_eq!(daemon.post(&path, "application/json", body).code, 200);
}

fn services(daemon: &Daemon) -> usize {
    daemon.get("/v1/services").json().as_array().unwrap().len()
}

#[test]
fn a_difference_is_in_words_and_changes_nothing() {
    let daemon = Daemon::start(&config(""));
    let same = toml(&daemon, "/v1/config/diff", &config("")).json();
    assert_eq!((&same["changes"], &same["at_run_time"]), (&json!([]), &json!([])));
    act(&daemon, "disable", "");
    act(&daemon, "weight", "{\"weight\": 7}");
    let other = config(DNS)
        .replace("\"round-robin\"", "\"maglev\"")
        .replace("max_connections = 1000", "max_connections = 2000")
        .replace("mode = \"nat\"\nscheduler", "mode = \"nat\"\nhealth = { type = \"tcp\" }\nscheduler");
    let diff = toml(&daemon, "/v1/config/diff", &other).json();
    let changes = diff["changes"].to_string();
    for words in ["scheduler", "round-robin", "health.interval nothing to", "service \\\"dns\\\" added"] {
        assert!(changes.replace("\\\\", "\\").contains(words), "{changes} lacks {words}");
    }
    assert_eq!(diff["need_restart"][0]["key"], "runtime.max_connections");
    assert_eq!(
        diff["at_run_time"],
        json!([
            "service \"web\": backend 10.1.0.11:8080 is disabled and of weight 7, not 100 (changed at run time)"
        ])
    );
    assert_eq!(services(&daemon), 1);
    assert_eq!(toml(&daemon, "/v1/config/diff", "[").code, 422);
}

#[test]
fn what_was_changed_at_run_time_is_kept_or_said_to_be_given_up() {
    let daemon = Daemon::start(&config(""));
    act(&daemon, "disable", "");
    act(&daemon, "weight", "{\"weight\": 7}");
    let kept = daemon.apply(&config(DNS)).json();
    assert!(kept["kept"][0].as_str().unwrap().contains("is disabled and of weight 7"), "{kept}");
    assert_eq!(kept["given_up"], json!([]));
    let heavier = config("").replacen("\"10.1.0.11:8080\"", "\"10.1.0.11:8080\"\nweight = 9", 1);
    let given_up = daemon.apply(&heavier).json();
    assert!(given_up["given_up"][0].as_str().unwrap().contains("of weight 7"), "{given_up}");
    assert!(given_up["kept"][0].as_str().unwrap().contains("is disabled"), "{given_up}");
    // Back to before: the weight is 7 again, and the other service there.
    let rolled = daemon.post("/v1/config/rollback", "", "");
    assert_eq!(rolled.code, 200, "{}", rolled.body);
    let backend = daemon.get("/v1/services/web").json()["backends"][0].clone();
    assert_eq!((&backend["weight"], &backend["admin"]), (&json!(7), &json!("disabled")));
    assert_eq!(services(&daemon), 2);
    // And once more, to the first; then there is nothing before.
    assert_eq!(daemon.post("/v1/config/rollback", "", "").code, 200);
    assert_eq!(services(&daemon), 1);
    assert_eq!(daemon.post("/v1/config/rollback", "", "").code, 409);
}

#[test]
fn a_trial_ends_by_itself_unless_it_is_confirmed() {
    let daemon = Daemon::start(&config(""));
    let try_out =
        |seconds: &str| toml(&daemon, &format!("/v1/config/apply?confirm_seconds={seconds}"), &config(DNS));
    assert_eq!(try_out("-1").code, 400);
    assert_eq!(try_out("0.5").json()["confirm_seconds"], 0.5);
    assert_eq!(services(&daemon), 2);
    assert_eq!(daemon.apply(&config("")).code, 409, "not while one is on trial");
    assert!(daemon.get("/v1/status").json()["notices"].to_string().contains("rolled back in"));
    eventually("it is rolled back", || services(&daemon) == 1);
    assert_eq!(daemon.post("/v1/config/confirm", "", "").code, 409);

    assert_eq!(try_out("1").code, 200);
    assert_eq!(daemon.post("/v1/config/confirm", "", "").code, 200);
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(services(&daemon), 2);
    // A trial that is rolled back by hand is over as well.
    assert_eq!(daemon.apply(&config("")).code, 200);
    assert_eq!(try_out("1").code, 200);
    assert_eq!(daemon.post("/v1/config/rollback", "", "").code, 200);
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(services(&daemon), 1);
}

#[test]
fn the_export_is_what_is_in_force() {
    let daemon = Daemon::start(&config(DNS));
    let export: ctl::api::ConfigExport = serde_json::from_value(daemon.get("/v1/config").json()).unwrap();
    let diff = toml(&daemon, "/v1/config/diff", &export.config.to_toml()).json();
    assert_eq!((&diff["changes"], &diff["need_restart"]), (&json!([]), &json!([])));
}

#[test]
fn files_that_make_no_sense_are_one_bounded_error() {
    let daemon = Daemon::start(&config(""));
    let half = config("");
    let half = &half[..half.len() - 20];
    let deep = format!("a = {}{}", "[".repeat(50_000), "]".repeat(50_000));
    let dotted = format!("{}b = 1", "a.".repeat(50_000));
    for text in [half, deep.as_str(), dotted.as_str(), "\u{0}", "[[service]]\nname = \"x"] {
        let refused = daemon.apply(text);
        assert_eq!(refused.code, 422, "{}", refused.body);
        assert!(refused.body.len() < 64 << 10, "{} bytes", refused.body.len());
    }
    let mut request = b"POST /v1/config/apply HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\
                        Content-Type: application/toml\r\nContent-Length: 4\r\n\r\n"
        .to_vec();
    request.extend([0xff, 0xfe, 0x00, 0xd8]);
    let refused = daemon.raw(&request);
    assert_eq!(refused.code, 422, "{}", refused.body);
    assert!(refused.body.contains("not UTF-8"), "{}", refused.body);
    assert_eq!(services(&daemon), 1);
}

/// As [`config`], and many services with many backends.
fn large(services: usize, each: usize) -> String {
    let mut text = config(DNS);
    for service in 0..services {
        let vip = format!("198.18.{}.{}", service / 256, service % 256);
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"{vip}\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\nbackend = ["
        );
        for backend in 0..each {
            let n = service * each + backend;
            let _ = write!(text, "{{ address = \"10.2.{}.{}:80\" }}, ", n / 250, n % 250 + 1);
        }
        text.push_str("]\n");
    }
    // Small tables: what is looked at here is how they are put in force.
    text.replacen("max_connections", "maglev_table_size = 251\nmax_connections", 1)
}

#[test]
fn ten_thousand_backends_at_once_disturb_nobody() {
    let daemon = Daemon::start(&large(0, 0));
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    for port in 0..40 {
        daemon.datagram(usize::from(port % 2), Ipv4Addr::new(198, 51, 100, 7), 40_000 + port);
    }
    let dns = || daemon.get("/v1/services/dns").json();
    eventually("all are counted", || dns()["packets_in"] == 40);
    let text = large(1000, 10);
    std::thread::scope(|scope| {
        let apply = scope.spawn(|| daemon.apply(&text));
        // The API answers meanwhile, and shows all of it or nothing.
        while !apply.is_finished() {
            let begin = Instant::now();
            let seen = daemon.get("/v1/status").json()["services"].as_u64();
            assert!([Some(2), Some(1002)].contains(&seen), "{seen:?}");
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        let applied = apply.join().unwrap();
        assert_eq!(applied.code, 200, "{}", applied.body);
        assert_eq!(applied.json()["backends"], 10_003);
    });
    let after = dns();
    assert_eq!((&after["connections_active"], &after["connections_total"]), (&json!(40), &json!(40)));
    let flows = daemon.get("/v1/flows?service=dns&limit=100").json();
    let same = |flow: &Value| flow["backend"] == "10.1.0.11:53";
    assert!(flows["flows"].as_array().unwrap().iter().all(same));
    assert_eq!(daemon.post("/v1/config/rollback", "", "").code, 200);
    assert_eq!((services(&daemon), &dns()["connections_active"]), (2, &json!(40)));
}
