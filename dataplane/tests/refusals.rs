//! Errors of the balancer's own: what does not fit, and what has no hop left.

mod bed;

use bed::{
    ACK, Bed, GATEWAY_MAC, LAN, PORT_MACS, SYN, Segment, WAN, mac_of, parse_problem, spec, tcp, tunnelled,
    two_arm, udp,
};
use ctl::config::{Mode, Protocol, Tunnel};
use proptest::prelude::*;

const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:ffff::7]:40000";

/// A frame from the client's side, which comes by the gateway.
fn from_client(segment: Segment, payload: &[u8]) -> Vec<u8> {
    let mut frame = segment.frame(WAN, payload);
    frame[6..12].copy_from_slice(&GATEWAY_MAC.0);
    frame
}

/// Links of different sizes: 1500 bytes outside, 1400 inside.
fn bed() -> Bed {
    let services = [
        spec("192.0.2.10", Protocol::Udp, Mode::Nat, &["10.1.0.11:53"]),
        spec("2001:db8:a::10", Protocol::Udp, Mode::Nat, &["[2001:db8:1::11]:53"]),
        spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11"]),
        tunnelled("192.0.2.30", Protocol::Udp, (Tunnel::Gre, true), &[], &["2001:db8:1::11"]),
        tunnelled("2001:db8:a::30", Protocol::Udp, (Tunnel::Gue, false), &[], &["10.1.0.11"]),
        spec("192.0.2.40", Protocol::Tcp, Mode::Nat, &["10.1.0.11:80"]),
    ];
    let mut parts = two_arm(&services);
    parts.ports[1].mtu = 1400;
    let mut bed = Bed::new(1, 1000, parts);
    bed.know_all();
    bed
}

#[test]
fn what_does_not_fit_is_refused_with_the_right_mtu() {
    let mut bed = bed();
    // VIP, and the largest packet of a client that gets through.
    let cases = [
        (CLIENT, "192.0.2.10:80", 1400),
        (CLIENT, "192.0.2.20:80", 1400),
        (CLIENT, "192.0.2.30:80", 1400 - 44),
        (CLIENT6, "[2001:db8:a::10]:80", 1400),
        (CLIENT6, "[2001:db8:a::30]:80", 1400 - 32),
    ];
    for (n, (client, vip, mtu)) in cases.into_iter().enumerate() {
        let segment = udp(client, vip);
        let headers = if vip.contains('[') { 48 } else { 28 };
        // Fits exactly.
        bed.pass(WAN, &from_client(segment, &vec![7; mtu - headers]), LAN);
        let frame = from_client(segment, &vec![7; mtu - headers + 1]);
        let problem = parse_problem(&bed.pass(WAN, &frame, WAN));
        let expected = if headers == 28 { (3, 4) } else { (2, 0) };
        assert_eq!((problem.kind, problem.code), expected, "{vip}");
        assert_eq!(problem.rest as usize, mtu, "{vip}");
        assert_eq!((problem.from, problem.to), (segment.to.ip(), segment.from.ip()));
        assert_eq!((problem.to_mac, problem.from_mac), (GATEWAY_MAC, PORT_MACS[0]));
        // As it arrived, up to the length that an error may have.
        let longest = if headers == 28 { 548 } else { 1232 };
        assert_eq!(problem.quote, frame[14..14 + longest], "{vip}");
        assert_eq!(bed.drops(), [("mtu_exceeded", n as u64 + 1)]);
        bed.check_conservation();
    }
    assert_eq!(bed.total(|c| c.generated.get()), 5);
}

#[test]
fn backends_are_told_too() {
    let mut parts = bed().parts;
    parts.ports[0].mtu = 1300;
    parts.ports[1].mtu = 1500;
    let mut bed = Bed::new(1, 1000, parts);
    bed.know_all();
    bed.pass(WAN, &from_client(udp(CLIENT, "192.0.2.10:80"), b"ask"), LAN);
    let answer = udp("10.1.0.11:53", CLIENT).frame(LAN, &[7; 1400]);
    let problem = parse_problem(&bed.pass(LAN, &answer, LAN));
    // The backend knows the balancer as its router.
    assert_eq!((problem.from.to_string(), problem.to.to_string()), ("10.1.0.1".into(), "10.1.0.11".into()));
    assert_eq!((problem.kind, problem.code, problem.rest), (3, 4, 1300));
    assert_eq!(problem.to_mac, mac_of("10.1.0.11".parse().unwrap()));
    bed.check_conservation();
}

#[test]
fn the_last_hop_shows_in_traceroute() {
    let mut bed = bed();
    for (client, vip, port, kind) in [
        (CLIENT, "192.0.2.10:80", "10.0.0.2", 11),
        (CLIENT, "192.0.2.20:33434", "10.0.0.2", 11),
        (CLIENT6, "[2001:db8:a::10]:80", "2001:db8::2", 3),
    ] {
        let frame = from_client(Segment { hop_limit: 1, ..udp(client, vip) }, b"probe");
        let problem = parse_problem(&bed.pass(WAN, &frame, WAN));
        assert_eq!((problem.from.to_string(), problem.kind, problem.code), (port.into(), kind, 0));
        assert_eq!(problem.quote, frame[14..]);
    }
    // With one hop more it is forwarded.
    bed.pass(WAN, &from_client(Segment { hop_limit: 2, ..udp(CLIENT, "192.0.2.10:80") }, b"probe"), LAN);
    assert_eq!(bed.drops(), [("hop_limit", 3)]);
    bed.check_conservation();
}

#[test]
fn nobody_is_told_about_what_must_not_be_answered() {
    let mut bed = bed();
    let last_hop = |from, to| Segment { hop_limit: 1, ..udp(from, to) };
    // From ourselves, to many, from a group of stations.
    for frame in [
        from_client(last_hop("10.0.0.2:1", "192.0.2.10:80"), b""),
        from_client(last_hop("192.0.2.20:1", "192.0.2.10:80"), b""),
        from_client(last_hop(CLIENT, "224.0.0.5:80"), b""),
        from_client(last_hop(CLIENT6, "[ff0e::5]:80"), b""),
    ] {
        bed.send(WAN, &frame);
    }
    let mut grouped = from_client(last_hop(CLIENT, "192.0.2.10:80"), b"");
    grouped[6] |= 1;
    bed.send(WAN, &grouped);
    assert_eq!(bed.receive(WAN).or_else(|| bed.receive(LAN)), None);
    assert_eq!(bed.drops(), [("hop_limit", 5)]);
    bed.check_conservation();
}

#[test]
fn floods_are_answered_at_a_bounded_rate() {
    let mut bed = bed();
    let frame = from_client(Segment { hop_limit: 1, ..udp(CLIENT, "192.0.2.10:80") }, b"");
    let flood = |bed: &mut Bed| {
        for _ in 0..1000 {
            bed.send(WAN, &frame);
        }
        std::iter::from_fn(|| bed.receive(WAN)).count()
    };
    assert_eq!(flood(&mut bed), 100);
    bed.now += 20;
    assert_eq!(flood(&mut bed), 20);
    assert_eq!(bed.drops(), [("hop_limit", 2000)]);
    bed.check_conservation();
}

#[test]
fn segment_sizes_are_limited_both_ways_where_asked_for() {
    let options = |mss: u16| [2, 4, (mss >> 8) as u8, mss as u8, 1, 3, 3, 7];
    let with_options = |port: u8, segment: Segment, mss: u16| {
        let mut header = etherparse::TcpHeader::new(segment.from.port(), segment.to.port(), 1000, 500);
        header.syn = true;
        header.ack = segment.tcp.unwrap() & ACK != 0;
        header.set_options_raw(&options(mss)).unwrap();
        let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) = (segment.from.ip(), segment.to.ip())
        else {
            panic!("IPv4");
        };
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], PORT_MACS[usize::from(port)].0)
            .ipv4(from.octets(), to.octets(), 64)
            .tcp_header(header)
            .write(&mut frame, b"")
            .unwrap();
        frame
    };
    for (setting, request, answer) in [
        (None, 1460, 1460),
        (Some("1300"), 1300, 1300),
        (Some("auto"), 1360, 1360),
        (Some("65535"), 1460, 1460),
    ] {
        let mut parts = bed().parts;
        parts.services[5].mss = setting.map(|text| text.parse().unwrap());
        let mut bed = Bed::new(1, 100, parts);
        bed.know_all();
        let ask = with_options(WAN, tcp(CLIENT, "192.0.2.40:80", SYN), 1460);
        let out = bed.pass(WAN, &ask, LAN);
        bed::parse(&out);
        assert_eq!(u16::from_be_bytes([out[56], out[57]]), request, "{setting:?}");
        let back = bed.pass(LAN, &with_options(LAN, tcp("10.1.0.11:80", CLIENT, SYN | ACK), 1460), WAN);
        bed::parse(&back);
        assert_eq!(u16::from_be_bytes([back[56], back[57]]), answer, "{setting:?}");
        bed.check_conservation();
    }
}

proptest! {
    /// Whatever arrives with whatever size, hop limit and options: the books balance, and every error is sound.
    #[test]
    fn errors_are_sound(packets in proptest::collection::vec((0usize..6, 0u8..4, 0usize..1460, any::<bool>()), 1..60)) {
        let mut bed = bed();
        let targets = ["192.0.2.10:80", "192.0.2.20:80", "192.0.2.30:80", "[2001:db8:a::10]:80", "[2001:db8:a::30]:80", "192.0.2.99:7"];
        for (target, hops, len, options) in packets {
            let to = targets[target];
            let segment = Segment { hop_limit: hops, ..udp(if to.contains('[') { CLIENT6 } else { CLIENT }, to) };
            let mut frame = from_client(segment, &vec![1; len.min(1444)]);
            if options && !to.contains('[') {
                frame.splice(34..34, [1, 1, 1, 1]);
                frame[14] = 0x46;
                let total = (frame.len() - 14) as u16;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
                frame[24..26].fill(0);
                let sum = dataplane::wire::checksum::Sum::default().bytes(&frame[14..38]).checksum();
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            bed.send(WAN, &frame);
            if let Some(problem) = bed.receive(WAN) {
                let problem = parse_problem(&problem);
                prop_assert_eq!(problem.to, segment.from.ip());
                prop_assert_eq!(&problem.quote[..], &frame[14..14 + problem.quote.len()]);
            }
            while bed.receive(LAN).is_some() {}
        }
        bed.check_conservation();
    }
}
