//! What the balancer answers itself: ARP, neighbour discovery, echo.

mod bed;

use bed::{Bed, GATEWAY_MAC, LAN, PORT_MACS, WAN, mac_of, spec, two_arm};
use ctl::config::{Mode, Protocol};
use dataplane::pipeline::Notice;
use dataplane::route::NextHop;
use dataplane::verdict::DropReason;
use dataplane::wire::ethernet::{self, Mac, ethertype};
use dataplane::wire::{arp, ndp};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn bed() -> Bed {
    Bed::new(
        1,
        100,
        two_arm(&[
            spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
            spec("2001:db8:a::10", Protocol::Tcp, Mode::Nat, &["[2001:db8:1::11]:8080"]),
        ]),
    )
}

fn arp_frame(operation: u16, sender: (Mac, &str), target: (Mac, &str), to: Mac) -> Vec<u8> {
    let mut frame = vec![0; ethernet::LEN + arp::LEN];
    ethernet::emit(&mut frame, to, sender.0, ethertype::ARP).unwrap();
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    arp::emit(&mut frame[14..], operation, (sender.0, address(sender.1)), (target.0, address(target.1)))
        .unwrap();
    frame
}

const NOBODY: Mac = Mac([0; 6]);

#[test]
fn arp_is_answered_for_the_ports_own_address_and_vips_only() {
    let mut bed = bed();
    for (port, target, answered) in [
        (WAN, "10.0.0.2", true),
        (WAN, "192.0.2.10", true),
        (LAN, "192.0.2.10", true),
        (LAN, "10.1.0.1", true),
        (WAN, "10.1.0.1", false),
        (WAN, "10.0.0.77", false),
    ] {
        let asker = (GATEWAY_MAC, if port == WAN { "10.0.0.1" } else { "10.1.0.9" });
        bed.send(port, &arp_frame(arp::REQUEST, asker, (NOBODY, target), Mac::BROADCAST));
        let answer = bed.receive(port);
        assert_eq!(answer.is_some(), answered, "{target} on {port}");
        if let Some(frame) = answer {
            let mine = PORT_MACS[usize::from(port)];
            let expected = arp_frame(arp::REPLY, (mine, target), asker, GATEWAY_MAC);
            assert_eq!(frame[..42], expected);
        }
    }
    assert_eq!(bed.dropped(DropReason::NotForUs), 2);
    bed.check_conservation();
}

#[test]
fn arp_teaches_who_is_on_the_link() {
    let mut bed = bed();
    let mac = mac_of([10, 0, 0, 9].into());
    let hop = NextHop { port: WAN, address: [10, 0, 0, 9].into() };
    bed.send(WAN, &arp_frame(arp::REQUEST, (mac, "10.0.0.9"), (NOBODY, "10.0.0.2"), Mac::BROADCAST));
    bed.send(WAN, &arp_frame(arp::REPLY, (mac, "10.0.0.9"), (PORT_MACS[0], "10.0.0.2"), PORT_MACS[0]));
    bed.send(WAN, &arp_frame(arp::REQUEST, (mac, "10.0.0.9"), (NOBODY, "10.0.0.9"), Mac::BROADCAST));
    let seen = |solicited| Notice::Seen { hop, mac, solicited };
    assert_eq!(bed.notices, [seen(false), seen(true), seen(false)]);
    // Not on that link, or not somebody: nothing is learnt.
    bed.notices.clear();
    bed.send(WAN, &arp_frame(arp::REPLY, (mac, "10.1.0.9"), (PORT_MACS[0], "10.0.0.2"), PORT_MACS[0]));
    bed.send(
        WAN,
        &arp_frame(arp::REPLY, (Mac::BROADCAST, "10.0.0.9"), (PORT_MACS[0], "10.0.0.2"), PORT_MACS[0]),
    );
    bed.send(WAN, &arp_frame(arp::REQUEST, (mac, "0.0.0.0"), (NOBODY, "10.0.0.2"), Mac::BROADCAST));
    assert_eq!(bed.notices, []);
    // One of ours.
    bed.send(WAN, &arp_frame(arp::REPLY, (mac, "192.0.2.10"), (PORT_MACS[0], "10.0.0.2"), PORT_MACS[0]));
    assert_eq!(bed.notices, [Notice::Conflict { port: WAN, address: [192, 0, 2, 10].into(), mac }]);
    bed.check_conservation();
}

#[test]
fn solicitations_are_answered() {
    let mut bed = bed();
    let mac = mac_of([10, 0, 0, 9].into());
    let asker: Ipv6Addr = "2001:db8::9".parse().unwrap();
    let link_local = "fe80::ff:fe00:1".to_string();
    for target in ["2001:db8::2", "2001:db8:a::10", link_local.as_str()] {
        let target: Ipv6Addr = target.parse().unwrap();
        let group = ndp::solicited_node(target);
        let mut frame = vec![0; ndp::FRAME_LEN];
        ndp::emit(
            &mut frame,
            ndp::Kind::Solicitation,
            target,
            (mac, asker),
            (Mac::of_ipv6_multicast(group), group),
        )
        .unwrap();
        bed.send(WAN, &frame);
        let answer = bed.receive(WAN).unwrap_or_else(|| panic!("{target}: {:?}", bed.drops()));
        let mut expected = vec![0; ndp::FRAME_LEN];
        let flags = ndp::Kind::Advertisement(ndp::flag::SOLICITED | ndp::flag::OVERRIDE);
        ndp::emit(&mut expected, flags, target, (PORT_MACS[0], target), (mac, asker)).unwrap();
        assert_eq!(answer, expected);
    }
    let hop = NextHop { port: WAN, address: asker.into() };
    assert_eq!(bed.notices[0], Notice::Seen { hop, mac, solicited: false });
    let stranger: Ipv6Addr = "2001:db8::99".parse().unwrap();
    let mut frame = vec![0; ndp::FRAME_LEN];
    ndp::emit(&mut frame, ndp::Kind::Solicitation, stranger, (mac, asker), (PORT_MACS[0], stranger)).unwrap();
    bed.send(WAN, &frame);
    assert_eq!((bed.receive(WAN), bed.dropped(DropReason::NotForUs)), (None, 1));
    bed.check_conservation();
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let mut bed = bed();
    let mac = Mac([6; 6]);
    let target: Ipv6Addr = "2001:db8:a::10".parse().unwrap();
    // RFC 4862 section 5.4.2: from the unspecified address, without the option.
    let group = ndp::solicited_node(target);
    let builder = PacketBuilder::ethernet2([2, 6, 6, 6, 6, 6], Mac::of_ipv6_multicast(group).0)
        .ipv6([0; 16], group.octets(), 255)
        .icmpv6(Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] });
    let mut frame = Vec::new();
    builder.write(&mut frame, &target.octets()).unwrap();
    bed.send(WAN, &frame);
    let answer = bed.receive(WAN).unwrap_or_else(|| panic!("{:?}", bed.drops()));
    assert_eq!(&answer[..6], &[0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(answer[54], 136);
    assert_eq!(bed.notices, []);
    let _ = mac;
}

proptest! {
    #[test]
    fn echo_is_answered_with_the_same_bytes(id: u16, sequence: u16, ttl in 1u8.., payload in proptest::collection::vec(any::<u8>(), 0..1400), vip: bool) {
        let mut bed = bed();
        let target = if vip { [192, 0, 2, 10] } else { [10, 0, 0, 2] };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(GATEWAY_MAC.0, PORT_MACS[0].0)
            .ipv4([198, 51, 100, 7], target, ttl)
            .icmpv4_echo_request(id, sequence)
            .write(&mut frame, &payload)
            .unwrap();
        let answer = bed.pass(WAN, &frame, WAN);
        prop_assert_eq!(&answer[..12], &[GATEWAY_MAC.0, PORT_MACS[0].0].concat());
        let packet = SlicedPacket::from_ethernet(&answer).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("IPv4") };
        let header = ip.header().to_header();
        prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
        prop_assert_eq!((header.source, header.destination, header.time_to_live), (target, [198, 51, 100, 7], 64));
        let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("ICMP") };
        let header = icmp.header();
        let Icmpv4Type::EchoReply(echo) = &header.icmp_type else { panic!("{header:?}") };
        prop_assert_eq!((echo.id, echo.seq), (id, sequence));
        prop_assert_eq!(icmp.payload(), &payload[..]);
        prop_assert_eq!(header.icmp_type.calc_checksum(icmp.payload()), header.checksum);
        bed.check_conservation();
    }

    #[test]
    fn echo_over_ipv6_likewise(id: u16, sequence: u16, payload in proptest::collection::vec(any::<u8>(), 0..1400)) {
        let mut bed = bed();
        let (client, target): (Ipv6Addr, Ipv6Addr) = ("2001:db8:ffff::7".parse().unwrap(), "2001:db8:a::10".parse().unwrap());
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(GATEWAY_MAC.0, PORT_MACS[0].0)
            .ipv6(client.octets(), target.octets(), 9)
            .icmpv6_echo_request(id, sequence)
            .write(&mut frame, &payload)
            .unwrap();
        let answer = bed.pass(WAN, &frame, WAN);
        let packet = SlicedPacket::from_ethernet(&answer).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("ICMPv6") };
        prop_assert!(icmp.is_checksum_valid(target.octets(), client.octets()));
        let Icmpv6Type::EchoReply(echo) = icmp.icmp_type() else { panic!("{icmp:?}") };
        prop_assert_eq!((echo.id, echo.seq), (id, sequence));
        prop_assert_eq!(icmp.payload(), &payload[..]);
        bed.check_conservation();
    }
}

#[test]
fn echo_to_others_or_broken_is_not_answered() {
    let mut bed = bed();
    let echo = |target: [u8; 4]| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(GATEWAY_MAC.0, PORT_MACS[0].0)
            .ipv4([198, 51, 100, 7], target, 64)
            .icmpv4_echo_request(1, 1)
            .write(&mut frame, b"payload")
            .unwrap();
        frame
    };
    bed.send(WAN, &echo([203, 0, 113, 1]));
    let mut broken = echo([192, 0, 2, 10]);
    broken[45] ^= 1;
    bed.send(WAN, &broken);
    assert_eq!((bed.receive(WAN), bed.drops()), (None, vec![("icmp_malformed", 1), ("icmp_unrelated", 1)]));
    bed.check_conservation();
}
