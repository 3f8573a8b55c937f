//! Packets in, packets out, on in-memory ports: every mode and family, both directions.

mod bed;

use bed::{
    ACK, Bed, FIN, GATEWAY_MAC, LAN, PORT_MACS, RST, SYN, WAN, mac_of, parse, spec, tcp, two_arm, udp,
};
use ctl::config::{Mode, Protocol};
use dataplane::pipeline::Notice;
use dataplane::verdict::DropReason;
use std::net::IpAddr;

const CLIENT4: &str = "198.51.100.7:40000";
const VIP4: &str = "192.0.2.10:80";
const CLIENT6: &str = "[2001:db8:ffff::7]:40000";
const VIP6: &str = "[2001:db8:a::10]:80";

fn nat_bed() -> Bed {
    let mut bed = Bed::new(
        1,
        1000,
        two_arm(&[
            spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080", "10.1.0.12:8080"]),
            spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:5353", "10.1.0.12:5353"]),
            spec("2001:db8:a::10", Protocol::Tcp, Mode::Nat, &["[2001:db8:1::11]:8080"]),
            spec("2001:db8:a::10", Protocol::Udp, Mode::Nat, &["[2001:db8:1::11]:5353"]),
        ]),
    );
    bed.know_all();
    bed
}

#[test]
fn nat_translates_both_directions() {
    let mut bed = nat_bed();
    for (client, vip, is_tcp, backend) in [
        (CLIENT4, VIP4, true, "10.1.0.11:8080"),
        (CLIENT4, VIP4, false, "10.1.0.11:5353"),
        (CLIENT6, VIP6, true, "[2001:db8:1::11]:8080"),
        (CLIENT6, VIP6, false, "[2001:db8:1::11]:5353"),
    ] {
        let request = if is_tcp { tcp(client, vip, SYN) } else { udp(client, vip) };
        for payload in [&b""[..], b"x", b"hello, world"] {
            let out = parse(&bed.pass(WAN, &request.frame(WAN, payload), LAN));
            assert_eq!((out.from.to_string(), out.to.to_string()), (client.into(), backend.to_string()));
            assert_eq!((out.from_mac, out.to_mac), (PORT_MACS[1], mac_of(out.to.ip())));
            assert_eq!((out.hop_limit, out.payload.as_slice(), out.tcp), (63, payload, is_tcp));
            let answer = bed::Segment {
                from: out.to,
                to: out.from,
                tcp: request.tcp.map(|_| SYN | ACK),
                hop_limit: 17,
            };
            let back = parse(&bed.pass(LAN, &answer.frame(LAN, payload), WAN));
            assert_eq!((back.from.to_string(), back.to.to_string()), (vip.into(), client.into()));
            assert_eq!((back.from_mac, back.to_mac), (PORT_MACS[0], GATEWAY_MAC));
            assert_eq!((back.hop_limit, back.payload.as_slice()), (16, payload));
        }
    }
    bed.check_conservation();
    assert_eq!(bed.drops(), []);
    assert_eq!(bed.workers[0].pipeline().connections(), 4);
    let backend = &bed.counters[0].backends[0];
    assert_eq!(
        (backend.connections_total.get(), backend.packets_in.get(), backend.packets_out.get()),
        (1, 3, 3)
    );
}

#[test]
fn udp_checksum_of_zero_stays_zero() {
    let mut bed = nat_bed();
    let mut frame = udp(CLIENT4, VIP4).frame(WAN, b"data");
    frame[40..42].fill(0);
    let out = bed.pass(WAN, &frame, LAN);
    assert_eq!(out[40..42], [0, 0]);
    assert_eq!(parse(&out).to.to_string(), "10.1.0.11:5353");
}

#[test]
fn direct_server_return_changes_addresses_of_the_link_and_the_hop_limit_only() {
    let mut bed = Bed::new(
        1,
        1000,
        two_arm(&[
            spec("192.0.2.20", Protocol::Tcp, Mode::Dsr, &["10.1.0.11"]),
            spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11"]),
            spec("2001:db8:a::20", Protocol::Tcp, Mode::Dsr, &["2001:db8:1::11"]),
            spec("2001:db8:a::20", Protocol::Udp, Mode::Dsr, &["2001:db8:1::11"]),
        ]),
    );
    bed.know_all();
    for (client, vip, backend) in
        [(CLIENT4, "192.0.2.20:80", "10.1.0.11"), (CLIENT6, "[2001:db8:a::20]:80", "2001:db8:1::11")]
    {
        for segment in [tcp(client, vip, SYN), tcp(client, vip, ACK), udp(client, vip)] {
            let out = parse(&bed.pass(WAN, &segment.frame(WAN, b"abc"), LAN));
            assert_eq!((out.from.to_string(), out.to.to_string()), (client.into(), vip.into()));
            assert_eq!(
                (out.from_mac, out.to_mac),
                (PORT_MACS[1], mac_of(backend.parse::<IpAddr>().unwrap()))
            );
            assert_eq!((out.hop_limit, out.payload.as_slice()), (63, &b"abc"[..]));
        }
    }
    bed.check_conservation();
}

#[test]
fn one_port_serves_both_sides() {
    let mut parts = two_arm(&[spec("10.0.0.10", Protocol::Tcp, Mode::Nat, &["10.0.0.11:8080"])]);
    parts.ports.truncate(1);
    parts.routes.clear();
    let mut bed = Bed::new(1, 1000, parts);
    bed.know("10.0.0.11");
    bed.know("10.0.0.7");
    let request = tcp("10.0.0.7:1234", "10.0.0.10:80", SYN);
    let out = parse(&bed.pass(WAN, &request.frame(WAN, b""), WAN));
    assert_eq!((out.to.to_string(), out.to_mac), ("10.0.0.11:8080".into(), mac_of([10, 0, 0, 11].into())));
    let answer = tcp("10.0.0.11:8080", "10.0.0.7:1234", SYN | ACK);
    let back = parse(&bed.pass(WAN, &answer.frame(WAN, b""), WAN));
    assert_eq!((back.from.to_string(), back.to_mac), ("10.0.0.10:80".into(), mac_of([10, 0, 0, 7].into())));
    bed.check_conservation();
}

#[test]
fn first_packet_waits_for_its_next_hop() {
    let mut bed =
        Bed::new(1, 1000, two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"])]));
    bed.know("10.0.0.1");
    for port in 40000..40003 {
        let syn = tcp(&format!("198.51.100.7:{port}"), VIP4, SYN);
        bed.send(WAN, &syn.frame(WAN, b""));
    }
    assert_eq!(bed.receive(LAN), None);
    assert_eq!(bed.total(|c| c.held.get()), 3);
    bed.check_conservation();
    let wanted: Vec<_> = bed.notices.iter().filter(|n| matches!(n, Notice::Wanted(_))).collect();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    bed.know("10.1.0.11");
    for port in 40000..40003 {
        let out = parse(&bed.receive(LAN).expect("released in order"));
        assert_eq!((out.from.port(), out.to_mac), (port, mac_of([10, 1, 0, 11].into())));
    }
    assert_eq!(bed.total(|c| c.held.get()), 0);
    bed.check_conservation();
}

#[test]
fn packets_do_not_wait_for_ever() {
    let mut bed =
        Bed::new(1, 1000, two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"])]));
    bed.send(WAN, &tcp(CLIENT4, VIP4, SYN).frame(WAN, b""));
    bed.now += 2000;
    bed.turn();
    assert_eq!((bed.total(|c| c.held.get()), bed.dropped(DropReason::NeighborUnresolved)), (0, 1));
    bed.check_conservation();
}

#[test]
fn a_full_transmit_ring_is_counted() {
    let mut bed = nat_bed();
    bed.wires[0][usize::from(LAN)].set_room(Some(2));
    for port in 40000..40005 {
        bed.wires[0][usize::from(WAN)].send(&udp(&format!("198.51.100.7:{port}"), VIP4).frame(WAN, b""));
    }
    bed.turn();
    assert_eq!(bed.dropped(DropReason::TxFull), 3);
    bed.check_conservation();
}

#[test]
fn connections_keep_their_backend_when_others_come_and_go() {
    let mut bed = nat_bed();
    let first = parse(&bed.pass(WAN, &tcp(CLIENT4, VIP4, SYN).frame(WAN, b""), LAN)).to;
    assert_eq!(first.to_string(), "10.1.0.11:8080");
    // The backend takes no new connections any more.
    bed.parts.generation += 1;
    let mut changed =
        two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080", "10.1.0.12:8080"])]);
    let candidates =
        [dataplane::scheduler::Candidate { slot: 1, address: [10, 1, 0, 12].into(), port: 8080, weight: 1 }];
    changed.services[0].scheduler = dataplane::scheduler::build(
        ctl::config::Scheduler::RoundRobin,
        &candidates,
        dataplane::scheduler::MaglevParameters::default(),
    );
    bed.parts.services[0] = changed.services.remove(0);
    bed.publish();
    for _ in 0..3 {
        assert_eq!(parse(&bed.pass(WAN, &tcp(CLIENT4, VIP4, ACK).frame(WAN, b"more"), LAN)).to, first);
    }
    for port in 50000..50010 {
        let new = tcp(&format!("198.51.100.7:{port}"), VIP4, SYN);
        assert_eq!(parse(&bed.pass(WAN, &new.frame(WAN, b""), LAN)).to.to_string(), "10.1.0.12:8080");
    }
    bed.check_conservation();
}

#[test]
fn removed_backend_keeps_tcp_and_loses_udp() {
    let mut bed = nat_bed();
    let tcp_before = parse(&bed.pass(WAN, &tcp(CLIENT4, VIP4, SYN).frame(WAN, b""), LAN)).to;
    let udp_before = parse(&bed.pass(WAN, &udp(CLIENT4, VIP4).frame(WAN, b""), LAN)).to;
    assert_eq!(
        (tcp_before.to_string(), udp_before.to_string()),
        ("10.1.0.11:8080".into(), "10.1.0.11:5353".into())
    );
    bed.parts.generation += 1;
    let kept = two_arm(&[
        spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &[]),
        spec("192.0.2.10", Protocol::Udp, Mode::Nat, &[]),
    ]);
    for (index, (slot, port)) in [(1, 8080), (3, 5353)].into_iter().enumerate() {
        let left = dataplane::scheduler::Candidate { slot, address: [10, 1, 0, 12].into(), port, weight: 1 };
        bed.parts.services[index] = dataplane::service::Service {
            scheduler: std::sync::Arc::new(dataplane::scheduler::RoundRobin::new(&[left])),
            ..kept.services[index].clone()
        };
    }
    for slot in [0, 2] {
        bed.parts.backends[slot].as_mut().unwrap().removed = true;
    }
    bed.publish();
    assert_eq!(parse(&bed.pass(WAN, &tcp(CLIENT4, VIP4, ACK).frame(WAN, b""), LAN)).to, tcp_before);
    assert_eq!(
        parse(&bed.pass(WAN, &udp(CLIENT4, VIP4).frame(WAN, b""), LAN)).to.to_string(),
        "10.1.0.12:5353"
    );
    assert_eq!(bed.counters[0].backends[2].connections_active.get(), 0);
    bed.check_conservation();
}

#[test]
fn a_client_may_use_a_port_again() {
    let mut bed = nat_bed();
    let syn = tcp(CLIENT4, VIP4, SYN);
    let first = parse(&bed.pass(WAN, &syn.frame(WAN, b""), LAN)).to;
    bed.pass(WAN, &tcp(CLIENT4, VIP4, RST).frame(WAN, b""), LAN);
    let second = parse(&bed.pass(WAN, &syn.frame(WAN, b""), LAN)).to;
    // Round-robin: a new decision was made.
    assert_ne!(first, second);
    assert_eq!(bed.workers[0].pipeline().connections(), 1);
    // In mid-connection a SYN changes nothing.
    assert_eq!(parse(&bed.pass(WAN, &syn.frame(WAN, b""), LAN)).to, second);
}

#[test]
fn whole_conversation_then_expiry() {
    let mut bed = nat_bed();
    let client = |flags| tcp(CLIENT4, VIP4, flags).frame(WAN, b"");
    let backend = |flags| tcp("10.1.0.11:8080", CLIENT4, flags).frame(LAN, b"");
    bed.pass(WAN, &client(SYN), LAN);
    bed.pass(LAN, &backend(SYN | ACK), WAN);
    bed.pass(WAN, &client(ACK), LAN);
    bed.pass(LAN, &backend(FIN | ACK), WAN);
    bed.pass(WAN, &client(FIN | ACK), LAN);
    assert_eq!(bed.workers[0].pipeline().connections(), 1);
    // Over, but remembered for a while.
    let levels = |bed: &Bed| {
        (bed.counters[0].backends[0].connections_active.get(), bed.counters[0].backends[0].entries.get())
    };
    assert_eq!(levels(&bed), (0, 1));
    for _ in 0..100 {
        bed.now += 1000;
        bed.turn();
    }
    assert_eq!(bed.workers[0].pipeline().connections(), 0);
    assert_eq!(levels(&bed), (0, 0));
    // What comes late belongs to no connection.
    bed.send(LAN, &backend(ACK));
    assert_eq!(bed.dropped(DropReason::NoService), 1);
    bed.check_conservation();
}

#[test]
fn established_connections_outlive_a_flood() {
    let mut bed = nat_bed();
    let mut bed_small = Bed::new(1, 64, bed.parts.clone());
    std::mem::swap(&mut bed, &mut bed_small);
    bed.know_all();
    for port in 1000..1010 {
        let from = format!("198.51.100.7:{port}");
        let out = parse(&bed.pass(WAN, &tcp(&from, VIP4, SYN).frame(WAN, b""), LAN));
        bed.pass(LAN, &tcp(&out.to.to_string(), &from, SYN | ACK).frame(LAN, b""), WAN);
        bed.pass(WAN, &tcp(&from, VIP4, ACK).frame(WAN, b""), LAN);
        bed.pass(LAN, &tcp(&out.to.to_string(), &from, ACK).frame(LAN, b""), WAN);
    }
    for n in 0..5000u32 {
        let from = format!("203.0.{}.{}:{}", n >> 8 & 0xff, n & 0xff, 1024 + n % 60000);
        bed.send(WAN, &tcp(&from, VIP4, SYN).frame(WAN, b""));
    }
    while bed.receive(LAN).is_some() {}
    assert!(bed.total(|c| c.evictions.get()) > 4900);
    for port in 1000..1010 {
        let from = format!("198.51.100.7:{port}");
        let expected = if port % 2 == 0 { "10.1.0.11:8080" } else { "10.1.0.12:8080" };
        assert_eq!(
            parse(&bed.pass(WAN, &tcp(&from, VIP4, ACK).frame(WAN, b""), LAN)).to.to_string(),
            expected
        );
    }
    bed.check_conservation();
}

#[test]
fn a_table_full_of_established_connections_forwards_dsr_without_tracking() {
    let mut dsr = spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11", "10.1.0.12"]);
    dsr.scheduler = ctl::config::Scheduler::Maglev;
    let nat = |protocol| spec("192.0.2.10", protocol, Mode::Nat, &["10.1.0.11:8080"]);
    let mut bed = Bed::new(1, 8, two_arm(&[dsr, nat(Protocol::Tcp), nat(Protocol::Udp)]));
    bed.know_all();
    // What only a client confirms may be established in half of the table and no more.
    for port in 1000..1100 {
        for _ in 0..3 {
            bed.pass(WAN, &udp(&format!("198.51.100.7:{port}"), "192.0.2.20:80").frame(WAN, b""), LAN);
        }
    }
    assert!(bed.total(|c| c.evictions.get()) > 80);
    // What backends confirm, in the rest.
    for port in 1000..1004 {
        let from = format!("198.51.100.7:{port}");
        bed.pass(WAN, &tcp(&from, VIP4, SYN).frame(WAN, b""), LAN);
        bed.pass(LAN, &tcp("10.1.0.11:8080", &from, SYN | ACK).frame(LAN, b""), WAN);
        bed.pass(WAN, &tcp(&from, VIP4, ACK).frame(WAN, b""), LAN);
        bed.pass(LAN, &tcp("10.1.0.11:8080", &from, ACK).frame(LAN, b""), WAN);
    }
    for port in 2000..2020 {
        let frame = udp(&format!("198.51.100.7:{port}"), "192.0.2.20:80").frame(WAN, b"");
        let first = parse(&bed.pass(WAN, &frame, LAN));
        assert_eq!(parse(&bed.pass(WAN, &frame, LAN)), first, "the same backend for the whole flow");
    }
    assert_eq!(bed.total(|c| c.stateless.get()), 40);
    bed.send(WAN, &udp("198.51.100.7:3000", VIP4).frame(WAN, b""));
    assert_eq!(bed.dropped(DropReason::TableFull), 1);
    bed.check_conservation();
}

#[test]
fn a_million_distinct_flows_lose_nothing() {
    const FLOWS: u32 = 1_000_000;
    let mut service =
        spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:53", "10.1.0.12:53", "10.1.0.13:53"]);
    service.scheduler = ctl::config::Scheduler::Maglev;
    let mut bed = Bed::new(1, FLOWS as usize, two_arm(&[service]));
    bed.know_all();
    let mut frame = udp("198.51.100.7:1000", VIP4).frame(WAN, b"12345678");
    // Checksums are updated, not verified, for UDP; zero keeps this test about flows.
    frame[40..42].fill(0);
    let mut sent = 0u32;
    while sent < FLOWS {
        for _ in 0..64 {
            // Source 198.18.0.0/15 (RFC 2544) and a port: a distinct flow each.
            let source = 0xc612_0000 | sent >> 16;
            frame[26..30].copy_from_slice(&source.to_be_bytes());
            frame[34..36].copy_from_slice(&(sent as u16).to_be_bytes());
            frame[24..26].fill(0);
            let checksum = dataplane::wire::checksum::Sum::default().bytes(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            bed.wires[0][0].send(&frame);
            sent += 1;
        }
        bed.turn();
        while let Some(out) = bed.receive(LAN) {
            assert_eq!(&out[36..38], &53u16.to_be_bytes());
        }
    }
    assert_eq!(bed.total(|c| c.forwarded.get()), u64::from(FLOWS));
    assert_eq!(bed.workers[0].pipeline().connections(), FLOWS as usize);
    assert_eq!(bed.drops(), []);
    bed.check_conservation();
    // Each backend has its third, as closely as chance allows.
    for slot in 0..3 {
        let share = bed.counters[0].backends[slot].connections_total.get() as f64 / f64::from(FLOWS);
        assert!((share - 1.0 / 3.0).abs() < 0.003, "{share}");
    }
}
