//! The exception path: what the host's kernel gets, how much of it, and what it sends.

mod bed;

use bed::{ACK, Bed, LAN, PORT_MACS, RST, SYN, WAN, parse, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::flow::FIRST_PROBE_PORT;
use dataplane::snapshot::Parts;
use dataplane::verdict::DropReason;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv6Addr};

const RATE: u32 = 10_000;

/// The host has an interface for the WAN port, and none for the LAN port. One service has an address of the port's.
fn parts() -> Parts {
    let mut parts = two_arm(&[
        spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
        spec("10.0.0.2", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
        spec("192.0.2.30", Protocol::Udp, Mode::FullNat, &["10.0.0.77:53"]),
    ]);
    // Backends of full-nat on the WAN, too: their answers come to the port's own address.
    parts.local_addresses[2] = [IpAddr::from([10, 0, 0, 2])].into();
    parts.ports[usize::from(WAN)].host = Some(RATE);
    parts
}

fn bed(workers: usize) -> Bed {
    let mut bed = Bed::new(workers, 100, parts());
    bed.know_all();
    bed
}

/// What the kernel got: port and frame.
fn punted(bed: &mut Bed) -> Vec<(u8, Vec<u8>)> {
    let mut frame = Vec::new();
    let mut all = Vec::new();
    for end in &mut bed.controls {
        while let Some(port) = end.receive_for_host(&mut frame) {
            all.push((port, frame.clone()));
        }
    }
    all
}

/// The kernel gets exactly this frame, and nothing else becomes of it.
#[track_caller]
fn is_punted(bed: &mut Bed, what: &str, frame: &[u8]) {
    let before = bed.total(|counters| counters.punted.get());
    bed.send(WAN, frame);
    assert_eq!(punted(bed), [(WAN, frame.to_vec())], "{what}: {:?}", bed.drops());
    assert_eq!(bed.total(|counters| counters.punted.get()), before + 1, "{what}");
    assert_eq!((bed.receive(WAN), bed.receive(LAN)), (None, None), "{what}");
    bed.check_conservation();
}

/// It is dropped for this reason, and the kernel does not see it.
#[track_caller]
fn is_dropped(bed: &mut Bed, port: u8, reason: DropReason, what: &str, frame: &[u8]) {
    let before = bed.dropped(reason);
    bed.send(port, frame);
    assert_eq!(bed.dropped(reason), before + 1, "{what}: {:?}", bed.drops());
    assert_eq!(punted(bed), [], "{what}");
    bed.check_conservation();
}

const OWN: [u8; 4] = [10, 0, 0, 2];
const NEAR: [u8; 4] = [10, 0, 0, 9];

fn own6() -> [u8; 16] {
    "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets()
}

fn near6() -> [u8; 16] {
    "2001:db8::9".parse::<Ipv6Addr>().unwrap().octets()
}

/// The link-local address of the WAN port.
fn link_local() -> [u8; 16] {
    "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap().octets()
}

type Builder = etherparse::PacketBuilderStep<etherparse::Ethernet2Header>;

fn to_wan() -> Builder {
    PacketBuilder::ethernet2([2, 0, 0, 0, 1, 9], PORT_MACS[usize::from(WAN)].0)
}

fn to_group(mac: [u8; 6]) -> Builder {
    PacketBuilder::ethernet2([2, 0, 0, 0, 1, 9], mac)
}

/// An IPv4 packet with a payload of any protocol.
fn v4(to_mac: [u8; 6], (from, to): ([u8; 4], [u8; 4]), ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    to_group(to_mac).ipv4(from, to, ttl).write(&mut frame, protocol.into(), payload).unwrap();
    frame
}

fn v6(to_mac: [u8; 6], (from, to): ([u8; 16], [u8; 16]), hops: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    to_group(to_mac).ipv6(from, to, hops).write(&mut frame, protocol.into(), payload).unwrap();
    frame
}

const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[test]
fn what_is_for_the_host_goes_to_its_kernel() {
    for workers in [1, 3] {
        let mut bed = bed(workers);
        let far = "198.51.100.7:4000";
        for (what, frame) in [
            ("ssh", tcp(far, "10.0.0.2:22", SYN).frame(WAN, b"")),
            (
                "an answer to the host's own connection",
                tcp("198.51.100.7:443", "10.0.0.2:40000", SYN | ACK).frame(WAN, b""),
            ),
            ("to no listener: the kernel refuses", udp(far, "10.0.0.2:7").frame(WAN, b"?")),
            ("IPv6", tcp("[2001:db8:c::7]:4000", "[2001:db8::2]:22", SYN).frame(WAN, b"")),
            ("link-local", udp("[fe80::9]:546", "[fe80::ff:fe00:1]:547").frame(WAN, b"")),
        ] {
            is_punted(&mut bed, what, &frame);
        }
        // eBGP speaks to its neighbour with one hop (RFC 4271; RFC 5082 is the other extreme).
        let one_hop = bed::Segment { hop_limit: 1, ..tcp("10.0.0.9:4000", "10.0.0.2:179", SYN) };
        is_punted(&mut bed, "eBGP", &one_hop.frame(WAN, b""));
        let one_hop = bed::Segment { hop_limit: 1, ..tcp("[2001:db8::9]:4000", "[2001:db8::2]:179", SYN) };
        is_punted(&mut bed, "eBGP over IPv6", &one_hop.frame(WAN, b""));
        for (protocol, name) in
            [(89, "OSPF"), (112, "VRRP"), (47, "GRE"), (50, "ESP"), (132, "SCTP"), (41, "6in4")]
        {
            is_punted(&mut bed, name, &v4(WAN_MAC, (NEAR, OWN), 64, protocol, &[1; 40]));
            is_punted(&mut bed, name, &v6(WAN_MAC, (near6(), own6()), 64, protocol, &[1; 40]));
        }
    }
}

#[test]
fn routers_of_the_link_are_heard() {
    let mut bed = bed(1);
    let group = |last| [1, 0, 0x5e, 0, 0, last];
    is_punted(&mut bed, "OSPF hello", &v4(group(5), (NEAR, [224, 0, 0, 5]), 1, 89, &[2; 44]));
    is_punted(&mut bed, "VRRP", &v4(group(18), (NEAR, [224, 0, 0, 18]), 255, 112, &[2; 20]));
    is_punted(&mut bed, "IGMP query", &v4(group(1), (NEAR, [224, 0, 0, 1]), 1, 2, &[0x11; 8]));
    let mut rip = Vec::new();
    to_group(group(9)).ipv4(NEAR, [224, 0, 0, 9], 1).udp(520, 520).write(&mut rip, &[2; 24]).unwrap();
    is_punted(&mut bed, "RIP", &rip);
    let fe80 = "fe80::9".parse::<Ipv6Addr>().unwrap().octets();
    let ff02 = |last: u8| {
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0xff, 2, last);
        (address, [0x33, 0x33, 0, 0, 0, last])
    };
    let (to, mac) = ff02(5);
    is_punted(&mut bed, "OSPFv3", &v6(mac, (fe80, to), 1, 89, &[3; 36]));
    let (to, mac) = ff02(18);
    is_punted(&mut bed, "VRRP over IPv6", &v6(mac, (fe80, to), 255, 112, &[3; 24]));
    let (to, mac) = ff02(9);
    let mut rip = Vec::new();
    to_group(mac).ipv6(fe80, to, 255).udp(521, 521).write(&mut rip, &[2; 24]).unwrap();
    is_punted(&mut bed, "RIPng", &rip);
    let (all, mac) = ff02(1);
    let mut query = Vec::new();
    let kind = Icmpv6Type::Unknown { type_u8: 130, code_u8: 0, bytes5to8: [0; 4] };
    to_group(mac).ipv6(fe80, all, 1).icmpv6(kind).write(&mut query, &[0; 16]).unwrap();
    is_punted(&mut bed, "MLD query", &query);
    // Groups of wider scope are streams and the like; broadcasts are nobody's here.
    let wide = v4([1, 0, 0x5e, 1, 1, 1], (NEAR, [239, 1, 1, 1]), 9, 17, &[0; 30]);
    is_dropped(&mut bed, WAN, DropReason::Multicast, "a stream", &wide);
    let broadcast = v4([0xff; 6], (NEAR, [255; 4]), 9, 17, &[0; 30]);
    is_dropped(&mut bed, WAN, DropReason::Multicast, "a broadcast", &broadcast);
    // Advice on routes is not followed.
    for kind in [133, 134] {
        let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
        let mut advice = Vec::new();
        to_group(mac).ipv6(fe80, all, 255).icmpv6(kind).write(&mut advice, &[0; 8]).unwrap();
        is_dropped(&mut bed, WAN, DropReason::Multicast, "router discovery", &advice);
    }
    let mut redirect = Vec::new();
    let kind = Icmpv4Type::Unknown { type_u8: 5, code_u8: 1, bytes5to8: [10, 0, 0, 66] };
    to_wan().ipv4(NEAR, OWN, 64).icmpv4(kind).write(&mut redirect, &[0x45; 28]).unwrap();
    is_dropped(&mut bed, WAN, DropReason::IcmpUnrelated, "a redirect", &redirect);
    // A group's address in a frame for one station, or the other way round, is a trick (RFC 1122 section 3.2.1.3).
    let odd = v4(WAN_MAC, (NEAR, [224, 0, 0, 5]), 9, 89, &[0; 30]);
    is_dropped(&mut bed, WAN, DropReason::UnknownProtocol, "unicast frame, group address", &odd);
    let odd = v4(group(5), (NEAR, OWN), 9, 89, &[0; 30]);
    is_dropped(&mut bed, WAN, DropReason::Multicast, "group frame, own address", &odd);
}

#[test]
fn what_is_known_goes_before() {
    let mut bed = bed(1);
    // A service on the port's own address takes its port of it.
    let forwarded = parse(&bed.pass(WAN, &tcp("198.51.100.7:4000", "10.0.0.2:80", SYN).frame(WAN, b""), LAN));
    assert_eq!(forwarded.to, "10.1.0.11:8080".parse().unwrap());
    let back = tcp("10.1.0.11:8080", "198.51.100.7:4000", SYN | ACK).frame(LAN, b"");
    assert_eq!(parse(&bed.pass(LAN, &back, WAN)).from, "10.0.0.2:80".parse().unwrap());
    // Without a hop left it is the service's still.
    let last = bed::Segment { hop_limit: 1, ..tcp("198.51.100.7:4000", "10.0.0.2:80", ACK) };
    bed.send(WAN, &last.frame(WAN, b""));
    assert_eq!(bed.dropped(DropReason::HopLimit), 1);
    assert!(bed.receive(WAN).is_some(), "Time Exceeded");
    // So is an answer of full-nat to the port's own address.
    let asked = parse(&bed.pass(WAN, &udp("198.51.100.7:4000", "192.0.2.30:80").frame(WAN, b"a"), WAN));
    let (local, backend) = (asked.from.to_string(), asked.to.to_string());
    assert_eq!((asked.from.ip().to_string().as_str(), backend.as_str()), ("10.0.0.2", "10.0.0.77:53"));
    let answered = parse(&bed.pass(WAN, &udp(&backend, &local).frame(WAN, b"b"), WAN));
    assert_eq!(answered.to, "198.51.100.7:4000".parse().unwrap());
    // And what answers a check.
    let check = tcp("10.0.0.9:80", &format!("10.0.0.2:{FIRST_PROBE_PORT}"), RST).frame(WAN, b"");
    bed.send(WAN, &check);
    assert!(bed.controls[0].receive_answer().is_some());
    // Ping is answered here, at any rate.
    let mut ping = Vec::new();
    to_wan().ipv4(NEAR, OWN, 64).icmpv4_echo_request(7, 1).write(&mut ping, b"x").unwrap();
    for _ in 0..1000 {
        bed.send(WAN, &ping);
        assert!(bed.receive(WAN).is_some());
    }
    assert_eq!(punted(&mut bed), []);
    bed.check_conservation();
}

#[test]
fn an_icmp_message_about_the_hosts_own_packets_reaches_it() {
    for workers in [1, 3] {
        let mut bed = bed(workers);
        for make in [
            |asked: &mut Vec<u8>| {
                PacketBuilder::ipv4(OWN, [198, 51, 100, 7], 64)
                    .tcp(40_000, 443, 1, 9)
                    .write(asked, &[])
                    .unwrap();
            },
            |asked: &mut Vec<u8>| {
                PacketBuilder::ipv4(OWN, [198, 51, 100, 7], 64)
                    .udp(40_000, 53)
                    .write(asked, b"question")
                    .unwrap();
            },
            |asked: &mut Vec<u8>| {
                let ip = PacketBuilder::ipv4(OWN, [198, 51, 100, 7], 1);
                ip.icmpv4_echo_request(7, 1).write(asked, b"traceroute").unwrap();
            },
        ] {
            let mut asked = Vec::new();
            make(&mut asked);
            let mut error = Vec::new();
            let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
            to_wan().ipv4([10, 0, 0, 1], OWN, 64).icmpv4(kind).write(&mut error, &asked).unwrap();
            is_punted(&mut bed, "an error", &error);
            let checksum = 14 + 20 + 2;
            error[checksum] ^= 1;
            is_dropped(&mut bed, WAN, DropReason::IcmpErrorChecksum, "a broken one", &error);
        }
        let mut asked = Vec::new();
        PacketBuilder::ipv6(own6(), near6(), 64).udp(40_000, 53).write(&mut asked, b"question").unwrap();
        let mut error = Vec::new();
        let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
        to_wan().ipv6(near6(), own6(), 64).icmpv6(kind).write(&mut error, &asked).unwrap();
        is_punted(&mut bed, "an error over IPv6", &error);
        let mut answer = Vec::new();
        to_wan().ipv4(NEAR, OWN, 64).icmpv4_echo_reply(7, 1).write(&mut answer, b"x").unwrap();
        is_punted(&mut bed, "an answer to the host's ping", &answer);
        answer[14 + 20 + 2] ^= 1;
        is_dropped(&mut bed, WAN, DropReason::IcmpUnrelated, "a broken one", &answer);
        let mut answer = Vec::new();
        to_wan().ipv6(near6(), link_local(), 64).icmpv6_echo_reply(7, 1).write(&mut answer, b"x").unwrap();
        is_punted(&mut bed, "likewise over IPv6", &answer);
        // About a packet that is no packet of the host's.
        let mut foreign = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 3], NEAR, 64)
            .udp(40_000, 53)
            .write(&mut foreign, b"question")
            .unwrap();
        let mut error = Vec::new();
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
        to_wan().ipv4([10, 0, 0, 1], OWN, 64).icmpv4(kind).write(&mut error, &foreign).unwrap();
        is_dropped(&mut bed, WAN, DropReason::IcmpUnrelated, "about another's packet", &error);
    }
}

#[test]
fn neighbours_are_heard_by_both() {
    let mut bed = bed(1);
    let arp = |operation: u16, sender: [u8; 4], target: [u8; 4]| {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&WAN_MAC);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 9]);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation as u8]);
        frame[22..28].copy_from_slice(&[2, 0, 0, 0, 1, 9]);
        frame[28..32].copy_from_slice(&sender);
        frame[32..38].copy_from_slice(&WAN_MAC);
        frame[38..42].copy_from_slice(&target);
        frame
    };
    is_punted(&mut bed, "an ARP reply", &arp(2, NEAR, OWN));
    is_punted(&mut bed, "an announcement", &arp(1, NEAR, NEAR));
    assert_eq!(bed.notices.len(), 2, "the balancer learns from both");
    // Requests are answered here: the kernel has nothing to add.
    let reply = bed.pass(WAN, &arp(1, NEAR, OWN), WAN);
    assert_eq!((reply[21], &reply[28..32]), (2, &OWN[..]));
    let message = |to: [u8; 6], from: [u8; 16], target: [u8; 16], kind: u8, flags: u8| {
        let mut body = target.to_vec();
        body.extend([2, 1, 2, 0, 0, 0, 1, 9]);
        let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
        let mut frame = Vec::new();
        to_group(to).ipv6(from, own6(), 255).icmpv6(kind).write(&mut frame, &body).unwrap();
        frame
    };
    is_punted(&mut bed, "a neighbour advertisement", &message(WAN_MAC, near6(), near6(), 136, 0x60));
    let mut broken = message(WAN_MAC, near6(), near6(), 136, 0x60);
    broken[60] ^= 1;
    is_dropped(&mut bed, WAN, DropReason::NdpMalformed, "a broken one", &broken);
    bed.send(WAN, &message(WAN_MAC, near6(), own6(), 135, 0));
    assert!(bed.receive(WAN).is_some(), "a solicitation is answered");
    assert_eq!(punted(&mut bed), []);
    // What the kernel cannot have for the limit, the balancer has heard all the same.
    let (consumed, notices) = (bed.total(|counters| counters.consumed.get()), bed.notices.len());
    for _ in 0..300 {
        bed.send(WAN, &arp(2, NEAR, OWN));
    }
    let got = punted(&mut bed).len() as u64;
    assert!((150..=200).contains(&got), "{got}");
    assert_eq!(bed.total(|counters| counters.consumed.get()) - consumed, 300 - got);
    assert_eq!(bed.notices.len() - notices, 300);
    assert_eq!(bed.dropped(DropReason::PuntLimit), 0);
    bed.check_conservation();
}

#[test]
fn without_an_interface_all_stays_as_it_was() {
    let mut bed = bed(1);
    // The LAN port has none, and the host not its addresses; nor does the LAN port give what is for the WAN's.
    let lan = |to: &str| tcp("10.1.0.11:4000", to, SYN).frame(LAN, b"");
    is_dropped(&mut bed, LAN, DropReason::NoService, "the LAN's address", &lan("10.1.0.1:22"));
    is_dropped(&mut bed, LAN, DropReason::NoService, "the WAN's address by the LAN", &lan("10.0.0.2:22"));
    let by_wan = tcp("198.51.100.7:4000", "10.1.0.1:22", SYN).frame(WAN, b"");
    is_dropped(&mut bed, WAN, DropReason::NoService, "the LAN's address by the WAN", &by_wan);
    let by_wan = tcp("198.51.100.7:4000", "192.0.2.10:22", SYN).frame(WAN, b"");
    is_dropped(&mut bed, WAN, DropReason::NoService, "a VIP", &by_wan);
    let mut to_lan = v4(WAN_MAC, ([10, 1, 0, 11], [10, 1, 0, 1]), 64, 89, &[0; 30]);
    to_lan[..6].copy_from_slice(&PORT_MACS[usize::from(LAN)].0);
    is_dropped(&mut bed, LAN, DropReason::UnknownProtocol, "OSPF", &to_lan);
    let hello = v4([1, 0, 0x5e, 0, 0, 5], ([10, 1, 0, 11], [224, 0, 0, 5]), 1, 89, &[2; 44]);
    is_dropped(&mut bed, LAN, DropReason::Multicast, "a hello", &hello);
    // With interfaces for both, either gives what is for the host.
    bed.parts.ports[usize::from(LAN)].host = Some(100);
    bed.parts.generation += 1;
    bed.publish();
    bed.send(LAN, &lan("10.0.0.2:22"));
    assert_eq!(punted(&mut bed), [(LAN, lan("10.0.0.2:22"))], "by the port that it came by");
    // And without, neither.
    for port in &mut bed.parts.ports {
        port.host = None;
    }
    bed.parts.generation += 1;
    bed.publish();
    let ssh = tcp("198.51.100.7:4000", "10.0.0.2:22", SYN).frame(WAN, b"");
    is_dropped(&mut bed, WAN, DropReason::NoService, "ssh", &ssh);
}

#[test]
fn hostile_frames_stay_out() {
    let mut bed = bed(1);
    let good = v4(WAN_MAC, (NEAR, OWN), 64, 89, &[1; 40]);
    let mut broken = good.clone();
    broken[14 + 10] ^= 1;
    is_dropped(&mut bed, WAN, DropReason::IpChecksum, "a wrong checksum", &broken);
    is_dropped(&mut bed, WAN, DropReason::IpTotalLength, "cut short", &good[..50]);
    for source in [[127, 0, 0, 1], [0; 4], [224, 0, 0, 1], [255; 4]] {
        let frame = v4(WAN_MAC, (source, OWN), 64, 89, &[1; 40]);
        is_dropped(&mut bed, WAN, DropReason::IpSource, "nobody's source", &frame);
    }
    // From ourselves, which nothing is that comes by a port.
    for source in [OWN, [10, 1, 0, 1], [192, 0, 2, 10]] {
        let frame = v4(WAN_MAC, (source, OWN), 64, 89, &[1; 40]);
        is_dropped(&mut bed, WAN, DropReason::UnknownProtocol, "our own source", &frame);
    }
    let forged = tcp("192.0.2.10:80", "10.0.0.2:22", SYN).frame(WAN, b"");
    is_dropped(&mut bed, WAN, DropReason::IpSource, "a VIP as its source", &forged);
    let group = [1, 0, 0x5e, 0, 0, 5];
    let mut broken = v4(group, (NEAR, [224, 0, 0, 5]), 1, 89, &[2; 44]);
    broken[14 + 10] ^= 1;
    is_dropped(&mut bed, WAN, DropReason::Multicast, "a hello with a wrong checksum", &broken);
    let own = v4(group, (OWN, [224, 0, 0, 5]), 1, 89, &[2; 44]);
    is_dropped(&mut bed, WAN, DropReason::Multicast, "our own hello, come back", &own);
    let elsewhere = v4([2, 9, 9, 9, 9, 9], (NEAR, OWN), 64, 89, &[1; 40]);
    is_dropped(&mut bed, WAN, DropReason::NotOurMac, "to another station", &elsewhere);
}

#[test]
fn fragments_go_where_the_whole_would() {
    for workers in [1, 3] {
        let mut bed = bed(workers);
        let whole = udp("10.0.0.9:5000", "10.0.0.2:161").frame(WAN, &[7; 1000]);
        let parts = fragments(&whole, 512);
        // In any order.
        for order in [[0, 1], [1, 0]] {
            for at in order {
                bed.send(WAN, &parts[at]);
            }
            let mut got: Vec<Vec<u8>> = punted(&mut bed).into_iter().map(|(_, frame)| frame).collect();
            got.sort();
            let mut want = parts.clone();
            want.sort();
            assert_eq!(got, want, "{workers} workers, {order:?}: {:?}", bed.drops());
        }
        // Of other protocols, nobody looks into them.
        for protocol in [1, 89] {
            let whole = v4(WAN_MAC, (NEAR, OWN), 64, protocol, &[7; 1000]);
            for part in fragments(&whole, 512) {
                is_punted(&mut bed, "a fragment", &part);
            }
        }
        bed.check_conservation();
    }
}

/// Two fragments of a frame, the first with so many bytes of payload.
fn fragments(whole: &[u8], first: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = whole.split_at(14 + 20);
    let part = |from: usize, to: usize| {
        let mut frame = [headers, &payload[from..to]].concat();
        let word = (from / 8) as u16 | if to < payload.len() { 0x2000 } else { 0 };
        frame[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        frame[18..20].copy_from_slice(&[0x12, 0x34]);
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        let (ip, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
        frame[24..26].copy_from_slice(&ip.calc_header_checksum().to_be_bytes());
        frame
    };
    vec![part(0, first), part(first, payload.len())]
}

#[test]
fn the_limit_holds_exactly_and_does_not_touch_connections() {
    for workers in [1u32, 2] {
        let mut bed = bed(workers as usize);
        bed.pass(WAN, &udp("198.51.100.7:4000", "192.0.2.30:80").frame(WAN, b"first"), WAN);
        let flood = v4(WAN_MAC, (NEAR, OWN), 64, 89, &[1; 40]);
        // What may come at once, and then so many a second, of each worker its share; all the flood comes to the first.
        let share = u64::from(RATE.div_ceil(workers));
        let at_once = (share / 50).max(64);
        let (mut got, mut sent) = (0, 0);
        for millisecond in 0..1000u64 {
            bed.now += 1;
            let count = if millisecond == 0 { at_once + 50 } else { share / 1000 + 5 };
            for _ in 0..count {
                bed.wires[0][usize::from(WAN)].send(&flood);
            }
            // In between, a packet of a connection.
            bed.wires[0][usize::from(WAN)]
                .send(&udp("198.51.100.7:4000", "192.0.2.30:80").frame(WAN, b"next"));
            sent += count;
            bed.turn();
            got += punted(&mut bed).len() as u64;
            assert_eq!(got, at_once + millisecond * share / 1000, "millisecond {millisecond}");
            assert!(bed.receive(WAN).is_some(), "the connection goes on");
        }
        assert_eq!(bed.total(|counters| counters.punted.get()), got);
        assert_eq!(bed.dropped(DropReason::PuntLimit), sent - got);
        let host = |counter: fn(&dataplane::counters::HostCounters) -> u64| {
            bed.counters.iter().map(|counters| counter(&counters.hosts[usize::from(WAN)])).sum::<u64>()
        };
        assert_eq!((host(|host| host.punted.get()), host(|host| host.limited.get())), (got, sent - got));
        bed.check_conservation();
    }
}

#[test]
fn a_kernel_that_does_not_look_costs_nothing_but_its_packets() {
    let mut bed = bed(1);
    let large = udp("10.0.0.9:5000", "10.0.0.2:161").frame(WAN, &[7; 1400]);
    let mut sent = 0;
    for _ in 0..100 {
        bed.now += 1;
        for _ in 0..10 {
            bed.send(WAN, &large);
            sent += 1;
        }
    }
    let got = punted(&mut bed);
    assert!((100..250).contains(&got.len()) && got.iter().all(|(_, frame)| *frame == large), "{}", got.len());
    assert_eq!(bed.dropped(DropReason::PuntLimit), sent - got.len() as u64);
    // It looks again: all is well.
    is_punted(&mut bed, "later", &large);
}

#[test]
fn what_the_kernel_sends_leaves_as_it_is() {
    let mut bed = bed(2);
    let frame = |n: u8| tcp("10.0.0.2:22", "10.0.0.9:4000", ACK).frame(WAN, &[n; 900]);
    let mut frames = 0;
    for n in 0..100 {
        assert!(bed.controls[0].has_room_from_host(frame(n).len()));
        frames += u64::from(bed.controls[0].send_from_host(WAN, &frame(n)));
    }
    assert_eq!(frames, 100);
    bed.turn();
    let sent = |bed: &mut Bed| std::iter::from_fn(|| bed.receive(WAN)).collect::<Vec<_>>();
    // So many in a millisecond, in order.
    let first = sent(&mut bed);
    assert_eq!(first, (0..64).map(frame).collect::<Vec<_>>());
    bed.turn();
    assert_eq!(sent(&mut bed).len(), 0);
    bed.now += 1;
    bed.turn();
    assert_eq!(sent(&mut bed), (64..100).map(frame).collect::<Vec<_>>());
    assert_eq!(bed.total(|counters| counters.generated.get()), 100);
    assert_eq!(bed.counters[0].hosts[usize::from(WAN)].sent.get(), 100);
    bed.check_conservation();
    // What the worker does not take is refused, not lost.
    let mut taken = 0;
    while bed.controls[0].has_room_from_host(914) {
        assert!(bed.controls[0].send_from_host(WAN, &[0; 914]));
        taken += 1;
    }
    assert!(!bed.controls[0].send_from_host(WAN, &[0; 914]) && (100..400).contains(&taken), "{taken}");
}

/// One of several frames for the host.
fn base(which: usize) -> Vec<u8> {
    let group = [1, 0, 0x5e, 0, 0, 5];
    match which {
        0 => tcp("198.51.100.7:4000", "10.0.0.2:22", SYN).frame(WAN, b"x"),
        1 => udp("[2001:db8:c::7]:4000", "[2001:db8::2]:161").frame(WAN, b"question"),
        2 => v4(WAN_MAC, (NEAR, OWN), 1, 89, &[1; 40]),
        3 => v6(WAN_MAC, (near6(), link_local()), 1, 112, &[1; 40]),
        4 => v4(group, (NEAR, [224, 0, 0, 5]), 1, 89, &[2; 44]),
        _ => fragments(&v4(WAN_MAC, (NEAR, OWN), 64, 17, &[7; 100]), 64).remove(which % 2),
    }
}

proptest! {
    /// Whatever is wrong with a frame: it is in the books, and the kernel gets it as it came, or not at all; never with a
    /// broken IPv4 header.
    #[test]
    fn nothing_broken_reaches_the_kernel(
        frames in proptest::collection::vec(
            (0usize..7, proptest::collection::vec((0usize..80, any::<u8>()), 0..4), any::<bool>(), 0usize..120), 1..20,
        ),
    ) {
        let mut bed = bed(2);
        for (which, changes, cut, len) in frames {
            let mut frame = base(which);
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            if cut {
                frame.truncate(len);
            }
            bed.now += 1;
            bed.send(WAN, &frame);
            for (port, got) in punted(&mut bed) {
                // It may have waited for another fragment.
                prop_assert_eq!(port, WAN);
                if got[12..14] == [8, 0] {
                    let (ip, _) = etherparse::Ipv4Header::from_slice(&got[14..]).unwrap();
                    prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    prop_assert!(usize::from(ip.total_len) <= got.len() - 14);
                    prop_assert!(ip.source != OWN);
                }
            }
            while bed.receive(WAN).or_else(|| bed.receive(LAN)).is_some() {}
            bed.check_conservation();
        }
    }
}
