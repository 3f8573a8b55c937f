//! Packets that mean harm: each has its reason, none is lost from the books.

mod bed;

use bed::{Bed, LAN, PORT_MACS, RST, SYN, WAN, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::verdict::DropReason;
use dataplane::wire::checksum::Sum;
use proptest::prelude::*;

const CLIENT: &str = "198.51.100.7:40000";
const VIP: &str = "192.0.2.10:80";
const VIP6: &str = "[2001:db8:a::10]:80";

fn bed() -> Bed {
    let mut bed = Bed::new(
        1,
        100,
        two_arm(&[
            spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
            spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:53"]),
            spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11"]),
            spec("2001:db8:a::10", Protocol::Udp, Mode::Nat, &["[2001:db8:1::11]:53"]),
            spec("192.0.2.30", Protocol::Tcp, Mode::Nat, &[]),
        ]),
    );
    bed.know_all();
    bed
}

fn v4() -> Vec<u8> {
    udp(CLIENT, VIP).frame(WAN, b"12345678")
}

fn v6() -> Vec<u8> {
    udp("[2001:db8:ffff::7]:40000", VIP6).frame(WAN, b"12345678")
}

fn syn() -> Vec<u8> {
    tcp(CLIENT, VIP, SYN).frame(WAN, b"")
}

/// Makes the IPv4 header checksum right again.
fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..end.min(frame.len())]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}

#[test]
fn every_malformation_has_its_reason() {
    use DropReason::*;
    let cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("empty", vec![], Truncated),
        ("runt", cut(v4(), 13), Truncated),
        ("Ethernet alone", cut(v4(), 14), Truncated),
        ("half an IPv4 header", cut(v4(), 30), Truncated),
        ("half an IPv6 header", cut(v6(), 50), Truncated),
        ("another station", with(v4(), 0, &[2, 9, 9, 9, 9, 9]), NotOurMac),
        ("broadcast", with(v4(), 0, &[0xff; 6]), Multicast),
        ("LLDP", with(v4(), 12, &[0x88, 0xcc]), UnknownEthertype),
        ("VLAN", with(v4(), 12, &[0x81, 0]), VlanUnknown),
        ("half a VLAN tag", cut(with(v4(), 12, &[0x81, 0]), 16), Truncated),
        ("tag within a tag", with(v4(), 12, &[0x81, 0, 0, 1, 0x81, 0]), VlanNested),
        ("a provider's tag", with(v4(), 12, &[0x88, 0xa8, 0, 1]), VlanNested),
        ("IPv6 in IPv4's EtherType", with(v4(), 14, &[0x65]), IpVersion),
        ("IPv4 in IPv6's EtherType", with(v6(), 14, &[0x45]), IpVersion),
        ("header of 16 bytes", sealed(with(v4(), 14, &[0x44])), IpHeaderLength),
        ("header longer than the frame", with(cut(v4(), 40), 14, &[0x4f]), IpHeaderLength),
        ("total length beyond the frame", sealed(with(v4(), 16, &[0, 200])), IpTotalLength),
        ("total length below the header", sealed(with(v4(), 16, &[0, 19])), IpTotalLength),
        ("IPv6 payload beyond the frame", with(v6(), 18, &[0, 200]), IpTotalLength),
        ("cut frame", cut(v4(), 45), IpTotalLength),
        ("header checksum", with(v4(), 24, &[0xde, 0xad]), IpChecksum),
        ("loopback source", sealed(with(v4(), 26, &[127, 0, 0, 1])), IpSource),
        ("zero source", sealed(with(v4(), 26, &[0, 0, 0, 0])), IpSource),
        ("multicast source", sealed(with(v4(), 26, &[224, 0, 0, 1])), IpSource),
        ("broadcast source", sealed(with(v4(), 26, &[255; 4])), IpSource),
        ("IPv6 multicast source", with(v6(), 22, &[0xff, 2]), IpSource),
        ("IPv6 unspecified source", with(v6(), 22, &[0; 16]), IpSource),
        (
            "first fragment without its header",
            sealed(with(with(v4(), 20, &[0x20, 0]), 23, &[6])),
            FragmentTiny,
        ),
        ("fragment over TCP's header", sealed(with(with(v4(), 20, &[0, 2]), 23, &[6])), FragmentTiny),
        ("fragment beyond all datagrams", sealed(with(v4(), 20, &[0x1f, 0xff])), FragmentMalformed),
        ("fragment of OSPF", sealed(with(with(v4(), 20, &[0, 5]), 23, &[89])), Fragment),
        ("IPv6 fragment", with(v6(), 20, &[44]), Fragment),
        ("hop limit of one", sealed(with(v4(), 22, &[1])), HopLimit),
        ("hop limit of zero", sealed(with(v4(), 22, &[0])), HopLimit),
        ("IPv6 hop limit", with(v6(), 21, &[1]), HopLimit),
        ("SCTP", sealed(with(v4(), 23, &[132])), UnknownProtocol),
        ("IPv6 no next header", with(v6(), 20, &[59]), UnknownProtocol),
        ("UDP length beyond the packet", with(v4(), 38, &[0, 17]), UdpLength),
        ("UDP length below its header", with(v4(), 38, &[0, 7]), UdpLength),
        ("IP length too short for UDP", sealed(with(v4(), 16, &[0, 24])), UdpLength),
        ("TCP header of 16 bytes", with(syn(), 46, &[0x40]), TcpHeader),
        ("TCP header beyond the segment", with(syn(), 46, &[0x60]), TcpHeader),
        ("IP length too short for TCP", sealed(with(syn(), 16, &[0, 30])), TcpHeader),
        ("ARP cut short", cut(with(v4(), 12, &[8, 6]), 40), ArpMalformed),
        ("ARP about tokens", with(v4(), 12, &[8, 6]), ArpMalformed),
        ("ICMP without a header", sealed(with(with(cut(v4(), 38), 23, &[1]), 16, &[0, 24])), IcmpMalformed),
        ("ICMP error about nothing", sealed(with(with(v4(), 23, &[1]), 34, &[3, 4])), IcmpMalformed),
        ("no such service", udp(CLIENT, "192.0.2.10:81").frame(WAN, b""), NoService),
        ("no such address", udp(CLIENT, "203.0.113.1:80").frame(WAN, b""), NoService),
        ("another protocol's service", udp(CLIENT, "192.0.2.30:80").frame(WAN, b""), NoService),
        ("no backend", tcp(CLIENT, "192.0.2.30:80", SYN).frame(WAN, b""), NoBackend),
        ("reset out of nowhere", tcp(CLIENT, VIP, RST).frame(WAN, b""), NoConnection),
        ("too large for the way out", udp(CLIENT, VIP).frame(WAN, &[0; 1473]), MtuExceeded),
    ];
    for (name, frame, reason) in cases {
        let mut bed = bed();
        bed.send(WAN, &frame);
        assert_eq!(bed.drops(), [(reason.name(), 1)], "{name}");
        // Its sender is told if it can do something about it.
        let told = matches!(reason, HopLimit | MtuExceeded);
        assert_eq!(bed.receive(WAN).is_some(), told, "{name}");
        assert_eq!(bed.receive(LAN), None, "{name}");
        bed.check_conservation();
    }
}

#[test]
fn what_is_unusual_but_legal_passes() {
    // IPv4 options: a header of 24 bytes with four NOPs.
    let mut options = v4();
    options.splice(34..34, [1, 1, 1, 1]);
    options[14] = 0x46;
    let total = (options.len() - 14) as u16;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    // Link-layer padding behind a short packet.
    let mut padded = udp(CLIENT, VIP).frame(WAN, b"");
    padded.resize(60, 0xaa);
    // Exactly the MTU.
    let largest = udp(CLIENT, VIP).frame(WAN, &[7; 1472]);
    // IPv6 with a hop-by-hop header.
    let mut extended = v6();
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[20] = 0;
    extended[19] += 8;
    for frame in [sealed(options), padded, largest, extended, v4(), v6()] {
        let mut bed = bed();
        let out = bed.pass(WAN, &frame, LAN);
        assert_eq!(out.len(), frame.len());
        bed::parse(&out);
        bed.check_conservation();
    }
}

#[test]
fn reply_conflicts_take_another_backend_or_are_counted() {
    // Two VIPs over the same backend and port: a client that uses one source port for both.
    let services = [
        spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:53", "10.1.0.12:53"]),
        spec("192.0.2.11", Protocol::Udp, Mode::Nat, &["10.1.0.11:53", "10.1.0.12:53"]),
        spec("192.0.2.12", Protocol::Udp, Mode::Nat, &["10.1.0.11:53", "10.1.0.12:53"]),
    ];
    let mut bed = Bed::new(1, 100, two_arm(&services));
    bed.know_all();
    let backend =
        |bed: &mut Bed, vip: &str| bed::parse(&bed.pass(WAN, &udp(CLIENT, vip).frame(WAN, b""), LAN)).to;
    let first = backend(&mut bed, "192.0.2.10:80");
    let second = backend(&mut bed, "192.0.2.11:80");
    assert_ne!(first, second);
    bed.send(WAN, &udp(CLIENT, "192.0.2.12:80").frame(WAN, b""));
    assert_eq!(bed.drops(), [("reply_conflict", 1)]);
    // Each reply goes to the VIP that was asked.
    let answer = udp(&second.to_string(), CLIENT).frame(LAN, b"");
    assert_eq!(bed::parse(&bed.pass(LAN, &answer, WAN)).from.to_string(), "192.0.2.11:80");
    bed.check_conservation();
}

/// Frames near enough to valid that every branch is reached: a valid one with some bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let base = prop_oneof![
        Just(v4()),
        Just(v6()),
        Just(syn()),
        Just(udp("10.1.0.11:53", CLIENT).frame(LAN, b"answer")),
        Just(udp(CLIENT, "192.0.2.20:80").frame(WAN, b"dsr")),
    ];
    let change = (0usize..80, any::<u8>());
    (base, proptest::collection::vec(change, 0..6), 0usize..100, any::<bool>()).prop_map(
        |(mut frame, changes, len, seal)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if len < 60 {
                frame.truncate(len);
            }
            if seal && frame.len() > 34 { sealed(frame) } else { frame }
        },
    )
}

proptest! {
    #[test]
    fn books_balance_whatever_comes(frames in proptest::collection::vec((0u8..2, prop_oneof![
        3 => mutated(),
        1 => proptest::collection::vec(any::<u8>(), 0..120).prop_map(|mut bytes| {
            if bytes.len() >= 6 { bytes[..6].copy_from_slice(&PORT_MACS[0].0); }
            bytes
        }),
    ]), 1..80), workers in 1usize..4) {
        let mut bed = Bed::new(workers, 16, bed().parts);
        bed.know_all();
        for (n, (port, frame)) in frames.iter().enumerate() {
            bed.wires[n % workers][usize::from(*port)].send(frame);
        }
        bed.turn();
        bed.check_conservation();
        bed.now += 10_000_000;
        bed.turn();
        bed.check_conservation();
    }
}
