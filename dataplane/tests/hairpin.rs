//! Backends that are clients of their own service: the answers come back through the balancer.

mod bed;

use bed::{ACK, Bed, LAN, PORT_MACS, SYN, Segment, WAN, mac_of, parse, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::verdict::DropReason;
use std::net::SocketAddr;

const BACKENDS4: [&str; 2] = ["10.1.0.11:8080", "10.1.0.12:8080"];
const BACKENDS6: [&str; 2] = ["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080"];

fn bed(mode: Mode, protocol: Protocol, workers: usize) -> Bed {
    let services = [
        spec("192.0.2.10", protocol, mode, &BACKENDS4),
        spec("2001:db8:ffff::10", protocol, mode, &BACKENDS6),
    ];
    let mut bed = Bed::new(workers, 1024, two_arm(&services));
    bed.know_all();
    bed
}

/// A connection of a backend to its own service goes to itself or to another one, from an address of the balancer, and
/// the answer looks to the client as if the service had sent it.
fn there_and_back(bed: &mut Bed, client: &str, vip: &str, own: &str, is_tcp: bool) -> SocketAddr {
    let request = if is_tcp { tcp(client, vip, SYN) } else { udp(client, vip) };
    let there = parse(&bed.pass(LAN, &request.frame(LAN, b""), LAN));
    assert_eq!(there.from.ip().to_string(), own);
    assert_eq!((there.to_mac, there.from_mac), (mac_of(there.to.ip()), PORT_MACS[1]));
    let answer =
        Segment { from: there.to, to: there.from, tcp: request.tcp.map(|_| SYN | ACK), hop_limit: 64 };
    let back = parse(&bed.pass(LAN, &answer.frame(LAN, b""), LAN));
    assert_eq!((back.from, back.to), (request.to, request.from));
    assert_eq!(back.to_mac, mac_of(request.from.ip()));
    // It goes on as any connection does.
    let more = Segment { tcp: request.tcp.map(|_| ACK), ..request };
    let again = parse(&bed.pass(LAN, &more.frame(LAN, b"more"), LAN));
    assert_eq!((again.from, again.to, &*again.payload), (there.from, there.to, &b"more"[..]));
    there.to
}

#[test]
fn backends_reach_their_own_service_and_each_other() {
    for mode in [Mode::Nat, Mode::FullNat] {
        for (protocol, is_tcp) in [(Protocol::Tcp, true), (Protocol::Udp, false)] {
            for workers in [1, 3] {
                let mut bed = bed(mode, protocol, workers);
                let mut reached = std::collections::BTreeSet::new();
                for port in 40_000..40_012 {
                    let (v4, v6) = (format!("10.1.0.11:{port}"), format!("[2001:db8:1::12]:{port}"));
                    reached.insert(there_and_back(&mut bed, &v4, "192.0.2.10:80", "10.1.0.1", is_tcp));
                    reached.insert(there_and_back(
                        &mut bed,
                        &v6,
                        "[2001:db8:ffff::10]:80",
                        "2001:db8:1::1",
                        is_tcp,
                    ));
                }
                assert_eq!(reached.len(), 4, "{mode}: itself and the other one, of both families");
                bed.check_conservation();
            }
        }
    }
}

#[test]
fn other_clients_keep_their_address() {
    let mut bed = bed(Mode::Nat, Protocol::Tcp, 1);
    for client in ["198.51.100.7:40000", "10.1.0.99:40000"] {
        if client.starts_with("10.") {
            bed.know("10.1.0.99");
        }
        let there = parse(&bed.pass(WAN, &tcp(client, "192.0.2.10:80", SYN).frame(WAN, b""), LAN));
        assert_eq!(there.from.to_string(), client);
    }
}

#[test]
fn what_the_balancer_does_not_know_cannot_go_on() {
    let mut bed = bed(Mode::Nat, Protocol::Tcp, 1);
    bed.send(LAN, &tcp("10.1.0.11:40000", "192.0.2.10:80", ACK).frame(LAN, b"x"));
    assert_eq!(bed.dropped(DropReason::NoConnection), 1);
}

#[test]
fn with_dsr_another_backend_answers_directly() {
    let service = |vip, backends| spec(vip, Protocol::Udp, Mode::Dsr, backends);
    let mut bed = Bed::new(
        1,
        64,
        two_arm(&[service("192.0.2.10", &["10.1.0.12"]), service("2001:db8:ffff::10", &["2001:db8:1::12"])]),
    );
    bed.know_all();
    for (client, vip, backend) in [
        ("10.1.0.11:40000", "192.0.2.10:80", "10.1.0.12"),
        ("[2001:db8:1::11]:40000", "[2001:db8:ffff::10]:80", "2001:db8:1::12"),
    ] {
        let there = parse(&bed.pass(LAN, &udp(client, vip).frame(LAN, b""), LAN));
        assert_eq!((there.from.to_string(), there.to.to_string()), (client.into(), vip.into()));
        assert_eq!(there.to_mac, mac_of(backend.parse().unwrap()));
    }
}
