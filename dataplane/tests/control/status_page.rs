//! The status page over its real listener. How it looks in a browser is tested in scripts/net/status-page.sh.

use super::daemon::{Answer, DNS, Daemon, config, eventually};
use ctl::api::Overview;
use dataplane::wire::ethernet::Mac;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A daemon with a metrics listener on a port that is free, and its address.
fn listening(page: &str, more: &str) -> (Daemon, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = format!("[runtime]\nmetrics = \"{address}\"\n{page}");
    (Daemon::start(&config(more).replace("[runtime]\n", &runtime)), address)
}

fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
    // Who is turned away may be so before it has asked.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Answer::parse(&bytes)
}

#[test]
fn it_is_off_unless_asked_for() {
    let (_daemon, address) = listening("", "");
    assert_eq!(ask(address, "GET", "/metrics").code, 200);
    for path in ["/", "/status", "/status.js", "/status.css", "/status.json"] {
        assert_eq!(ask(address, "GET", path).code, 404, "{path}");
    }
}

#[test]
fn every_part_comes_with_its_type_and_a_strict_policy() {
    let (daemon, address) = listening("status_page = true\n", "");
    let front = ask(address, "GET", "/");
    assert!(front.code == 307 && front.head.contains("location: /status"), "{}", front.head);
    for (path, kind) in [
        ("/status", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/status.json", "application/json"),
    ] {
        let answer = ask(address, "GET", path);
        assert_eq!(answer.code, 200, "{path}");
        let kind = format!("content-type: {kind}");
        for line in [
            kind.as_str(),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(line), "{path}: {}\nlacks {line}", answer.head);
        }
        assert!(!answer.head.contains("unsafe"), "{}", answer.head);
        assert_eq!(ask(address, "POST", path).code, 405, "{path} is read-only");
    }
    assert_eq!(ask(address, "GET", "/metrics").code, 200);
    // What may change things is not there, nor is the page on the control socket.
    assert_eq!(ask(address, "GET", "/v1/status").code, 404);
    assert_eq!(daemon.get("/status").code, 404);
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_makes_no_markup() {
    let (_daemon, address) = listening("status_page = true\n", "");
    let [page, style, script] =
        ["/status", "/status.css", "/status.js"].map(|path| ask(address, "GET", path).body);
    for (name, text) in [("page", &page), ("style", &style), ("script", &script)] {
        // The namespace of SVG is a name, not an address.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "//cdn", "url(", "@import"] {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
    for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[test]
fn its_data_agree_with_the_api() {
    let (daemon, address) = listening("status_page = true\n", DNS);
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    for port in 0..10 {
        daemon.datagram(0, Ipv4Addr::new(198, 51, 100, 7), 40_000 + port);
    }
    let overview = || -> Overview {
        serde_json::from_value(ask(address, "GET", "/status.json").json()).expect("an overview")
    };
    eventually("all are counted", || overview().services[1].packets_in == 10);
    let overview = overview();
    let services: Vec<_> =
        overview.services.iter().map(|one| (one.name.as_str(), one.backends.len())).collect();
    assert_eq!(services, [("web", 2), ("dns", 1)]);
    assert_eq!((overview.workers.len(), overview.ports.len()), (2, 1));
    assert_eq!(overview.status.notices, ["a notice"]);
    let stats = daemon.get("/v1/stats").json();
    assert_eq!(overview.drops.len(), stats["drops"].as_object().unwrap().len());
    assert!(overview.rx_bytes > 0);
}

#[test]
fn many_readers_cost_no_more_than_one() {
    let (_daemon, address) = listening("status_page = true\n", "");
    let uptime = || ask(address, "GET", "/status.json").json()["status"]["uptime_seconds"].as_f64().unwrap();
    let begin = Instant::now();
    let seen: std::collections::BTreeSet<u64> = (0..50).map(|_| uptime().to_bits()).collect();
    // One reading for each 0.9 seconds that it took, and those at either end.
    let most = begin.elapsed().as_millis() as usize / 900 + 2;
    assert!(seen.len() <= most, "{} readings, at most {most}", seen.len());
    let first = uptime();
    eventually("it is made anew", || uptime() > first);
}

#[test]
fn the_listener_stays_bounded() {
    let (_daemon, address) = listening("status_page = true\n", "");
    let idle: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    eventually("the next one is turned away", || ask(address, "GET", "/status").code == 503);
    drop(idle);
    eventually("there is room again", || ask(address, "GET", "/status").code == 200);
}
