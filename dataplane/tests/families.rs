//! `full-nat` between address families (RFC 7915): IPv4 backends of an IPv6 VIP, and the reverse.

mod bed;

use bed::{
    ACK, Bed, GATEWAY_MAC, LAN, PORT_MACS, RST, SYN, Segment, ServiceSpec, WAN, icmp_error, mac_of, parse,
    parse_problem, spec, steering, tcp, two_arm, udp,
};
use ctl::config::{Mode, Mss, Ports, Protocol};
use dataplane::flow::FlowKey;
use dataplane::pipeline::{Fate, Question};
use dataplane::steering::Steering;
use dataplane::verdict::DropReason;
use dataplane::wire::checksum::Sum;
use dataplane::wire::fragment::Fragment;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// By the family of the client: what it speaks to, the backend of the other family, and what that sees.
const VIP: [&str; 2] = ["192.0.2.60", "2001:db8:a::60"];
const SERVICE: [&str; 2] = ["192.0.2.60:80", "[2001:db8:a::60]:80"];
const CLIENT: [&str; 2] = ["198.51.100.7:40000", "[2001:db8:ffff::7]:40000"];
const BACKEND: [&str; 2] = ["[2001:db8:1::11]:8080", "10.1.0.11:8080"];
const LOCAL: [&str; 2] = ["2001:db8:1::1", "10.1.0.1"];
/// Of the IPv4 family: a backend of each.
const MIXED: &str = "192.0.2.61";
/// Of one family, with the same backends as the others.
const PLAIN: [&str; 2] = ["192.0.2.62", "2001:db8:a::62"];

fn services() -> Vec<ServiceSpec> {
    let mut services = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for v6 in 0..2 {
            services.push(spec(VIP[v6], protocol, Mode::FullNat, &[BACKEND[v6]]));
            services.push(spec(PLAIN[v6], protocol, Mode::FullNat, &[BACKEND[1 - v6]]));
        }
        services.push(spec(MIXED, protocol, Mode::FullNat, &[BACKEND[0], BACKEND[1]]));
    }
    services
}

fn bed_of(services: &[ServiceSpec]) -> Bed {
    let mut bed = Bed::new(1, 1000, two_arm(services));
    bed.know_all();
    bed
}

fn bed() -> Bed {
    bed_of(&services())
}

fn request(v6: usize, is_tcp: bool, flags: u8) -> Segment {
    if is_tcp { tcp(CLIENT[v6], SERVICE[v6], flags) } else { udp(CLIENT[v6], SERVICE[v6]) }
}

/// A connection: what the client sends, and what the backend does.
fn open(bed: &mut Bed, v6: usize, is_tcp: bool) -> (Segment, Segment) {
    let said = request(v6, is_tcp, SYN);
    let heard = parse(&bed.pass(WAN, &said.frame(WAN, b""), LAN));
    let answer = Segment { from: heard.to, to: heard.from, tcp: is_tcp.then_some(SYN | ACK), hop_limit: 64 };
    bed.pass(LAN, &answer.frame(LAN, b""), WAN);
    let (said, answer) = (request(v6, is_tcp, ACK), Segment { tcp: is_tcp.then_some(ACK), ..answer });
    bed.pass(WAN, &said.frame(WAN, b"question"), LAN);
    bed.pass(LAN, &answer.frame(LAN, b"answer"), WAN);
    (said, answer)
}

/// Makes the header checksum of the IPv4 packet in a frame right.
fn seal(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..end]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn packets_go_there_and_back_in_the_other_family() {
    for (v6, is_tcp) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut bed = bed();
        let mut local = None;
        for (flags, back) in [(SYN, SYN | ACK), (ACK, ACK), (ACK, ACK)] {
            for payload in [&b""[..], b"x", &[0xff; 1300], b"odd"] {
                let left = bed.pass(WAN, &request(v6, is_tcp, flags).frame(WAN, payload), LAN);
                let heard = parse(&left);
                assert_eq!(heard.to.to_string(), BACKEND[v6]);
                assert_eq!(heard.from.ip().to_string(), LOCAL[v6]);
                assert_eq!(*local.get_or_insert(heard.from), heard.from);
                assert_eq!((heard.hop_limit, &heard.payload[..], heard.tcp), (63, payload, is_tcp));
                assert_eq!((heard.from_mac, heard.to_mac), (PORT_MACS[1], mac_of(heard.to.ip())));
                let answer =
                    Segment { from: heard.to, to: heard.from, tcp: is_tcp.then_some(back), hop_limit: 9 };
                let returned = parse(&bed.pass(LAN, &answer.frame(LAN, payload), WAN));
                assert_eq!(
                    (returned.from.to_string(), returned.to.to_string()),
                    (SERVICE[v6].into(), CLIENT[v6].into())
                );
                assert_eq!((returned.hop_limit, &returned.payload[..]), (8, payload));
                assert_eq!((returned.from_mac, returned.to_mac), (PORT_MACS[0], GATEWAY_MAC));
            }
        }
        assert_eq!(bed.drops(), []);
        assert_eq!(bed.total(|c| c.connections_total.get()), 1);
        let counted = &bed.counters[0].backends[if v6 == 0 { 0 } else { 2 } + if is_tcp { 0 } else { 6 }];
        assert_eq!((counted.packets_in.get(), counted.packets_out.get()), (12, 12));
        bed.check_conservation();
    }
}

#[test]
fn classes_are_copied_and_short_packets_may_be_fragmented() {
    let mut bed = bed();
    let mut frame = request(1, false, 0).frame(WAN, b"short");
    frame[14..16].copy_from_slice(&[0x6b, 0x8f]);
    let left = bed.pass(WAN, &frame, LAN);
    assert_eq!((left[15], left[20] & 0x40), (0xb8, 0));
    let identification = [left[18], left[19]];
    let next = bed.pass(WAN, &frame, LAN);
    assert_ne!([next[18], next[19]], identification);
    // RFC 7915 section 5.1: beyond 1260 bytes, it is atomic.
    let whole = bed.pass(WAN, &request(1, false, 0).frame(WAN, &[1; 1232]), LAN);
    assert_eq!((whole.len(), whole[20] & 0x40), (14 + 1260, 0));
    let whole = bed.pass(WAN, &request(1, false, 0).frame(WAN, &[1; 1233]), LAN);
    assert_eq!(whole[18..22], [0, 0, 0x40, 0]);
    let mut frame = request(0, false, 0).frame(WAN, b"short");
    frame[15] = 0xb9;
    seal(&mut frame);
    // Padded by the link.
    frame.resize(60, 0xee);
    let left = bed.pass(WAN, &frame, LAN);
    assert_eq!(left[14..18], [0x6b, 0x90, 0, 0]);
    assert_eq!(left.len(), 14 + 40 + 8 + 5);
}

#[test]
fn options_and_extension_headers_stay_behind() {
    let mut bed = bed();
    let mut frame = request(0, false, 0).frame(WAN, b"data");
    frame.splice(34..34, [1, 1, 1, 0]);
    frame[14] = 0x46;
    frame[17] += 4;
    seal(&mut frame);
    let left = bed.pass(WAN, &frame, LAN);
    assert_eq!((parse(&left).payload, left.len()), (b"data".to_vec(), 14 + 40 + 12));
    let mut frame = request(1, false, 0).frame(WAN, b"data");
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    (frame[20], frame[19]) = (60, frame[19] + 8);
    let left = bed.pass(WAN, &frame, LAN);
    assert_eq!((parse(&left).payload, left.len()), (b"data".to_vec(), 14 + 20 + 12));
    // An atomic fragment (RFC 6946) keeps its name (RFC 7915 section 5.1.1).
    frame.splice(54..62, [17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
    frame[20] = 44;
    let left = bed.pass(WAN, &frame, LAN);
    assert_eq!((left[18..22].to_vec(), parse(&left).payload), (vec![0x56, 0x78, 0, 0], b"data".to_vec()));
    // A route that is not over is nobody's to translate.
    frame.splice(54..62, [17, 0, 0, 1, 0, 0, 0, 0]);
    frame[20] = 43;
    bed.send(WAN, &frame);
    let mut frame = request(0, false, 0).frame(WAN, b"data");
    frame.splice(34..34, [131, 7, 4, 1, 2, 3, 4, 0]);
    frame[14] = 0x47;
    frame[17] += 8;
    seal(&mut frame);
    bed.send(WAN, &frame);
    assert_eq!(bed.drops(), [("source_route", 2)]);
    bed.check_conservation();
}

#[test]
fn datagrams_without_a_checksum_get_one() {
    let mut bed = bed();
    for payload in [&b""[..], b"odd", &[0xff; 1000]] {
        let mut frame = request(0, false, 0).frame(WAN, payload);
        let good = bed.pass(WAN, &frame, LAN);
        frame[40..42].fill(0);
        let left = bed.pass(WAN, &frame, LAN);
        assert_ne!(left[60..62], [0, 0]);
        assert_eq!(left, good);
        assert_eq!(parse(&left).payload, payload);
    }
    // One that is in fragments cannot be computed.
    let mut datagram = udp_datagram(0);
    datagram[26..28].fill(0);
    for part in fragments(0, &datagram, 7) {
        bed.send(WAN, &part);
    }
    assert_eq!(bed.drops(), [("udp_checksum_missing", 3)]);
    bed.check_conservation();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Connections of all kinds to the same backends, packets arriving anywhere: none shares a local end with another, and
    /// every answer finds its connection.
    #[test]
    fn answers_find_their_connection_wherever_they_arrive(workers in 1u8..=5, kind in 0u8..3, seed: u32) {
        let mut bed = Bed::steered(&steering(kind, workers), 1000, two_arm(&services()), &[]);
        bed.know_all();
        let mut next = seed;
        let mut anywhere = || {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (next >> 16) as usize % usize::from(workers)
        };
        let mut live: HashMap<(bool, SocketAddr, SocketAddr), String> = HashMap::new();
        let mut deliver = |bed: &mut Bed, port: u8, segment: Segment, out: u8| {
            bed.wires[anywhere()][usize::from(port)].send(&segment.frame(port, b"payload"));
            bed.turn();
            let frame = bed.receive(out).unwrap_or_else(|| panic!("lost: {:?}", bed.drops()));
            parse(&frame)
        };
        for number in 0..80u16 {
            let (is_tcp, port) = (number % 2 == 0, 1000 + number);
            let vips = [VIP[0], VIP[1], PLAIN[0], PLAIN[1], MIXED];
            let vip = vips[usize::from(number / 2) % vips.len()];
            let (from, to) = if vip.contains(':') {
                (format!("[2001:db8:ffff::7]:{port}"), format!("[{vip}]:80"))
            } else {
                (format!("198.51.100.7:{port}"), format!("{vip}:80"))
            };
            let say = |flags| if is_tcp { tcp(&from, &to, flags) } else { udp(&from, &to) };
            let out = deliver(&mut bed, WAN, say(SYN), LAN);
            let other = live.insert((is_tcp, out.to, out.from), from.clone());
            prop_assert!(other.is_none(), "{} and {:?} share {} towards {}", from, other, out.from, out.to);
            for flags in [SYN | ACK, ACK, ACK] {
                let answer = Segment { from: out.to, to: out.from, tcp: is_tcp.then_some(flags), hop_limit: 64 };
                let back = deliver(&mut bed, LAN, answer, WAN);
                prop_assert_eq!((back.from.to_string(), back.to.to_string()), (to.clone(), from.clone()));
                let again = deliver(&mut bed, WAN, say(ACK), LAN);
                prop_assert_eq!((again.from, again.to), (out.from, out.to));
            }
        }
        prop_assert_eq!(bed.drops(), vec![]);
        bed.check_conservation();
        let connections: usize = bed.workers.iter().map(|worker| worker.pipeline().connections()).sum();
        prop_assert_eq!(connections, 80, "one entry a connection");
    }
}

#[test]
fn one_local_end_is_not_taken_in_both_tables() {
    let steering = Steering::keyed(1, bed::secret()).with_local_ports(Ports::new(5000, 5001).unwrap());
    let mut bed = Bed::steered(&Arc::new(steering), 1000, two_arm(&services()), &[]);
    bed.know_all();
    let mut ends = Vec::new();
    for (from, to) in [("[2001:db8:ffff::7]:1", SERVICE[1]), ("198.51.100.7:1", "192.0.2.62:80")] {
        let heard = parse(&bed.pass(WAN, &tcp(from, to, SYN).frame(WAN, b""), LAN));
        assert_eq!(heard.to.to_string(), BACKEND[1]);
        ends.push(heard.from.to_string());
    }
    ends.sort_unstable();
    assert_eq!(ends, ["10.1.0.1:5000", "10.1.0.1:5001"]);
    // Nothing is left for either; both are told.
    for (from, to) in [("[2001:db8:ffff::7]:2", SERVICE[1]), ("198.51.100.7:2", "192.0.2.62:80")] {
        let reset = parse(&bed.pass(WAN, &tcp(from, to, SYN).frame(WAN, b""), WAN));
        assert_eq!((reset.from.to_string().as_str(), reset.to.to_string().as_str()), (to, from));
    }
    assert_eq!(bed.drops(), [("local_ports_exhausted", 2)]);
    bed.check_conservation();
}

#[test]
fn what_is_too_long_is_refused_with_the_size_of_its_own_side() {
    let mut parts = two_arm(&services());
    parts.ports[1].mtu = 1400;
    let mut bed = Bed::new(1, 1000, parts);
    bed.know_all();
    for (v6, fits, told) in [(0, 1380, (3, 4, 1380)), (1, 1420, (2, 0, 1420))] {
        let headers = if v6 == 0 { 28 } else { 48 };
        let left = bed.pass(WAN, &request(v6, false, 0).frame(WAN, &vec![7; fits - headers]), LAN);
        assert_eq!(left.len(), 1414);
        let long = request(v6, false, 0).frame(WAN, &vec![7; fits - headers + 1]);
        let refused = parse_problem(&bed.pass(WAN, &long, WAN));
        assert_eq!((refused.kind, refused.code, refused.rest), told);
        assert_eq!(
            (refused.from.to_string(), refused.to),
            (VIP[v6].into(), CLIENT[v6].parse::<SocketAddr>().unwrap().ip())
        );
        assert_eq!(refused.quote[..], long[14..14 + refused.quote.len()]);
    }
    // And back: IPv4 answers of 1400 bytes are 1420 long, and fit.
    let (_, answer) = open(&mut bed, 1, false);
    assert_eq!(bed.pass(LAN, &answer.frame(LAN, &[1; 1372]), WAN).len(), 1434);
    assert_eq!(bed.drops(), [("mtu_exceeded", 2)]);
    bed.check_conservation();
}

#[test]
fn the_segment_size_leaves_room_for_the_longer_header() {
    let services: Vec<_> =
        services().into_iter().map(|one| ServiceSpec { mss: Some(Mss::Auto), ..one }).collect();
    let mut bed = bed_of(&services);
    for v6 in 0..2 {
        let mut header = etherparse::TcpHeader::new(40000, 80, 1, 5);
        header.syn = true;
        header.set_options_raw(&[2, 4, 0x23, 0]).unwrap();
        let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, PORT_MACS[0].0);
        let ends = [CLIENT[v6], SERVICE[v6]].map(|end| end.parse::<SocketAddr>().unwrap().ip());
        let builder = match ends {
            [IpAddr::V4(from), IpAddr::V4(to)] => builder.ipv4(from.octets(), to.octets(), 64),
            [IpAddr::V6(from), IpAddr::V6(to)] => builder.ipv6(from.octets(), to.octets(), 64),
            _ => unreachable!(),
        };
        let mut frame = Vec::new();
        builder.tcp_header(header).write(&mut frame, b"").unwrap();
        let left = bed.pass(WAN, &frame, LAN);
        parse(&left);
        let options = 14 + if v6 == 0 { 40 } else { 20 } + 20;
        // 1500 less the headers of IPv6, whichever side has it.
        assert_eq!(left[options..options + 4], [2, 4, 5, 0xa0]);
    }
}

/// A quote as a frame, so that it can be parsed as one.
fn framed(quote: &[u8]) -> Vec<u8> {
    let kind = if quote[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[0; 12][..], &kind, quote].concat()
}

const OUTER: [&str; 2] = ["203.0.113.9", "2001:db8:eeee::9"];
const INNER: [&str; 2] = ["10.1.0.77", "2001:db8:1::77"];
/// By family: what is said, and what is heard of it in the other one.
const TOO_BIG: [[(u8, u8, u32); 2]; 2] = [[(3, 4, 1300), (2, 0, 1320)], [(2, 0, 1300), (3, 4, 1280)]];
const EXPIRED: [[(u8, u8, u32); 2]; 2] = [[(11, 0, 0), (3, 0, 0)], [(3, 0, 0), (11, 0, 0)]];
const NO_PORT: [[(u8, u8, u32); 2]; 2] = [[(3, 3, 0), (1, 4, 0)], [(1, 4, 0), (3, 3, 0)]];
const PARAMETER: [[(u8, u8, u32); 2]; 2] = [[(12, 0, 9 << 24), (4, 0, 6)], [(4, 0, 6), (12, 0, 9 << 24)]];

#[test]
fn errors_are_told_in_the_family_of_who_hears_them() {
    for (workers, kind) in [(1, 0), (3, 0), (3, 1), (3, 2)] {
        let mut bed = Bed::steered(&steering(kind, workers), 1000, two_arm(&services()), &[]);
        bed.know_all();
        let mut at = 0;
        // Each at another worker.
        let mut pass = |bed: &mut Bed, port: u8, frame: &[u8], out: u8| {
            at = (at + 1) % usize::from(workers);
            bed.wires[at][usize::from(port)].send(frame);
            bed.turn();
            bed.receive(out).unwrap_or_else(|| panic!("lost: {:?}", bed.drops()))
        };
        for (v6, is_tcp) in [(0, true), (0, false), (1, true), (1, false)] {
            let other = 1 - v6;
            let said = request(v6, is_tcp, SYN).frame(WAN, b"some payload");
            let left = pass(&mut bed, WAN, &said, LAN);
            let heard = parse(&left);
            let answer =
                Segment { from: heard.to, to: heard.from, tcp: is_tcp.then_some(SYN | ACK), hop_limit: 64 };
            let replied = answer.frame(LAN, b"an answer");
            let returned = pass(&mut bed, LAN, &replied, WAN);
            let (client, vip) =
                (CLIENT[v6].parse::<SocketAddr>().unwrap().ip(), VIP[v6].parse::<IpAddr>().unwrap());
            for what in [TOO_BIG, EXPIRED, NO_PORT, PARAMETER] {
                // About what goes to the backend, by a router before it, to the client.
                let [spoken, told] = what[other];
                let frame = icmp_error(LAN, INNER[other], heard.from.ip(), spoken, &left[14..]);
                let problem = parse_problem(&pass(&mut bed, LAN, &frame, WAN));
                assert_eq!((problem.kind, problem.code, problem.rest), told);
                let port: IpAddr = ["10.0.0.2", "2001:db8::2"][v6].parse().unwrap();
                assert_eq!(problem.from, if what == EXPIRED { port } else { vip });
                assert_eq!((problem.to, problem.hop_limit, problem.to_mac), (client, 59, GATEWAY_MAC));
                let quoted = parse(&framed(&problem.quote));
                let sent = parse(&said);
                assert_eq!((quoted.from, quoted.to, quoted.payload), (sent.from, sent.to, sent.payload));
                assert_eq!(quoted.hop_limit, 63);
                // About what goes to the client, to the backend.
                let [spoken, told] = what[v6];
                let frame = icmp_error(WAN, OUTER[v6], vip, spoken, &returned[14..]);
                let problem = parse_problem(&pass(&mut bed, WAN, &frame, LAN));
                assert_eq!((problem.kind, problem.code, problem.rest), told);
                assert_eq!((problem.from, problem.to), (heard.from.ip(), heard.to.ip()));
                let quoted = parse(&framed(&problem.quote));
                let sent = parse(&replied);
                assert_eq!((quoted.from, quoted.to, quoted.payload), (sent.from, sent.to, sent.payload));
            }
            // Eight bytes of the transport header are enough.
            let cut = if other == 0 { 14 + 20 + 8 } else { 14 + 40 + 8 };
            let frame = icmp_error(LAN, INNER[other], heard.from.ip(), TOO_BIG[other][0], &left[14..cut]);
            let problem = parse_problem(&pass(&mut bed, LAN, &frame, WAN));
            let sent = if v6 == 0 { &said[34..38] } else { &said[54..58] };
            assert_eq!(problem.quote[problem.quote.len() - 8..][..4], *sent);
            // The other family has no word for it.
            let unheard = [(3, 14, 0), (4, 2, 0)][other];
            bed.send(LAN, &icmp_error(LAN, INNER[other], heard.from.ip(), unheard, &left[14..]));
            assert_eq!(bed.receive(WAN), None);
        }
        assert_eq!(bed.drops(), [("icmp_untranslatable", 4)]);
        bed.check_conservation();
    }
}

#[test]
fn long_quotes_are_cut_to_what_an_error_may_have() {
    let mut bed = bed();
    for (v6, most) in [(0, 576), (1, 1280)] {
        let left = bed.pass(WAN, &request(v6, false, 0).frame(WAN, &[3; 1400]), LAN);
        let heard = parse(&left);
        let quote = &left[14..];
        let frame = icmp_error(
            LAN,
            INNER[1 - v6],
            heard.from.ip(),
            NO_PORT[1 - v6][0],
            &quote[..quote.len().min(1232)],
        );
        let told = bed.pass(LAN, &frame, WAN);
        assert_eq!(told.len(), 14 + most);
        // By its own word the quoted packet has its whole length.
        let quote = parse_problem(&told).quote;
        let total = if v6 == 0 {
            usize::from(quote[2]) << 8 | usize::from(quote[3])
        } else {
            40 + (usize::from(quote[4]) << 8 | usize::from(quote[5]))
        };
        assert_eq!(total, 1400 + if v6 == 0 { 28 } else { 48 });
    }
}

/// UDP header and payload of 800 bytes from the client, behind an IP header.
fn udp_datagram(v6: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..792u32).map(|n| n as u8).collect();
    request(v6, false, 0).frame(WAN, &payload)[14..].to_vec()
}

/// The fragments of a packet, of 320 bytes each but the last, as frames to the WAN port.
fn fragments(v6: usize, packet: &[u8], identification: u8) -> Vec<Vec<u8>> {
    let header = if v6 == 0 { 20 } else { 40 };
    let payload = &packet[header..];
    (0..payload.len())
        .step_by(320)
        .map(|start| {
            let part = &payload[start..payload.len().min(start + 320)];
            let more = start + 320 < payload.len();
            let kind: &[u8] = if v6 == 0 { &[8, 0] } else { &[0x86, 0xdd] };
            let mut frame = [&PORT_MACS[0].0[..], &GATEWAY_MAC.0, kind].concat();
            frame.extend(&packet[..header]);
            if v6 == 0 {
                let total = (20 + part.len()) as u16;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
                frame[18..20].copy_from_slice(&[0xab, identification]);
                let word = (start / 8) as u16 | u16::from(more) << 13;
                frame[20..22].copy_from_slice(&word.to_be_bytes());
                seal(&mut frame);
            } else {
                let length = (8 + part.len()) as u16;
                frame[18..20].copy_from_slice(&length.to_be_bytes());
                frame[20] = 44;
                let word = (start as u16) | u16::from(more);
                let [high, low] = word.to_be_bytes();
                frame.extend([17, 0, high, low, 1, 2, 0xab, identification]);
            }
            frame.extend(part);
            frame
        })
        .collect()
}

#[test]
fn fragments_are_translated_one_by_one_wherever_they_arrive() {
    for (v6, workers) in [(0, 1), (1, 1), (0, 4), (1, 4)] {
        let mut bed = Bed::new(workers, 1000, two_arm(&services()));
        bed.know_all();
        let datagram = udp_datagram(v6);
        let parts = fragments(v6, &datagram, 1);
        // The last one first, each at another worker.
        let mut left = Vec::new();
        for (number, part) in parts.iter().enumerate().rev() {
            bed.wires[number % workers][usize::from(WAN)].send(part);
            bed.turn();
            while let Some(frame) = bed.receive(LAN) {
                left.push(frame);
            }
        }
        assert_eq!(left.len(), 3, "{:?}", bed.drops());
        left.sort_by_key(|frame| Fragment::parse(&frame[14..]).unwrap().offset);
        let mut whole = Vec::new();
        for frame in &left {
            let fragment = Fragment::parse(&frame[14..]).unwrap();
            assert_eq!((fragment.offset, fragment.more), (whole.len(), whole.len() < 640));
            assert_eq!(fragment.identification, 0xab01);
            assert_eq!(fragment.destination, BACKEND[v6].parse::<SocketAddr>().unwrap().ip());
            match SlicedPacket::from_ethernet(frame).unwrap().net {
                Some(NetSlice::Ipv4(ip)) => {
                    let header = ip.header().to_header();
                    assert_eq!(
                        (header.header_checksum, header.dont_fragment),
                        (header.calc_header_checksum(), false)
                    );
                    assert_eq!(header.time_to_live, 63);
                }
                Some(NetSlice::Ipv6(ip)) => assert_eq!(ip.header().hop_limit(), 63),
                other => panic!("{other:?}"),
            }
            whole.extend(&frame[14 + fragment.l4..]);
        }
        // Put together it is a good datagram.
        let ends = (LOCAL[v6].parse::<IpAddr>().unwrap(), BACKEND[v6].parse::<SocketAddr>().unwrap().ip());
        let sum = match ends {
            (IpAddr::V4(a), IpAddr::V4(b)) => Sum::default().pseudo_v4(a, b, 17, 800),
            (IpAddr::V6(a), IpAddr::V6(b)) => Sum::default().pseudo_v6(a, b, 17, 800),
            _ => unreachable!(),
        };
        assert_eq!(sum.bytes(&whole).checksum(), 0);
        assert_eq!(whole[8..], datagram[datagram.len() - 792..]);
        assert_eq!(bed.drops(), []);
        bed.check_conservation();
    }
}

#[test]
fn the_end_of_a_drain_resets_both_sides_in_their_families() {
    for v6 in 0..2 {
        let mut bed = bed_of(&[spec(VIP[v6], Protocol::Tcp, Mode::FullNat, &[BACKEND[v6]])]);
        let (said, answer) = open(&mut bed, v6, true);
        bed.parts.generation += 1;
        bed.parts.resetting = vec![0];
        bed.publish();
        bed.send(WAN, &said.frame(WAN, b"more"));
        let to_backend = parse(&bed.receive(LAN).expect("a reset for the backend"));
        assert_eq!((to_backend.from, to_backend.to, to_backend.payload), (answer.to, answer.from, vec![]));
        let to_client = parse(&bed.receive(WAN).expect("a reset for the client"));
        assert_eq!((to_client.from, to_client.to), (said.to, said.from));
        bed.send(LAN, &answer.frame(LAN, b"late"));
        assert_eq!(parse(&bed.receive(LAN).unwrap()).to, answer.from);
        assert_eq!(parse(&bed.receive(WAN).unwrap()).to, said.from);
        assert_eq!(bed.total(|counters| counters.resets.get()), 1);
        bed.check_conservation();
    }
}

#[test]
fn silent_sides_are_asked_in_their_families() {
    for v6 in 0..2 {
        let mut bed = bed_of(&[spec(VIP[v6], Protocol::Tcp, Mode::FullNat, &[BACKEND[v6]])]);
        let (said, answer) = open(&mut bed, v6, true);
        bed.now += 1000;
        bed.parts.generation += 1;
        bed.parts.resetting = vec![0];
        bed.publish();
        let mut asked = [false; 2];
        for _ in 0..5000 {
            bed.now += 1;
            bed.turn();
            while let Some(frame) = bed.receive(LAN) {
                let question = parse(&frame);
                assert_eq!((question.from, question.to), (answer.to, answer.from));
                asked[0] = true;
            }
            while let Some(frame) = bed.receive(WAN) {
                let question = parse(&frame);
                assert_eq!((question.from, question.to), (said.to, said.from));
                asked[1] = true;
            }
        }
        assert_eq!(asked, [true; 2]);
        bed.check_conservation();
    }
}

#[test]
fn connections_of_a_removed_backend_go_on() {
    for v6 in 0..2 {
        let mut bed = bed_of(&[spec(VIP[v6], Protocol::Tcp, Mode::FullNat, &[BACKEND[v6]])]);
        let (said, answer) = open(&mut bed, v6, true);
        let vip = bed.parts.services[0].vip;
        bed.parts.generation += 1;
        bed.parts.services.clear();
        bed.parts.crossings = vec![(0, vip)];
        if let Some(backend) = &mut bed.parts.backends[0] {
            (backend.removed, backend.serving, backend.service) = (true, false, u32::MAX);
        }
        bed.publish();
        assert_eq!(parse(&bed.pass(WAN, &said.frame(WAN, b"on"), LAN)).to, answer.from);
        assert_eq!(parse(&bed.pass(LAN, &answer.frame(LAN, b"on"), WAN)).to, said.from);
    }
}

#[test]
fn datagrams_leave_a_removed_backend_for_one_of_the_other_family() {
    let both = |backends: &[&'static str]| spec(MIXED, Protocol::Udp, Mode::FullNat, backends);
    for first in 0..2 {
        let mut bed = bed_of(&[both(&[BACKEND[first]]), both(&[BACKEND[1 - first]])]);
        // The second service is where the first one's backend goes.
        let moved = bed.parts.services.pop().unwrap();
        bed.publish();
        let said = udp("198.51.100.7:40000", "192.0.2.61:80");
        assert_eq!(parse(&bed.pass(WAN, &said.frame(WAN, b"a"), LAN)).to.to_string(), BACKEND[first]);
        bed.parts.generation += 1;
        bed.parts.services = vec![moved];
        bed.parts.crossings = vec![(0, "192.0.2.61".parse().unwrap())];
        if let [Some(gone), Some(new)] = &mut bed.parts.backends[..] {
            (gone.removed, gone.serving, gone.service) = (true, false, u32::MAX);
            new.service = 0;
        }
        bed.publish();
        assert_eq!(parse(&bed.pass(WAN, &said.frame(WAN, b"b"), LAN)).to.to_string(), BACKEND[1 - first]);
        assert_eq!(bed.workers[0].pipeline().connections(), 1);
        bed.check_conservation();
    }
}

#[test]
fn nothing_on_the_wire_may_bear_a_mapped_address() {
    let mut bed = bed();
    open(&mut bed, 0, true);
    // As keys name the client, the VIP, and an IPv4 service's end.
    for (from, to) in [
        ("[::ffff:198.51.100.7]:40000", "[::ffff:192.0.2.60]:80"),
        ("[::ffff:198.51.100.7]:40000", SERVICE[1]),
        ("[2001:db8:ffff::7]:40000", "[::ffff:192.0.2.60]:80"),
        ("[2001:db8:ffff::7]:40000", "[::ffff:10.1.0.1]:65000"),
    ] {
        bed.send(WAN, &tcp(from, to, SYN).frame(WAN, b""));
        assert_eq!(bed.receive(LAN).or_else(|| bed.receive(WAN)), None, "{from} {to}");
    }
    let quote = tcp("[::ffff:192.0.2.60]:80", "[::ffff:198.51.100.7]:40000", ACK).frame(WAN, b"");
    let to = "::ffff:192.0.2.60".parse().unwrap();
    bed.send(WAN, &icmp_error(WAN, OUTER[1], to, NO_PORT[1][0], &quote[14..]));
    assert_eq!(bed.receive(LAN).or_else(|| bed.receive(WAN)), None);
    assert_eq!(bed.drops(), [("ip_source", 2), ("icmp_unrelated", 1), ("no_service", 2)]);
    bed.check_conservation();
}

#[test]
fn segments_of_no_connection_are_reset() {
    for v6 in 0..2 {
        let mut bed = bed();
        let reset = parse(&bed.pass(WAN, &request(v6, true, ACK).frame(WAN, b"data"), WAN));
        assert_eq!((reset.from.to_string(), reset.to.to_string()), (SERVICE[v6].into(), CLIENT[v6].into()));
        bed.send(WAN, &request(v6, true, RST).frame(WAN, b""));
        assert_eq!(bed.receive(WAN), None);
        assert_eq!(bed.dropped(DropReason::NoConnection), 2);
        bed.check_conservation();
    }
}

#[test]
fn entries_and_explanations_name_both_families() {
    for v6 in 0..2 {
        let mut bed = bed();
        let end = |text: &str| text.parse::<SocketAddr>().map(|end| (end.ip(), end.port())).unwrap();
        let ask = |from, to| Question { protocol: 6, source: end(from), destination: end(to) };
        let first = bed.workers[0].pipeline().explain(ask(CLIENT[v6], SERVICE[v6]), bed.now);
        let Fate::New { pick: Some(pick), .. } = first.fate else { panic!("{first:?}") };
        let picked = bed.parts.backends[pick as usize].unwrap();
        assert_eq!(SocketAddr::new(picked.address, picked.port.unwrap()).to_string(), BACKEND[v6]);
        let (_, answer) = open(&mut bed, v6, true);
        let pipeline = bed.workers[0].pipeline();
        let entry = pipeline.listing_v6(0..pipeline.listing_len().1).next().expect("an entry");
        assert_eq!(
            (entry.keys[0].source(), entry.keys[0].destination()),
            (end(CLIENT[v6]), end(SERVICE[v6]))
        );
        let ends = (answer.from.to_string(), answer.to.to_string());
        assert_eq!((entry.keys[1].source(), entry.keys[1].destination()), (end(&ends.0), end(&ends.1)));
        for (from, to, leaves) in
            [(CLIENT[v6], SERVICE[v6], (&*ends.1, &*ends.0)), (&*ends.0, &*ends.1, (SERVICE[v6], CLIENT[v6]))]
        {
            let said = pipeline.explain(ask(from, to), bed.now);
            let Fate::Known(known) = said.fate else { panic!("{said:?}") };
            assert_eq!(known.leaves, (end(leaves.0), end(leaves.1)));
        }
    }
}
