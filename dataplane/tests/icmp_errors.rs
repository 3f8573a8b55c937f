//! ICMP errors about connections: whoever has to hear of them does, in words that it knows.

mod bed;

use bed::{
    ACK, Bed, GATEWAY_MAC, LAN, PORT_MACS, SYN, Segment, WAN, icmp_error, mac_of, parse_problem, spec,
    steering, tcp, tunnelled, two_arm, udp,
};
use ctl::config::{Mode, Protocol, Tunnel};
use dataplane::wire::checksum::Sum;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const CLIENT: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// Routers beyond the gateway, and between the balancer and its backends.
const OUTER: [&str; 2] = ["203.0.113.9", "2001:db8:eeee::9"];
const INNER: [&str; 2] = ["10.1.0.77", "2001:db8:1::77"];
const BACKEND: [&str; 2] = ["10.1.0.11", "2001:db8:1::11"];
const NAT: [&str; 2] = ["192.0.2.10", "2001:db8:a::10"];
const DSR: [&str; 2] = ["192.0.2.20", "2001:db8:a::20"];
const FULL: [&str; 2] = ["192.0.2.30", "2001:db8:a::30"];
const L3DSR: [&str; 2] = ["192.0.2.48", "2001:db8:a::48"];
const KINDS: [(Tunnel, bool); 4] =
    [(Tunnel::Ipip, true), (Tunnel::Gue, true), (Tunnel::Gue, false), (Tunnel::Gre, true)];
/// By kind of tunnel, then by outer family and by inner one.
const BEHIND: [[[&str; 2]; 2]; 4] = [
    [["192.0.2.40", "2001:db8:a::40"], ["192.0.2.41", "2001:db8:a::41"]],
    [["192.0.2.42", "2001:db8:a::42"], ["192.0.2.43", "2001:db8:a::43"]],
    [["192.0.2.44", "2001:db8:a::44"], ["192.0.2.45", "2001:db8:a::45"]],
    [["192.0.2.46", "2001:db8:a::46"], ["192.0.2.47", "2001:db8:a::47"]],
];

/// Every mode in both families, over so many workers; `kind` says how owners are found.
fn bed(workers: u8, kind: u8) -> Bed {
    let mut services = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for v6 in 0..2 {
            let backend: &'static str = ["10.1.0.11:8080", "[2001:db8:1::11]:8080"][v6];
            services.push(spec(NAT[v6], protocol, Mode::Nat, &[backend]));
            services.push(spec(FULL[v6], protocol, Mode::FullNat, &[backend]));
            services.push(spec(DSR[v6], protocol, Mode::Dsr, &[BACKEND[v6]]));
            services.push(tunnelled(L3DSR[v6], protocol, (Tunnel::L3dsr, true), &[], &[BACKEND[v6]]));
            for (kind, vips) in KINDS.into_iter().zip(BEHIND) {
                for outer in 0..2 {
                    services.push(tunnelled(vips[outer][v6], protocol, kind, &[], &[BACKEND[outer]]));
                }
            }
        }
    }
    let mut bed = Bed::steered(&steering(kind, workers), 1000, two_arm(&services), &[]);
    bed.know_all();
    bed
}

const TOO_BIG: [(u8, u8, u32); 2] = [(3, 4, 1280), (2, 0, 1280)];
const EXPIRED: [(u8, u8, u32); 2] = [(11, 0, 0), (3, 0, 0)];
const NO_PORT: [(u8, u8, u32); 2] = [(3, 3, 0), (1, 4, 0)];
const PARAMETER: [(u8, u8, u32); 2] = [(12, 0, 0x0100_0000), (4, 0, 6)];

/// The packet in a frame with one hop less.
fn forwarded(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        packet[10..12].fill(0);
        let sum = Sum::default().bytes(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[7] -= 1;
    }
    packet
}

/// Sends a frame to a port of a worker and returns what leaves.
fn through(bed: &mut Bed, worker: usize, port: u8, frame: &[u8], out: u8) -> Vec<u8> {
    bed.wires[worker][usize::from(port)].send(frame);
    bed.turn();
    let left = bed.receive(out).unwrap_or_else(|| panic!("nothing left; drops: {:?}", bed.drops()));
    assert_eq!(bed.receive(0).or_else(|| bed.receive(1)), None, "more than one frame left");
    left
}

fn end(address: &str, port: u16) -> String {
    SocketAddr::new(address.parse().unwrap(), port).to_string()
}

/// A client's first packet, as it arrives and as it leaves.
fn request(bed: &mut Bed, vip: &str, port: u16, is_tcp: bool, payload: &[u8]) -> (Segment, Vec<u8>, Vec<u8>) {
    let v6 = usize::from(vip.contains(':'));
    let (from, to) = (end(CLIENT[v6], port), end(vip, 80));
    let segment = if is_tcp { tcp(&from, &to, SYN) } else { udp(&from, &to) };
    let arrived = segment.frame(WAN, payload);
    let left = through(bed, 0, WAN, &arrived, LAN);
    (segment, arrived, left)
}

fn entries(bed: &Bed) -> Vec<String> {
    let mut entries = Vec::new();
    for worker in &bed.workers {
        let pipeline = worker.pipeline();
        let (v4, v6) = pipeline.listing_len();
        entries.extend(pipeline.listing_v4(0..v4).map(|entry| format!("{entry:?}")));
        entries.extend(pipeline.listing_v6(0..v6).map(|entry| format!("{entry:?}")));
    }
    entries
}

/// Where the packet in `frame` comes from.
fn source(frame: &[u8]) -> IpAddr {
    if frame[14] >> 4 == 4 {
        <[u8; 4]>::try_from(&frame[26..30]).unwrap().into()
    } else {
        <[u8; 16]>::try_from(&frame[22..38]).unwrap().into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// There and back is identity: what an end is quoted is what it sent (but for the hop), whole or cut short anywhere,
    /// with every checksum valid; whichever worker hears of it; and the connection does not notice.
    #[test]
    fn each_end_is_quoted_what_it_sent(
        workers in 1u8..5, kind in 0u8..3, at in 0usize..5, full: bool, v6 in 0usize..2, is_tcp: bool, port in 1024u16..,
        payload in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..260, what in 0usize..4, far: bool,
    ) {
        let mut bed = bed(workers, kind);
        let at = at % usize::from(workers);
        let vip = if full { FULL[v6] } else { NAT[v6] };
        let ip = [20, 40][v6];
        let (segment, arrived, left) = request(&mut bed, vip, port, is_tcp, &payload);
        let client: IpAddr = CLIENT[v6].parse().unwrap();
        let said = [TOO_BIG, EXPIRED, NO_PORT, PARAMETER][what][v6];
        let before = entries(&bed);
        bed.now += 500;

        // A router on the way to the backend, or the backend itself.
        // Half of TCP's checksum is left as it is, for its other half may carry into it.
        let cut = if is_tcp && cut == 9 { 8 } else { cut };
        let cut = |packet: &[u8]| (ip + 8 + cut).min(packet.len());
        let quote = &left[14..14 + cut(&left[14..])];
        let from = if far { INNER[v6] } else { BACKEND[v6] };
        let told = parse_problem(&through(&mut bed, at, LAN, &icmp_error(LAN, from, source(&left), said, quote), WAN));
        let expired = what == 1 && far;
        let speaker = if expired { ["10.0.0.2", "2001:db8::2"][v6] } else { vip };
        prop_assert_eq!((told.from.to_string(), told.to), (speaker.to_owned(), client));
        prop_assert_eq!((told.kind, told.code, told.rest, told.hop_limit), (said.0, said.1, said.2, 59));
        prop_assert_eq!((told.to_mac, told.from_mac), (GATEWAY_MAC, PORT_MACS[0]));
        prop_assert_eq!(&told.quote[..], &forwarded(&arrived)[..quote.len()]);

        // The answer, and a router on its way to the client.
        let backend: SocketAddr = end(BACKEND[v6], 8080).parse().unwrap();
        prop_assert_eq!(entries(&bed), before);
        let mut answer = segment.reply(SYN | ACK);
        answer.from = backend;
        answer.to = SocketAddr::new(source(&left), u16::from_be_bytes([left[14 + ip], left[15 + ip]]));
        let answered = answer.frame(LAN, &payload);
        let left = through(&mut bed, 0, LAN, &answered, WAN);
        let before = entries(&bed);
        bed.now += 500;
        let quote = &left[14..14 + cut(&left[14..])];
        let from = if far { OUTER[v6] } else { CLIENT[v6] };
        let told = parse_problem(&through(&mut bed, at, WAN, &icmp_error(WAN, from, vip.parse().unwrap(), said, quote), LAN));
        let speaker = if full { answer.to.ip().to_string() } else { from.to_owned() };
        prop_assert_eq!((told.from.to_string(), told.to), (speaker, backend.ip()));
        prop_assert_eq!((told.kind, told.code, told.rest, told.hop_limit), (said.0, said.1, said.2, 59));
        prop_assert_eq!((told.to_mac, told.from_mac), (mac_of(backend.ip()), PORT_MACS[1]));
        prop_assert_eq!(&told.quote[..], &forwarded(&answered)[..quote.len()]);
        prop_assert_eq!(entries(&bed), before);
        prop_assert_eq!(bed.total(|c| c.icmp_errors.get()), 2);
        prop_assert_eq!(bed.drops(), vec![]);
        bed.check_conservation();
    }

    /// Whatever an error quotes, and whatever is broken about it: nothing panics, and the books balance.
    #[test]
    fn nonsense_is_dropped_and_counted(
        v6 in 0usize..2, mode in 0usize..4, noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 0usize..90, sealed: bool, workers in 1u8..4,
    ) {
        let mut bed = bed(workers, 0);
        let vip = [NAT[v6], FULL[v6], DSR[v6], BEHIND[2][v6][1 - v6]][mode];
        let (_, _, left) = request(&mut bed, vip, 4000, false, &[5; 60]);
        let outer = usize::from(left[14] >> 4 == 6);
        let mut quote = left[14..(left.len() - cut).max(15)].to_vec();
        for (at, value) in &noise {
            let at = at.index(quote.len());
            quote[at] = *value;
        }
        let mut frame = icmp_error(LAN, INNER[outer], source(&left), TOO_BIG[outer], &quote);
        if !sealed {
            let len = frame.len();
            frame[len - 1] ^= 0x55;
        }
        bed.wires[0][1].send(&frame);
        bed.turn();
        if let Some(told) = bed.receive(WAN) {
            parse_problem(&told);
        }
        while bed.receive(LAN).is_some() {}
        bed.check_conservation();
    }
}

#[test]
fn backends_that_answer_directly_hear_what_the_way_to_the_client_says() {
    for workers in 1..4 {
        for v6 in 0..2 {
            let mut bed = bed(workers, 0);
            let (segment, _, _) = request(&mut bed, DSR[v6], 4000, true, b"");
            let answer = forwarded(&segment.reply(ACK).frame(LAN, &[7; 1000]));
            let frame = icmp_error(WAN, OUTER[v6], DSR[v6].parse().unwrap(), TOO_BIG[v6], &answer[..100]);
            let told = through(&mut bed, usize::from(workers) - 1, WAN, &frame, LAN);
            assert_eq!(told[..6], mac_of(BACKEND[v6].parse().unwrap()).0);
            assert_eq!(told[14..], forwarded(&frame));
            parse_problem(&told);

            // A router that the client's packet met behind the balancer.
            let (_, _, left) = request(&mut bed, DSR[v6], 4000, true, b"");
            let frame = icmp_error(LAN, INNER[v6], CLIENT[v6].parse().unwrap(), EXPIRED[v6], &left[14..]);
            let told = through(&mut bed, 0, LAN, &frame, WAN);
            assert_eq!(told[14..], forwarded(&frame));
            assert_eq!(told[..6], GATEWAY_MAC.0);
            assert_eq!(bed.drops(), []);
            bed.check_conservation();
        }
    }
}

/// Where the inner packet begins in a frame: by outer family, and by kind of tunnel.
fn inner(outer: usize, kind: usize) -> usize {
    14 + [20, 40][outer] + [0, 8, 12, 4][kind]
}

fn each_tunnel(mut test: impl FnMut(usize, usize, usize, &'static str)) {
    for (kind, vips) in BEHIND.into_iter().enumerate() {
        for (outer, vips) in vips.into_iter().enumerate() {
            for (v6, vip) in vips.into_iter().enumerate() {
                test(kind, outer, v6, vip);
            }
        }
    }
}

#[test]
fn backends_behind_tunnels_hear_through_the_tunnel() {
    each_tunnel(|kind, outer, v6, vip| {
        let mut bed = bed(3, 0);
        let (segment, _, first) = request(&mut bed, vip, 4000, true, b"");
        let answer = forwarded(&segment.reply(ACK).frame(LAN, &[7; 301]));
        let frame = icmp_error(WAN, OUTER[v6], vip.parse().unwrap(), TOO_BIG[v6], &answer);
        let told = through(&mut bed, 2, WAN, &frame, LAN);
        let at = inner(outer, kind);
        assert_eq!(told[at..], forwarded(&frame));
        assert_eq!(source(&told), source(&first), "from the flow's own outer source");
        if kind == 1 || kind == 2 {
            assert_eq!(told[at - 12..at - 8][..2], first[at - 12..at - 8][..2]);
            bed::parse(&told);
        }
        bed.check_conservation();
    });
}

#[test]
fn clients_hear_what_happened_in_the_tunnel() {
    each_tunnel(|kind, outer, v6, vip| {
        let mut bed = bed(3, 0);
        let (_, arrived, left) = request(&mut bed, vip, 4000, false, &[7; 1300]);
        let at = inner(outer, kind);
        for (worker, (said, expected)) in [
            // The sizes of what is around the packet are taken off.
            ((TOO_BIG[outer].0, TOO_BIG[outer].1, 1360), {
                let (kind, code, _) = TOO_BIG[v6];
                (kind, code, 1360 - (at as u32 - 14))
            }),
            (NO_PORT[outer], [(3, 1, 0), (1, 3, 0)][v6]),
            (EXPIRED[outer], [(3, 1, 0), (1, 3, 0)][v6]),
        ]
        .into_iter()
        .enumerate()
        {
            // As much as Linux quotes.
            let quote = &left[14..14 + [548, 1232][outer]];
            let frame = icmp_error(LAN, INNER[outer], source(&left), said, quote);
            let told = parse_problem(&through(&mut bed, worker, LAN, &frame, WAN));
            assert_eq!((told.kind, told.code, told.rest), expected, "{vip}");
            assert_eq!((told.from.to_string(), told.to.to_string()), (vip.into(), CLIENT[v6].into()));
            let longest = [548, 1232][v6].min(quote.len() - (at - 14));
            assert_eq!(told.quote, forwarded(&arrived)[..longest]);
        }
        assert_eq!(bed.total(|c| c.icmp_errors.get()), 3);
        assert_eq!(bed.drops(), []);

        // Too little to know whose it was, and what is nobody's affair outside.
        let mut short = left[14..at].to_vec();
        short.extend(&left[at..at + 8 - (at - 14 - [20, 40][outer]).min(8)]);
        bed.send(LAN, &icmp_error(LAN, INNER[outer], source(&left), TOO_BIG[outer], &short));
        bed.send(LAN, &icmp_error(LAN, INNER[outer], source(&left), PARAMETER[outer], &left[14..]));
        let impossible = (TOO_BIG[outer].0, TOO_BIG[outer].1, 40);
        bed.send(LAN, &icmp_error(LAN, INNER[outer], source(&left), impossible, &left[14..]));
        assert_eq!((bed.receive(WAN), bed.drops()), (None, vec![("tunnel_error", 3)]), "{vip}");
        bed.check_conservation();
    });
}

/// L3DSR: a router before the backend quotes a packet that no client has sent.
#[test]
fn clients_hear_of_readdressed_packets_as_they_sent_them() {
    for workers in 1..4u8 {
        for (v6, is_tcp) in [(0, false), (0, true), (1, false), (1, true)] {
            let mut bed = bed(workers, 0);
            let (_, arrived, left) =
                request(&mut bed, L3DSR[v6], 4000 + u16::from(workers), is_tcp, b"payload");
            let (client, vip): (IpAddr, IpAddr) = (CLIENT[v6].parse().unwrap(), L3DSR[v6].parse().unwrap());
            let mut expected = forwarded(&arrived);
            let class = left[14..16].to_vec();
            if v6 == 0 {
                expected[1] = class[1];
                expected[10..12].fill(0);
                let sum = Sum::default().bytes(&expected[..20]).checksum();
                expected[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                expected[..2].copy_from_slice(&class);
            }
            for worker in 0..usize::from(workers) {
                for (what, speaker) in [(TOO_BIG, Some(vip)), (EXPIRED, None)] {
                    let message = icmp_error(LAN, INNER[v6], client, what[v6], &left[14..]);
                    let told = through(&mut bed, worker, LAN, &message, WAN);
                    parse_problem(&told);
                    let (header, port) = if v6 == 0 { (34, "10.0.0.2") } else { (54, "2001:db8::2") };
                    assert_eq!(source(&told), speaker.unwrap_or_else(|| port.parse().unwrap()));
                    assert_eq!(told[header], what[v6].0);
                    assert_eq!(told[header + 8..], expected);
                }
            }
            // Remarked on the way, or to a backend that is not in it: no connection's.
            let mut remarked = left[14..].to_vec();
            remarked[1] ^= 0x40;
            bed.send(LAN, &icmp_error(LAN, INNER[v6], client, TOO_BIG[v6], &remarked));
            let mut foreign = left[14..].to_vec();
            let last = if v6 == 0 { 19 } else { 39 };
            foreign[last] ^= 0x7f;
            bed.send(LAN, &icmp_error(LAN, INNER[v6], client, TOO_BIG[v6], &foreign));
            assert_eq!(bed.receive(WAN), None);
            assert_eq!(bed.dropped(dataplane::verdict::DropReason::IcmpUnrelated), 2);
            bed.check_conservation();
        }
    }
}

#[test]
fn each_flaw_has_its_reason() {
    for v6 in 0..2 {
        let mut bed = bed(2, 0);
        let ip = [20, 40][v6];
        let (_, _, left) = request(&mut bed, NAT[v6], 4000, false, &[7; 100]);
        let quote = &left[14..];
        let client: IpAddr = CLIENT[v6].parse().unwrap();
        let good = icmp_error(LAN, INNER[v6], client, TOO_BIG[v6], quote);
        let changed = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame
        };
        let about = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut quote = quote.to_vec();
            change(&mut quote);
            icmp_error(LAN, INNER[v6], client, TOO_BIG[v6], &quote)
        };
        let echo = [1, 58][v6];
        let mut few_hops = good.clone();
        if v6 == 1 {
            few_hops[21] = 1;
        } else {
            few_hops[22] = 1;
            few_hops[24..26].fill(0);
            let sum = Sum::default().bytes(&few_hops[14..34]).checksum();
            few_hops[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let later: &dyn Fn(&mut Vec<u8>) = if v6 == 1 {
            &|quote| {
                quote[6] = 44;
                quote.splice(40..40, [17, 0, 0, 8, 0, 0, 0, 1]);
            }
        } else {
            &|quote| quote[7] = 1
        };
        let cases = [
            ("icmp_error_truncated", about(&|quote| quote.truncate(ip + 7))),
            ("icmp_error_truncated", about(&|quote| quote.truncate(7))),
            ("icmp_error_truncated", about(&|quote| quote.clear())),
            ("icmp_malformed", about(&|quote| quote[0] = 0x75)),
            ("icmp_error_checksum", changed(14 + ip + 8 + ip + 9, 0x99)),
            ("icmp_error_about_icmp", about(&|quote| quote[[9, 6][v6]] = echo)),
            ("icmp_unrelated", about(&|quote| quote[[9, 6][v6]] = 132)),
            ("icmp_fragment", about(later)),
            // Of another client, or to somebody else than who sent the packet.
            ("icmp_unrelated", about(&|quote| quote[ip] ^= 0x40)),
            ("icmp_unrelated", icmp_error(LAN, INNER[v6], OUTER[v6].parse().unwrap(), TOO_BIG[v6], quote)),
            // A packet that never left the balancer.
            ("icmp_unrelated", about(&|quote| quote[[19, 39][v6]] = 99)),
            ("hop_limit", few_hops),
        ];
        for (reason, frame) in cases {
            let before = bed.drops();
            let count = before.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count);
            bed.send(LAN, &frame);
            assert_eq!(bed.receive(WAN).or_else(|| bed.receive(LAN)), None, "{reason}");
            assert!(
                bed.drops().contains(&(reason, count + 1)),
                "{reason}, but {before:?} and {:?}",
                bed.drops()
            );
        }
        parse_problem(&bed.pass(LAN, &good, WAN));
        bed.check_conservation();
    }
}

#[test]
fn fragments_of_icmp_have_their_own_reason() {
    let mut bed = bed(1, 0);
    let mut frame = icmp_error(LAN, INNER[0], CLIENT[0].parse().unwrap(), TOO_BIG[0], &[0x45; 64]);
    frame[20] = 0x20;
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    bed.send(LAN, &frame);
    assert_eq!(bed.drops(), [("icmp_fragment", 1)]);
}

#[test]
fn an_error_that_does_not_fit_is_not_answered() {
    let mut parts = bed(1, 0).parts;
    parts.ports[0].mtu = 600;
    let mut bed = Bed::new(1, 100, parts);
    bed.know_all();
    let (_, _, left) = request(&mut bed, NAT[0], 4000, false, &[7; 1000]);
    bed.send(LAN, &icmp_error(LAN, INNER[0], CLIENT[0].parse().unwrap(), TOO_BIG[0], &left[14..]));
    assert_eq!(
        (bed.receive(WAN).or_else(|| bed.receive(LAN)), bed.drops()),
        (None, vec![("mtu_exceeded", 1)])
    );
    bed.check_conservation();
}

#[test]
fn an_error_waits_for_its_next_hop() {
    let mut bed = bed(1, 0);
    let (segment, _, _) = request(&mut bed, DSR[0], 4000, true, b"");
    let answer = forwarded(&segment.reply(ACK).frame(LAN, b""));
    bed.parts.ports[1].mtu = 1400;
    bed.parts.generation += 1;
    // Another MTU: neighbours are found anew.
    bed.publish();
    bed.send(WAN, &icmp_error(WAN, OUTER[0], DSR[0].parse().unwrap(), TOO_BIG[0], &answer));
    assert_eq!(bed.total(|c| c.held.get()), 1);
    bed.know(BACKEND[0]);
    parse_problem(&bed.receive(LAN).expect("released"));
    bed.check_conservation();
}

#[test]
fn resets_and_refusals_are_sent_at_a_bounded_rate() {
    let mut bed = bed(1, 0);
    let frame = tcp(&end(CLIENT[0], 4000), &end(FULL[0], 80), ACK).frame(WAN, b"");
    let flood = |bed: &mut Bed| {
        for _ in 0..500 {
            bed.send(WAN, &frame);
        }
        std::iter::from_fn(|| bed.receive(WAN)).count()
    };
    assert_eq!(flood(&mut bed), 100);
    bed.now += 20;
    assert_eq!(flood(&mut bed), 20);
    assert_eq!(bed.drops(), [("no_connection", 1000)]);
    bed.check_conservation();
}
