//! Health checks over the whole of the control plane: a backend that answers echo requests, or does not.

use super::daemon::{Daemon, PORT_MAC, config, eventually};
use dataplane::packet::{Packet, VecPacket};
use dataplane::tunnel;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::ndp;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
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

/// A frame on its own: what is inside of the tunnel that leads to `frame`'s destination.
fn opened(frame: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let v6 = frame[12..14] == [0x86, 0xdd];
    let (protocol, to, payload) = if v6 { (frame[20], 38..54, 54) } else { (frame[23], 30..34, 34) };
    let inner = payload + tunnel::inner_offset(protocol, &frame[payload..])?;
    let kind: [u8; 2] = if frame[inner] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    Some(([&frame[..12], &kind, &frame[inner..]].concat(), frame[to].to_vec()))
}

/// The backend whose addresses end in 11 answers checks of VIPs that come out of a tunnel: from the VIP, past the tunnel.
fn reply_from_tunnel(daemon: &Daemon, frame: &[u8]) -> bool {
    let mac = Mac([2, 0, 0, 0, 0, 11]);
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
    if frame[12..14] == [8, 6] && frame[21] == 1 && frame[41] == 11 {
        daemon.arp_reply([10, 1, 0, 11], mac);
    }
    if frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135 && frame[62..78] == far.octets() {
        let own = (PORT_MAC, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        let kind = ndp::Kind::Advertisement(ndp::flag::SOLICITED | ndp::flag::OVERRIDE);
        let mut answer = [0; ndp::FRAME_LEN];
        ndp::emit(&mut answer, kind, far, (mac, far), own).unwrap();
        daemon.wires[0].send(&answer);
    }
    let Some((inner, backend)) = opened(frame) else { return false };
    assert!(backend == [10, 1, 0, 11] || backend == far.octets(), "to the backend: {backend:?}");
    assert_eq!((&frame[..6], &frame[6..12]), (&mac.0[..], &PORT_MAC.0[..]));
    echo_from_backend(daemon, &inner);
    true
}

/// The backend whose addresses end in 11 answers an echo of a check to a VIP.
fn echo_from_backend(daemon: &Daemon, frame: &[u8]) {
    let mac = Mac([2, 0, 0, 0, 0, 11]);
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ethernet = PacketBuilder::ethernet2(mac.0, PORT_MAC.0);
    let mut answer = Vec::new();
    match (packet.net.unwrap(), packet.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else { panic!("{icmp:?}") };
            assert_eq!(
                (ip.header().source(), ip.header().destination()[..3].to_vec()),
                ([10, 1, 0, 1], vec![192, 0, 2])
            );
            ethernet
                .ipv4(ip.header().destination(), ip.header().source(), 64)
                .icmpv4_echo_reply(echo.id, echo.seq)
                .write(&mut answer, icmp.payload())
                .unwrap();
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else { panic!("{icmp:?}") };
            ethernet
                .ipv6(ip.header().destination(), ip.header().source(), 64)
                .icmpv6_echo_reply(echo.id, echo.seq)
                .write(&mut answer, icmp.payload())
                .unwrap();
        }
        other => panic!("{other:?}"),
    }
    daemon.wires[1].send(&answer);
}

/// With L3DSR a check is addressed to the backend, and comes from the VIP by its DSCP.
#[test]
fn checks_are_readdressed() {
    let mut text = config("");
    for (vip, backend) in [("192.0.2.40", "10.1.0.11"), ("2001:db8:f::40", "2001:db8::11")] {
        writeln!(
            text,
            "\n[[service]]\nvip = \"{vip}\"\nports = \"443\"\nprotocol = \"tcp\"\nmode = \"dsr\"\ntunnel = \"l3dsr\"\n\
             dscp = 9\n{CHECKED}\n[[service.backend]]\naddress = \"{backend}\""
        )
        .unwrap();
    }
    let daemon = Daemon::start(&text);
    // As a backend does it: the VIP again, and checksums as they were.
    let vips = [[192, 0, 2, 40].into(), "2001:db8:f::40".parse::<Ipv6Addr>().unwrap().into()];
    let backends: [IpAddr; 2] = [[10, 1, 0, 11].into(), "2001:db8::11".parse::<Ipv6Addr>().unwrap().into()];
    let restore = [0, 1].map(|v6| {
        let gue = tunnel::GueForm { port: 6080, direct: true };
        let options = tunnel::Options::new(ctl::config::Tunnel::L3dsr, gue, v6 == 1, &[]);
        let mark = tunnel::Mark { dscp: 63, vip: backends[v6] };
        tunnel::Way::new(&options.with_mark(mark), vips[v6], None).unwrap()
    });
    let states = || -> Vec<String> {
        let services = daemon.get("/v1/services").json();
        let marked = services.as_array().unwrap().iter().filter(|service| service["name"] != "web");
        marked.map(|service| service["backends"][0]["health"].to_string()).collect()
    };
    let serve_until = |answers: bool, wanted: &str| {
        eventually(wanted, || {
            for wire in &daemon.wires {
                while let Some(frame) = wire.receive() {
                    let (v6, class, to) = match frame[12..14] {
                        [8, 0] => (0, frame[15], frame[30..34].to_vec()),
                        [0x86, 0xdd] => (1, frame[14] << 4 | frame[15] >> 4, frame[38..54].to_vec()),
                        _ => (2, 0, Vec::new()),
                    };
                    if class >> 2 != 9 {
                        reply_from_tunnel(&daemon, &frame);
                        continue;
                    }
                    let octets = |address: &IpAddr| match address {
                        IpAddr::V4(v4) => v4.octets().to_vec(),
                        IpAddr::V6(v6) => v6.octets().to_vec(),
                    };
                    assert_eq!(to, octets(&backends[v6]), "to the backend");
                    let mut packet = VecPacket::new(&frame);
                    restore[v6].apply(&mut packet, 0).unwrap();
                    if answers {
                        echo_from_backend(&daemon, packet.data());
                    }
                }
            }
            let states = states();
            states.len() == 2 && states.iter().all(|state| state == wanted)
        });
    };
    serve_until(true, "\"up\"");
    serve_until(false, "\"down\"");
}

/// Each kind of tunnel, each family in each: checks go through it to the VIP, and without it nobody is up.
#[test]
fn checks_go_through_tunnels() {
    let mut text = config("");
    for (number, kind) in
        ["ipip", "gue\"\ngue_variant = 1 #", "gue\"\ngue_variant = 0 #", "gre"].iter().enumerate()
    {
        for vip in [format!("192.0.2.{}", 30 + number), format!("2001:db8:f::{number}")] {
            let place = format!(
                "vip = \"{vip}\"\nports = \"443\"\nprotocol = \"tcp\"\nmode = \"dsr\"\ntunnel = \"{kind}\""
            );
            let name = format!("t{number}{}", if vip.contains(':') { 6 } else { 4 });
            writeln!(text, "\n[[service]]\nname = \"{name}\"\n{place}\n{CHECKED}").unwrap();
            for backend in ["10.1.0.11", "2001:db8::11"] {
                writeln!(text, "[[service.backend]]\naddress = \"{backend}\"").unwrap();
            }
        }
    }
    let daemon = Daemon::start(&text);
    let states = || -> Vec<String> {
        let services = daemon.get("/v1/services").json();
        let tunnelled = services.as_array().unwrap().iter().filter(|service| service["name"] != "web");
        let backends = tunnelled.flat_map(|service| service["backends"].as_array().unwrap().clone());
        let state = |one: serde_json::Value| format!("{} {}", one["health"], one["health_detail"]);
        backends.map(state).collect()
    };
    let serve_until = |answers: bool, wanted: &str| {
        eventually(wanted, || {
            for wire in &daemon.wires {
                while let Some(frame) = wire.receive() {
                    if answers {
                        reply_from_tunnel(&daemon, &frame);
                    }
                }
            }
            let states = states();
            states.len() == 16 && states.iter().all(|state| state == wanted)
        });
    };
    serve_until(true, "\"up\" \"\"");
    serve_until(false, "\"down\" \"timeout after 40ms\"");
    serve_until(true, "\"up\" \"\"");
}
