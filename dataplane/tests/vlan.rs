//! VLANs: one device with several logical ports. The frames are tagged and untagged here by hand.

mod bed;

use bed::{
    ACK, Bed, GATEWAY_MAC, LAN, PORT_MACS, SYN, WAN, mac_of, parse, parse_problem, spec, tcp, two_arm, udp,
};
use ctl::config::{Mode, Protocol};
use dataplane::route::NextHop;
use dataplane::steering::Steering;
use dataplane::verdict::DropReason;
use dataplane::vlan::Place;
use dataplane::wire::ethernet::{self, Mac, ethertype};
use dataplane::wire::{arp, ndp};
use dataplane::worker::{Command, Frame};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The port of the device of [`stick`].
const TRUNK: u8 = 2;
const MAC: Mac = PORT_MACS[0];

/// WAN and LAN of the usual bed as VLANs 100 and 200 of one device, which has `untagged` addresses of its own.
fn stick(workers: u8, queues: (u16, u16), untagged: &[&str]) -> Bed {
    let mut parts = two_arm(&[
        spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
        spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:8080"]),
        spec("2001:db8:a::10", Protocol::Tcp, Mode::FullNat, &["[2001:db8:1::11]:8080"]),
        spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.12"]),
    ]);
    let mut trunk = parts.ports[0].clone();
    trunk.addresses = untagged.iter().map(|address| address.parse().unwrap()).collect();
    parts.ports.push(trunk);
    parts.ports[usize::from(LAN)].mac = MAC;
    let place = |vlan| Place { device: TRUNK, vlan };
    let places = [place(Some(100)), place(Some(200)), place(None)];
    let steering = Arc::new(Steering::keyed(workers, bed::secret()));
    // What stands for the sub-interfaces is dealt full rounds, so that the first worker has the first queue of the device.
    let others = (u16::from(workers), u16::from(workers));
    Bed::placed(&steering, 1000, parts, &[others, others, queues], &places)
}

fn tagged(control: u16, frame: &[u8]) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat()
}

/// The frame without its tag, which is that of `vlan` with priority 0.
#[track_caller]
fn untagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    assert_eq!(frame[12..16], [0x81, 0x00, high, low]);
    [&frame[..12], &frame[16..]].concat()
}

/// Sends what `segment` says on VLAN `vlan`, and returns what leaves on `out`.
#[track_caller]
fn pass(bed: &mut Bed, vlan: u16, segment: bed::Segment, out: u16) -> bed::Left {
    let left = bed.pass(TRUNK, &tagged(0xe000 | vlan, &segment.frame(0, b"hello")), TRUNK);
    let left = parse(&untagged(out, &left));
    assert_eq!((left.from_mac, left.payload.as_slice()), (MAC, &b"hello"[..]));
    left
}

#[test]
fn requests_and_answers_change_from_one_vlan_to_the_other() {
    let mut bed = stick(1, (1, 1), &[]);
    bed.know_all();
    for (client, vip, backend) in [
        ("198.51.100.7:40000", "192.0.2.10:80", "10.1.0.11:8080"),
        ("[2001:db8:ffff::7]:40000", "[2001:db8:a::10]:80", "[2001:db8:1::11]:8080"),
    ] {
        let there = pass(&mut bed, 100, tcp(client, vip, SYN), 200);
        assert_eq!((there.to, there.to_mac), (backend.parse().unwrap(), mac_of(there.to.ip())));
        let answer = bed::Segment { from: there.to, to: there.from, ..tcp(client, vip, SYN | ACK) };
        let back = pass(&mut bed, 200, answer, 100);
        let ends = (vip.parse().unwrap(), client.parse().unwrap(), GATEWAY_MAC);
        assert_eq!((back.from, back.to, back.to_mac), ends);
    }
    let there = pass(&mut bed, 100, udp("198.51.100.7:40000", "192.0.2.20:80"), 200);
    assert_eq!((there.to, there.to_mac), ("192.0.2.20:80".parse().unwrap(), mac_of([10, 1, 0, 12].into())));
    bed.check_conservation();

    // By logical port, and without tags; what the worker counts in all has them.
    let ports = &bed.counters[0].ports;
    let count = |port: u8| {
        let port = &ports[usize::from(port)];
        (port.rx_packets.get(), port.tx_packets.get())
    };
    assert_eq!((count(WAN), count(LAN), count(TRUNK)), ((3, 2), (2, 3), (0, 0)));
    let sum = |counter: fn(&dataplane::counters::PortCounters) -> u64| ports.iter().map(counter).sum::<u64>();
    let tags = 5 * 4;
    assert_eq!(bed.counters[0].rx_bytes.get(), sum(|port| port.rx_bytes.get()) + tags);
    assert_eq!(bed.counters[0].tx_bytes.get(), sum(|port| port.tx_bytes.get()) + tags);
}

#[test]
fn bursts_of_all_ports_mixed_are_sorted() {
    let mut bed = stick(1, (1, 1), &["10.2.0.1/24"]);
    bed.know_all();
    bed.know("10.2.0.9");
    let frame =
        |port: u16| udp(&format!("198.51.100.7:{port}"), "192.0.2.10:80").frame(0, &port.to_be_bytes());
    for n in 0..40 {
        let frame = frame(n);
        // Also without a tag, and with a priority alone.
        let frames = [tagged(100, &frame), frame.clone(), tagged(0xe000, &frame), tagged(300, &frame)];
        bed.wires[0][usize::from(TRUNK)].send(&frames[usize::from(n % 4)]);
    }
    bed.turn();
    let mut seen = Vec::new();
    while let Some(frame) = bed.receive(TRUNK) {
        seen.push(parse(&untagged(200, &frame)).from.port());
    }
    // In order on each logical port.
    let on = |wanted: &[u16]| seen.iter().copied().filter(|n| wanted.contains(&(n % 4))).collect::<Vec<_>>();
    let sent = |wanted: &[u16]| (0..40).filter(|n| wanted.contains(&(n % 4))).collect::<Vec<_>>();
    assert_eq!((on(&[0]), on(&[1, 2]), seen.len()), (sent(&[0]), sent(&[1, 2]), 30));
    assert_eq!(bed.drops(), [("vlan_unknown", 10)]);
    assert_eq!(bed.counters[0].ports[usize::from(TRUNK)].rx_packets.get(), 20);
    // The untagged port sends without a tag.
    let left = bed.pass(TRUNK, &tagged(200, &udp("10.1.0.11:8080", "198.51.100.7:1").frame(0, b"")), TRUNK);
    assert_eq!(parse(&untagged(100, &left)).from, "192.0.2.10:80".parse().unwrap());
    let near = udp("10.2.0.9:7", "192.0.2.10:80");
    bed.pass(TRUNK, &near.frame(0, b"x"), TRUNK);
    let reply = udp("10.1.0.11:8080", "10.2.0.9:7").frame(0, b"y");
    assert_eq!(parse(&bed.pass(TRUNK, &tagged(200, &reply), TRUNK)).payload, b"y");
    bed.check_conservation();
}

#[test]
fn connections_are_handed_over_between_workers_with_their_vlan() {
    // As many queues as workers, and fewer.
    for queues in [(3, 3), (1, 1)] {
        let mut bed = stick(3, queues, &[]);
        bed.know_all();
        for port in 1000..1060 {
            let client = format!("198.51.100.7:{port}");
            let there = pass(&mut bed, 100, tcp(&client, "192.0.2.10:80", SYN), 200);
            assert_eq!(there.to, "10.1.0.11:8080".parse().unwrap());
            let back = pass(&mut bed, 200, tcp("10.1.0.11:8080", &client, SYN | ACK), 100);
            assert_eq!(back.from, "192.0.2.10:80".parse().unwrap());
        }
        assert!(bed.total(|counters| counters.handoffs.get()) > 40);
        assert_eq!(bed.total(|counters| counters.relayed.get()) > 40, queues.1 == 1);
        let sent = |port: u8| bed.total(|counters| counters.ports[usize::from(port)].tx_packets.get());
        assert_eq!((sent(WAN), sent(LAN)), (60, 60));
        bed.check_conservation();
    }
}

#[test]
fn what_waited_for_a_neighbour_leaves_with_its_tag() {
    let mut bed = stick(1, (1, 1), &[]);
    bed.send(TRUNK, &tagged(100, &tcp("198.51.100.7:40000", "192.0.2.10:80", SYN).frame(0, b"hello")));
    assert_eq!((bed.receive(TRUNK), bed.counters[0].held.get()), (None, 1));
    bed.know("10.1.0.11");
    let left = bed.receive(TRUNK).expect("it goes on");
    assert_eq!(parse(&untagged(200, &left)).to, "10.1.0.11:8080".parse().unwrap());
    assert_eq!(bed.counters[0].ports[usize::from(LAN)].tx_packets.get(), 1);
    bed.check_conservation();
}

#[test]
fn what_is_made_here_leaves_with_its_tag() {
    let mut bed = stick(1, (1, 1), &[]);
    bed.know_all();
    let question: Frame = (0..60).collect();
    for (port, vlan) in [(WAN, Some(100)), (LAN, Some(200)), (TRUNK, None)] {
        bed.controls[0].send(Command::Transmit { port, frame: question.clone() }).unwrap();
        bed.turn();
        let left = bed.receive(TRUNK).unwrap();
        assert_eq!(vlan.map_or_else(|| left.clone(), |vlan| untagged(vlan, &left)), question[..]);
    }
    // An ICMP error goes back where the packet came from.
    let late = bed::Segment { hop_limit: 1, ..udp("198.51.100.7:40000", "192.0.2.10:80") };
    let problem = bed.pass(TRUNK, &tagged(100, &late.frame(0, b"late")), TRUNK);
    let problem = parse_problem(&untagged(100, &problem));
    assert_eq!(
        (problem.kind, problem.from, problem.to_mac),
        (11, [10, 0, 0, 2].into(), mac_of(late.from.ip()))
    );
    bed.check_conservation();
}

#[test]
fn frames_of_the_largest_packet_take_four_bytes_more() {
    let mut bed = stick(1, (1, 1), &[]);
    bed.parts.ports[usize::from(LAN)].mtu = 1400;
    bed.parts.generation = 2;
    bed.publish();
    bed.know_all();
    let frame =
        |len: usize| tagged(100, &udp("198.51.100.7:1", "192.0.2.10:80").frame(0, &vec![7; len - 28]));
    let left = bed.pass(TRUNK, &frame(1400), TRUNK);
    assert_eq!(left.len(), 1400 + 14 + 4);
    bed.send(TRUNK, &frame(1401));
    assert_eq!(bed.dropped(DropReason::MtuExceeded), 1);
    bed.check_conservation();
}

fn arp_request(from: (Mac, [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 60];
    ethernet::emit(&mut frame, Mac::BROADCAST, from.0, ethertype::ARP).unwrap();
    let sender = (from.0, Ipv4Addr::from(from.1));
    arp::emit(&mut frame[14..], arp::REQUEST, sender, (Mac::default(), target.into())).unwrap();
    frame
}

#[test]
fn arp_is_answered_on_the_vlan_of_the_address() {
    let mut bed = stick(1, (1, 1), &["10.2.0.1/24"]);
    for (vlan, target, own) in [(100, [10, 0, 0, 2], 100), (200, [10, 1, 0, 1], 200), (0, [10, 2, 0, 1], 0)] {
        let asker = (GATEWAY_MAC, [target[0], target[1], 0, 99]);
        for on in [0, 100, 200] {
            let question = arp_request(asker, target);
            bed.send(TRUNK, &if on == 0 { question } else { tagged(on, &question) });
            let answer = bed.receive(TRUNK);
            assert_eq!(answer.is_some(), on == own, "{target:?} on {on}");
            let Some(answer) = answer else { continue };
            let answer = if vlan == 0 { answer } else { untagged(vlan, &answer) };
            let said = arp::Arp::parse(&answer[14..]).unwrap();
            assert_eq!((said.sender_mac(), said.sender_ip().octets()), (MAC, target));
        }
    }
    assert_eq!(bed.dropped(DropReason::NotForUs), 6);
    bed.check_conservation();
}

#[test]
fn every_sub_interface_answers_for_the_link_local_address() {
    let mut bed = stick(1, (1, 1), &[]);
    let target = bed.parts.ports[0].link_local();
    let group = ndp::solicited_node(target);
    let asker: Ipv6Addr = "fe80::99".parse().unwrap();
    let mut question = vec![0; ndp::FRAME_LEN];
    let to = (Mac::of_ipv6_multicast(group), group);
    ndp::emit(&mut question, ndp::Kind::Solicitation, target, (GATEWAY_MAC, asker), to).unwrap();
    for vlan in [100, 200] {
        let answer = untagged(vlan, &bed.pass(TRUNK, &tagged(vlan, &question), TRUNK));
        assert_eq!((&answer[..6], &answer[6..12]), (&GATEWAY_MAC.0[..], &MAC.0[..]));
        assert_eq!(answer[54], 136, "an advertisement");
    }
    bed.check_conservation();
}

#[test]
fn a_device_with_a_vlan_of_its_own_takes_nothing_else() {
    let mut parts = two_arm(&[spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:8080"])]);
    parts.ports[usize::from(LAN)].mac = PORT_MACS[1];
    let places = [Place { device: WAN, vlan: Some(7) }, Place { device: LAN, vlan: None }];
    let steering = Arc::new(Steering::keyed(1, bed::secret()));
    let mut bed = Bed::placed(&steering, 100, parts, &[], &places);
    bed.know_all();
    let request = udp("198.51.100.7:40000", "192.0.2.10:80").frame(WAN, b"x");
    let left = bed.pass(WAN, &tagged(7, &request), LAN);
    assert_eq!(parse(&left).to, "10.1.0.11:8080".parse().unwrap());
    let reply = udp("10.1.0.11:8080", "198.51.100.7:40000").frame(LAN, b"y");
    assert_eq!(parse(&untagged(7, &bed.pass(LAN, &reply, WAN))).payload, b"y");
    bed.send(WAN, &request);
    bed.send(WAN, &tagged(8, &request));
    assert_eq!(bed.drops(), [("vlan_unknown", 2)]);
    bed.check_conservation();
}

#[test]
fn ports_without_vlans_take_frames_with_a_priority_and_no_other_tags() {
    let mut bed =
        Bed::new(1, 100, two_arm(&[spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:80"])]));
    bed.know_all();
    let frame = udp("198.51.100.7:40000", "192.0.2.10:80").frame(WAN, b"hello");
    // More than a burst.
    for _ in 0..40 {
        bed.wires[0][usize::from(WAN)].send(&tagged(0xa000, &frame));
    }
    bed.turn();
    for _ in 0..40 {
        assert_eq!(parse(&bed.receive(LAN).unwrap()).payload, b"hello");
    }
    let broadcast = arp_request((GATEWAY_MAC, [10, 0, 0, 1]), [10, 0, 0, 2]);
    let answer = bed.pass(WAN, &tagged(0x2000, &broadcast), WAN);
    assert_eq!(answer[12..14], [0x08, 0x06]);
    assert_eq!(bed.drops(), []);
    bed.send(WAN, &tagged(100, &frame));
    bed.send(WAN, &tagged(100, &broadcast));
    bed.send(WAN, &tagged(0, &tagged(0, &frame)));
    bed.send(WAN, &tagged(100, &frame)[..17]);
    assert_eq!(bed.drops(), [("truncated", 1), ("vlan_unknown", 2), ("vlan_nested", 1)]);
    bed.check_conservation();
}

#[test]
fn hostile_tags_are_dropped_each_for_its_reason() {
    let mut bed = stick(1, (1, 1), &[]);
    bed.know_all();
    let frame = udp("198.51.100.7:40000", "192.0.2.10:80").frame(0, b"x");
    let service = |frame: &[u8]| {
        let mut frame = tagged(100, frame);
        frame[12..14].copy_from_slice(&0x88a8u16.to_be_bytes());
        frame
    };
    for (frame, reason) in [
        (tagged(101, &frame), DropReason::VlanUnknown),
        (tagged(4095, &frame), DropReason::VlanUnknown),
        (tagged(100, &tagged(200, &frame)), DropReason::VlanNested),
        (tagged(100, &service(&frame)), DropReason::VlanNested),
        (service(&tagged(100, &frame)), DropReason::VlanNested),
        (service(&frame), DropReason::VlanNested),
        (tagged(100, &frame)[..14].to_vec(), DropReason::Truncated),
        (tagged(100, &frame)[..17].to_vec(), DropReason::Truncated),
        (tagged(100, &frame)[..18].to_vec(), DropReason::Truncated),
        (frame[..13].to_vec(), DropReason::Truncated),
    ] {
        let before = bed.dropped(reason);
        bed.send(TRUNK, &frame);
        assert_eq!((bed.receive(TRUNK), bed.dropped(reason)), (None, before + 1), "{reason:?}");
    }
    bed.check_conservation();
}

#[test]
fn neighbours_are_those_of_their_vlan() {
    let mut bed = stick(1, (1, 1), &[]);
    // Somebody on VLAN 200 says what its address is: learnt there, though VLAN 100 has the same device.
    let announce = arp_request((mac_of([10, 1, 0, 11].into()), [10, 1, 0, 11]), [10, 1, 0, 11]);
    bed.send(TRUNK, &tagged(100, &announce));
    assert_eq!(bed.notices, []);
    bed.send(TRUNK, &tagged(200, &announce));
    let hop = NextHop { port: LAN, address: [10, 1, 0, 11].into() };
    let mac = mac_of(hop.address);
    assert_eq!(bed.notices, [dataplane::pipeline::Notice::Seen { hop, mac, solicited: false }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_arrives_is_accounted_for(
        frames in proptest::collection::vec(
            (0usize..4, any::<u16>(), 0usize..60, proptest::collection::vec(any::<u8>(), 0..40)),
            1..80,
        ),
    ) {
        let mut bed = stick(2, (2, 2), &["10.2.0.1/24"]);
        bed.know_all();
        let good = udp("198.51.100.7:40000", "192.0.2.10:80").frame(0, b"payload");
        for (kind, control, cut, noise) in &frames {
            let frame = match kind {
                0 => tagged(*control % 512, &good),
                1 => tagged(100, &good[..good.len().min(12 + cut)]),
                2 => tagged(*control, &tagged(*control, &good)),
                _ => [&good[..12], noise.as_slice()].concat(),
            };
            bed.wires[usize::from(*control % 2)][usize::from(TRUNK)].send(&frame);
        }
        bed.turn();
        while bed.receive(TRUNK).is_some() {}
        prop_assert_eq!(bed.total(|counters| counters.rx_packets.get()), frames.len() as u64);
        bed.check_conservation();
    }
}
