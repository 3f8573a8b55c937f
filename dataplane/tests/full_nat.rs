//! `full-nat`: source and destination rewritten, answers to the balancer's own address, whichever worker they arrive at.

mod bed;

use bed::{
    ACK, Bed, FIN, LAN, Left, RST, SYN, Segment, ServiceSpec, WAN, nic, parse, spec, steering, tcp, two_arm,
    udp,
};
use ctl::config::{Mode, Ports, Protocol};
use dataplane::flow::FlowKey;
use dataplane::steering::{Steering, deal};
use dataplane::verdict::DropReason;
use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice, icmpv4, icmpv6};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

const VIP4: &str = "192.0.2.30:80";
const VIP6: &str = "[2001:db8:a::30]:80";
const LOCAL4: &str = "10.1.0.1";
const LOCAL6: &str = "2001:db8:1::1";

fn services(backends: usize) -> Vec<ServiceSpec> {
    let v4 = &["10.1.0.11:8080", "10.1.0.12:8080"][..backends];
    let v6 = &["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080"][..backends];
    let service = |protocol, (vip, backends)| spec(vip, protocol, Mode::FullNat, backends);
    let ends = [("192.0.2.30", v4), ("2001:db8:a::30", v6)];
    [Protocol::Tcp, Protocol::Udp]
        .iter()
        .flat_map(|&protocol| ends.map(|end| service(protocol, end)))
        .collect()
}

/// One worker with few local ports.
fn narrow(backends: usize, first: u16, last: u16) -> Bed {
    let ports = Ports::new(first, last).unwrap();
    let steering = Arc::new(Steering::keyed(1, bed::secret()).with_local_ports(ports));
    let mut bed = Bed::steered(&steering, 1000, two_arm(&services(backends)), &[]);
    bed.know_all();
    bed
}

/// The first segment of the client on `port`, as the backend sees it; `None` if it does not get there.
fn open(bed: &mut Bed, port: u16) -> Option<Left> {
    bed.send(WAN, &tcp(&format!("198.51.100.7:{port}"), VIP4, SYN).frame(WAN, b""));
    bed.receive(LAN).map(|frame| parse(&frame))
}

/// Clients speak with backends, `arrives` names the worker that a packet comes to by its port and ends.
fn converse(
    bed: &mut Bed,
    clients: u16,
    mut arrives: impl FnMut(u8, SocketAddr, SocketAddr) -> usize,
) -> Result<(), TestCaseError> {
    let mut deliver = |bed: &mut Bed, port: u8, segment: Segment, out: u8| {
        let worker = arrives(port, segment.from, segment.to);
        bed.wires[worker][usize::from(port)].send(&segment.frame(port, b"payload"));
        bed.turn();
        let frame = bed.receive(out).unwrap_or_else(|| panic!("lost: {:?}", bed.drops()));
        parse(&frame)
    };
    let mut live: HashMap<(bool, SocketAddr, SocketAddr), String> = HashMap::new();
    for number in 0..clients {
        let (v6, is_tcp, host, port) = (number % 2 == 1, number % 4 < 2, number % 5 + 1, 1000 + number);
        let (from, vip, local) = if v6 {
            (format!("[2001:db8:ffff::{host}]:{port}"), VIP6, LOCAL6)
        } else {
            (format!("198.51.100.{host}:{port}"), VIP4, LOCAL4)
        };
        let request = |flags| if is_tcp { tcp(&from, vip, flags) } else { udp(&from, vip) };
        let out = deliver(bed, WAN, request(SYN), LAN);
        prop_assert_eq!(out.from.ip(), local.parse::<IpAddr>().unwrap());
        prop_assert!((1024..=64_511).contains(&out.from.port()));
        let other = live.insert((is_tcp, out.to, out.from), from.clone());
        prop_assert!(other.is_none(), "{} and {:?} share {} towards {}", from, other, out.from, out.to);
        for flags in [SYN | ACK, ACK, ACK] {
            let tcp = is_tcp.then_some(flags);
            let answer = Segment { from: out.to, to: out.from, tcp, hop_limit: 64 };
            let back = deliver(bed, LAN, answer, WAN);
            prop_assert_eq!((back.from.to_string(), back.to.to_string()), (vip.to_owned(), from.clone()));
            prop_assert_eq!(&back.payload, b"payload");
            let again = deliver(bed, WAN, request(ACK), LAN);
            prop_assert_eq!((again.from, again.to), (out.from, out.to));
        }
    }
    prop_assert_eq!(bed.drops(), vec![]);
    bed.check_conservation();
    let connections: usize = bed.workers.iter().map(|worker| worker.pipeline().connections()).sum();
    prop_assert_eq!(connections, usize::from(clients), "one entry a connection");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No two live connections share a key of answers, and every answer finds its connection.
    #[test]
    fn answers_find_their_connection_wherever_they_arrive(
        workers in 1u8..=6, kind in 0u8..3, rx in 1u16..4, tx in 1u16..4, seed: u32,
    ) {
        let queues = [(rx.min(workers.into()), tx.min(workers.into())); 2];
        let mut bed = Bed::steered(&steering(kind, workers), 1000, two_arm(&services(2)), &queues);
        bed.know_all();
        let dealt = deal::deal(workers, &queues);
        let mut next = seed;
        converse(&mut bed, 60, |port, _, _| {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let receivers = &dealt[usize::from(port)].receivers;
            receivers[(next >> 16) as usize % receivers.len()].into()
        })?;
    }
}

#[test]
fn a_port_whose_hash_is_known_delivers_everything_to_the_owner() {
    for (workers, kind) in [(2, 1), (2, 2), (3, 1), (3, 2), (6, 1), (6, 2)] {
        let mut bed = Bed::steered(&steering(kind, workers), 1000, two_arm(&services(2)), &[]);
        bed.know_all();
        let nic = nic(workers);
        let end = |address: SocketAddr| (address.ip(), address.port());
        let arrives = |port, from, to| -> usize {
            match (kind, port) {
                (1, WAN) => nic.by_one_end(end(from)),
                (1, _) => nic.by_one_end(end(to)),
                _ => nic.by_both_ends(end(from), end(to)),
            }
            .into()
        };
        converse(&mut bed, 200, arrives).unwrap();
        assert_eq!(bed.total(|c| c.handoffs.get()), 0);
        let shares: Vec<usize> = bed.workers.iter().map(|worker| worker.pipeline().connections()).collect();
        assert!(shares.iter().all(|&share| share > 100 / usize::from(workers)), "{shares:?}");
    }
}

#[test]
fn one_port_serves_every_backend_protocol_and_family() {
    let mut bed = narrow(2, 5000, 5000);
    let backends: Vec<SocketAddr> = (0..2)
        .map(|n| {
            let out = open(&mut bed, 1000 + n).unwrap();
            assert_eq!(out.from.to_string(), "10.1.0.1:5000");
            out.to
        })
        .collect();
    assert_ne!(backends[0], backends[1]);
    for n in 0..2 {
        let out = parse(&bed.pass(WAN, &udp(&format!("198.51.100.7:{n}"), VIP4).frame(WAN, b""), LAN));
        assert_eq!(out.from.to_string(), "10.1.0.1:5000");
        let out = parse(&bed.pass(WAN, &udp(&format!("[2001:db8:ffff::7]:{n}"), VIP6).frame(WAN, b""), LAN));
        assert_eq!(out.from.to_string(), "[2001:db8:1::1]:5000");
    }
    assert_eq!(bed.drops(), []);
}

#[test]
fn ports_run_out_at_the_last_and_the_client_is_told() {
    let mut bed = narrow(1, 5000, 5003);
    let mut ports: Vec<u16> = (0..4).map(|n| open(&mut bed, 1000 + n).unwrap().from.port()).collect();
    ports.sort_unstable();
    assert_eq!(ports, [5000, 5001, 5002, 5003]);
    assert_eq!(open(&mut bed, 1004), None);
    let frame = bed.receive(WAN).expect("an answer");
    let reset = parse(&frame);
    assert_eq!((reset.from.to_string().as_str(), reset.to.to_string().as_str()), (VIP4, "198.51.100.7:1004"));
    match SlicedPacket::from_ethernet(&frame).unwrap().transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert!(tcp.rst() && tcp.ack() && !tcp.syn());
            assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0, 1001));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bed.drops(), [("local_ports_exhausted", 1)]);
    assert_eq!(bed.total(|c| c.generated.get()), 1);
    bed.check_conservation();
}

#[test]
fn datagrams_without_a_port_are_answered_by_icmp() {
    let mut bed = narrow(1, 5000, 5000);
    let largest = [7; 1400];
    for (from, vip, payload, quoted_most) in [
        ("198.51.100.7", VIP4, &b"x"[..], 548),
        ("198.51.100.7", VIP4, &largest[..], 548),
        ("[2001:db8:ffff::7]", VIP6, &b"x"[..], 1232),
        ("[2001:db8:ffff::7]", VIP6, &largest[..], 1232),
    ] {
        bed.send(WAN, &udp(&format!("{from}:1000"), vip).frame(WAN, b"x"));
        while bed.receive(LAN).is_some() {}
        let refused = udp(&format!("{from}:1001"), vip).frame(WAN, payload);
        let frame = bed.pass(WAN, &refused, WAN);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let quoted = match packet.transport.as_ref().unwrap() {
            TransportSlice::Icmpv4(icmp) => {
                let host = icmpv4::DestUnreachableHeader::Host;
                assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(host));
                assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
                icmp.payload().to_vec()
            }
            TransportSlice::Icmpv6(icmp) => {
                let address = icmpv6::DestUnreachableCode::Address;
                assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(address));
                let ends = ["2001:db8:a::30", "2001:db8:ffff::7"];
                let [from, to] = ends.map(|end| end.parse::<Ipv6Addr>().unwrap().octets());
                assert!(icmp.is_checksum_valid(from, to));
                icmp.payload().to_vec()
            }
            other => panic!("{other:?}"),
        };
        let whole = &refused[14..];
        assert_eq!(quoted, whole[..whole.len().min(quoted_most)]);
    }
    assert_eq!(bed.drops(), [("local_ports_exhausted", 4)]);
    bed.check_conservation();
}

#[test]
fn a_port_rests_until_its_connection_is_forgotten() {
    let mut bed = narrow(1, 5000, 5001);
    let first = open(&mut bed, 1000).unwrap();
    let second = open(&mut bed, 1001).unwrap();
    assert_ne!(first.from, second.from);
    // The first is established, and closed by both sides.
    let answer = |flags| Segment { from: first.to, to: first.from, tcp: Some(flags), hop_limit: 64 };
    let say = |flags| tcp("198.51.100.7:1000", VIP4, flags);
    bed.pass(LAN, &answer(SYN | ACK).frame(LAN, b""), WAN);
    bed.pass(WAN, &say(ACK).frame(WAN, b""), LAN);
    bed.pass(LAN, &answer(ACK).frame(LAN, b""), WAN);
    bed.pass(WAN, &say(FIN | ACK).frame(WAN, b""), LAN);
    bed.pass(LAN, &answer(FIN | ACK).frame(LAN, b""), WAN);
    bed.pass(WAN, &say(ACK).frame(WAN, b""), LAN);
    // The backend remembers it for a while, and so does its port.
    assert_eq!(open(&mut bed, 1002), None);
    assert_eq!(bed.dropped(DropReason::LocalPortsExhausted), 1);
    for _ in 0..130 {
        bed.now += 1000;
        bed.turn();
    }
    assert_eq!(open(&mut bed, 1003).unwrap().from.ip().to_string(), LOCAL4);
    bed.check_conservation();
}

#[test]
fn ports_are_taken_in_turn() {
    let mut bed = narrow(1, 5000, 5009);
    let mut last = open(&mut bed, 1000).unwrap().from.port();
    for n in 1..25 {
        // Long enough for a handshake that was not finished to be forgotten.
        for _ in 0..70 {
            bed.now += 1000;
            bed.turn();
        }
        let port = open(&mut bed, 1000 + n).unwrap().from.port();
        assert_eq!(port, 5000 + (last - 5000 + 1) % 10, "the next one, not the one that just became free");
        last = port;
    }
}

#[test]
fn more_addresses_mean_more_connections() {
    let ports = Ports::new(5000, 5001).unwrap();
    let steering = Arc::new(Steering::keyed(1, bed::secret()).with_local_ports(ports));
    let mut parts = two_arm(&services(1));
    let locals: Arc<[IpAddr]> = (50..53).map(|n| IpAddr::from([10, 1, 0, n])).collect();
    parts.local_addresses[0] = Arc::clone(&locals);
    let mut bed = Bed::steered(&steering, 1000, parts, &[]);
    bed.know_all();
    let mut ends: Vec<SocketAddr> = (0..6).map(|n| open(&mut bed, 1000 + n).unwrap().from).collect();
    ends.sort_unstable();
    ends.dedup();
    assert_eq!(ends.len(), 6);
    assert!(locals.iter().all(|local| ends.iter().filter(|end| end.ip() == *local).count() == 2));
    assert_eq!(open(&mut bed, 1006), None);
    while bed.receive(WAN).is_some() {}
    // They are ours on that link, and there alone: who asks for their hardware address gets it.
    let mut request = vec![0xff; 6];
    request.extend([2, 0, 0, 0, 1, 11, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 11, 10, 1, 0, 11]);
    request.extend([0, 0, 0, 0, 0, 0, 10, 1, 0, 51]);
    assert_eq!(bed.pass(LAN, &request, LAN)[28..32], [10, 1, 0, 51]);
    bed.send(WAN, &request);
    assert_eq!(bed.dropped(DropReason::NotForUs), 1);
}

#[test]
fn a_connection_that_was_never_translated_is_reset() {
    let mut bed = narrow(1, 5000, 5009);
    let frame = bed.pass(WAN, &tcp("198.51.100.7:1000", VIP4, ACK).frame(WAN, b"data"), WAN);
    match SlicedPacket::from_ethernet(&frame).unwrap().transport {
        // Where the client expects the next byte: it acknowledged none.
        Some(TransportSlice::Tcp(tcp)) => assert!(tcp.rst() && !tcp.ack() && tcp.sequence_number() == 0),
        other => panic!("{other:?}"),
    }
    // Never a reset for a reset.
    bed.send(WAN, &tcp("198.51.100.7:1000", VIP4, RST).frame(WAN, b""));
    bed.send(WAN, &tcp("198.51.100.7:1000", VIP4, RST | ACK).frame(WAN, b""));
    assert_eq!(bed.receive(WAN), None);
    assert_eq!(bed.drops(), [("no_connection", 3)]);
    bed.check_conservation();
}

#[test]
fn answers_to_nobody_are_dropped_once() {
    let mut bed = Bed::steered(&steering(0, 3), 100, two_arm(&services(1)), &[]);
    bed.know_all();
    for port in [22, 1023, 1024, 1025, 1026, 64_511] {
        bed.send(LAN, &tcp("10.1.0.11:8080", &format!("{LOCAL4}:{port}"), ACK).frame(LAN, b""));
    }
    assert_eq!(bed.drops(), [("no_service", 6)]);
    // What is nobody's local port is asked of nobody.
    assert!(bed.total(|c| c.handoffs.get()) <= 4);
    bed.check_conservation();
}

#[test]
fn an_entry_knows_its_local_end() {
    let mut bed = narrow(1, 5000, 5000);
    open(&mut bed, 1000).unwrap();
    let pipeline = bed.workers[0].pipeline();
    let entry = pipeline.listing_v4(0..pipeline.listing_len().0).next().expect("an entry");
    assert_eq!(entry.keys[1].destination(), (LOCAL4.parse().unwrap(), 5000));
}
