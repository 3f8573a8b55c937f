//! Tunnels through the whole pipeline: whichever worker receives, through changes of configuration, with a full table.

mod bed;

use bed::{ACK, Bed, LAN, SYN, Segment, WAN, spec, tcp, tunnelled, two_arm, udp};
use ctl::config::{Mode, Protocol, Tunnel};
use dataplane::verdict::DropReason;
use std::collections::HashSet;

const CLIENT: &str = "198.51.100.7:40000";
const VIP: &str = "192.0.2.10:80";
const BACKENDS: [&str; 3] = ["10.1.0.11", "10.1.0.12", "2001:db8:1::11"];

fn bed(workers: usize, max_connections: usize, kind: (Tunnel, bool)) -> Bed {
    let sources = ["10.1.0.65", "10.1.0.66", "2001:db8:1::65", "2001:db8:1::66"];
    let service = |protocol| tunnelled("192.0.2.10", protocol, kind, &sources, &BACKENDS);
    let mut bed =
        Bed::new(workers, max_connections, two_arm(&[service(Protocol::Tcp), service(Protocol::Udp)]));
    bed.know_all();
    bed
}

/// The inner packet as a frame of its own, the outer source and the backend.
fn opened(frame: &[u8], layer: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (source, destination, inner) =
        if frame[12..14] == [8, 0] { (26..30, 30..34, 34) } else { (22..38, 38..54, 54) };
    let ethertype: &[u8] = if frame[inner + layer] >> 4 == 4 { &[8, 0] } else { &[0x86, 0xdd] };
    let inside = [&frame[..12], ethertype, &frame[inner + layer..]].concat();
    (inside, frame[source].to_vec(), frame[destination].to_vec())
}

#[test]
fn a_flow_keeps_its_backend_and_its_outer_source_on_every_worker() {
    for workers in 1..5 {
        let mut bed = bed(workers, 1000, (Tunnel::Gre, true));
        let mut sources = HashSet::new();
        for client in 0..40u16 {
            let from = format!("198.51.100.{}:{}", client % 5 + 1, 1000 + client);
            let mut seen = HashSet::new();
            for (n, flags) in [SYN, ACK, ACK, ACK].into_iter().enumerate() {
                let frame = tcp(&from, VIP, flags).frame(WAN, b"payload");
                bed.wires[(usize::from(client) + n) % workers][usize::from(WAN)].send(&frame);
                bed.turn();
                let (inner, source, backend) = opened(&bed.receive(LAN).expect("encapsulated"), 4);
                let left = bed::parse(&inner);
                assert_eq!(
                    (left.from.to_string(), left.to.to_string(), left.hop_limit),
                    (from.clone(), VIP.into(), 63)
                );
                sources.insert(source.clone());
                seen.insert((source, backend));
            }
            assert_eq!(seen.len(), 1, "one backend and one outer source for {from}");
        }
        assert_eq!(sources.len(), 4);
        assert_eq!(bed.drops(), []);
        bed.check_conservation();
    }
}

#[test]
fn connections_follow_a_change_of_tunnel() {
    let mut bed = bed(1, 100, (Tunnel::Gre, true));
    let syn = tcp(CLIENT, VIP, SYN).frame(WAN, b"");
    let before = bed.pass(WAN, &syn, LAN);
    assert_eq!(before[23], 47);
    let (_, _, backend) = opened(&before, 4);
    // Without a tunnel it is the frame itself that goes to the backend.
    let tunnels = std::mem::take(&mut bed.parts.tunnels);
    bed.parts.generation += 1;
    bed.publish();
    let ack = tcp(CLIENT, VIP, ACK).frame(WAN, b"");
    let plain = bed.pass(WAN, &ack, LAN);
    assert_eq!(bed::parse(&plain).to.to_string(), VIP);
    assert_eq!(plain.len(), ack.len());
    bed.parts.tunnels = tunnels;
    bed.parts.generation += 1;
    bed.publish();
    assert_eq!(opened(&bed.pass(WAN, &ack, LAN), 4).2, backend);
    bed.check_conservation();
}

#[test]
fn l3dsr_readdresses_every_packet_of_a_connection() {
    let kind = (Tunnel::L3dsr, true);
    for (vip, client, backend) in [
        ("192.0.2.10", CLIENT, "10.1.0.11"),
        ("2001:db8:a::10", "[2001:db8:ffff::7]:40000", "2001:db8:1::11"),
    ] {
        for workers in 1..4 {
            let services =
                [Protocol::Tcp, Protocol::Udp].map(|one| tunnelled(vip, one, kind, &[], &[backend]));
            let mut bed = Bed::new(workers, 1000, two_arm(&services));
            bed.know_all();
            let to = std::net::SocketAddr::new(vip.parse().unwrap(), 80).to_string();
            let segments = [SYN, ACK, ACK].map(|flags| tcp(client, &to, flags));
            for (n, segment) in segments.into_iter().chain([udp(client, &to), udp(client, &to)]).enumerate() {
                let frame = segment.frame(WAN, b"payload");
                bed.wires[n % workers][usize::from(WAN)].send(&frame);
                bed.turn();
                let left = bed.receive(LAN).expect("readdressed");
                assert_eq!(left.len(), frame.len());
                let class = if left[14] >> 4 == 4 { left[15] } else { left[14] << 4 | left[15] >> 4 };
                assert_eq!(class >> 2, bed::DSCP);
                // Checksums are looked at there.
                let left = bed::parse(&left);
                assert_eq!((left.from.to_string(), left.to.port(), left.hop_limit), (client.into(), 80, 63));
                assert_eq!(left.to.ip().to_string(), backend);
            }
            // No byte more, so no byte less fits.
            let header = if vip.contains(':') { 48 } else { 28 };
            bed.wires[0][usize::from(WAN)].send(&udp(client, &to).frame(WAN, &vec![7; 1500 - header]));
            bed.turn();
            assert_eq!(bed.receive(LAN).expect("the MTU").len(), 1514);
            assert_eq!(bed.drops(), []);
            bed.check_conservation();
        }
    }
}

#[test]
fn a_full_table_does_not_stop_them() {
    let tunnel =
        tunnelled("192.0.2.10", Protocol::Udp, (Tunnel::Gue, true), &[], &["10.1.0.11", "10.1.0.12"]);
    let nat = spec("192.0.2.20", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]);
    let mut bed = Bed::new(1, 4, two_arm(&[tunnel, nat]));
    bed.know_all();
    // Established connections of another service fill the table.
    for port in 0..4 {
        let from = format!("198.51.100.9:{}", 1000 + port);
        let (ask, answer) = (tcp(&from, "192.0.2.20:80", SYN), tcp("10.1.0.11:8080", &from, ACK));
        bed.pass(WAN, &ask.frame(WAN, b""), LAN);
        bed.pass(LAN, &Segment { tcp: Some(SYN | ACK), ..answer }.frame(LAN, b""), WAN);
        bed.pass(WAN, &Segment { tcp: Some(ACK), ..ask }.frame(WAN, b""), LAN);
        bed.pass(LAN, &answer.frame(LAN, b"hello"), WAN);
    }
    for port in 0..20 {
        let from = format!("198.51.100.9:{}", 2000 + port);
        let backends: HashSet<Vec<u8>> = (0..3)
            .map(|_| {
                let (inner, _, backend) = opened(&bed.pass(WAN, &udp(&from, VIP).frame(WAN, b"x"), LAN), 8);
                assert_eq!(bed::parse(&inner).from.to_string(), from);
                backend
            })
            .collect();
        assert_eq!(backends.len(), 1);
    }
    assert_eq!(bed.total(|c| c.stateless.get()), 60);
    assert_eq!(bed.drops(), []);
    bed.check_conservation();
}

#[test]
fn padding_stays_behind_and_what_does_not_fit_is_counted() {
    let mut bed = bed(1, 100, (Tunnel::Ipip, true));
    let mut padded = udp(CLIENT, VIP).frame(WAN, b"");
    let len = padded.len();
    padded.resize(60, 0xaa);
    assert_eq!(bed.pass(WAN, &padded, LAN).len(), len + 20);
    // 1480 bytes and an IPv4 header more are the MTU.
    let largest = udp(CLIENT, VIP).frame(WAN, &[7; 1452]);
    assert_eq!(bed.pass(WAN, &largest, LAN).len(), 1514);
    bed.send(WAN, &udp(CLIENT, VIP).frame(WAN, &[7; 1453]));
    assert_eq!(bed.dropped(DropReason::MtuExceeded), 1);
    bed.check_conservation();
}

#[test]
fn the_balancer_answers_for_its_outer_addresses() {
    let mut bed = bed(1, 100, (Tunnel::Ipip, true));
    let ask = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 1, 11], [0xff; 6]).arp(
        etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            etherparse::EtherType::IPV4,
            etherparse::ArpOperation::REQUEST,
            &[2, 0, 0, 0, 1, 11],
            &[10, 1, 0, 11],
            &[0; 6],
            &[10, 1, 0, 66],
        )
        .unwrap(),
    );
    let mut frame = Vec::new();
    ask.write(&mut frame).unwrap();
    let answer = bed.pass(LAN, &frame, LAN);
    assert_eq!((&answer[22..28], &answer[28..32]), (&bed::PORT_MACS[1].0[..], &[10, 1, 0, 66][..]));
}
