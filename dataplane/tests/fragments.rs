//! Fragments: put together at the far end, they are the datagram that was sent, translated.

mod bed;

use bed::{ACK, Bed, LAN, Left, SYN, Segment, WAN, parse, parse_problem, spec, tcp, tunnelled, two_arm, udp};
use ctl::config::{Mode, Protocol, Tunnel};
use dataplane::steering::Steering;
use dataplane::verdict::DropReason;
use dataplane::wire::checksum::Sum;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

const CLIENT: [&str; 2] = ["198.51.100", "2001:db8:ffff:"];
const NAT: [&str; 2] = ["192.0.2.10", "2001:db8:a::10"];
const DSR: [&str; 2] = ["192.0.2.20", "2001:db8:a::20"];
const FULL: [&str; 2] = ["192.0.2.30", "2001:db8:a::30"];
const GRE: [&str; 2] = ["192.0.2.40", "2001:db8:a::40"];
const GUE: [&str; 2] = ["192.0.2.41", "2001:db8:a::41"];

fn parts() -> dataplane::snapshot::Parts {
    let mut services = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for v6 in 0..2 {
            let two: &'static [&'static str] = [
                &["10.1.0.11:8080", "10.1.0.12:8080"][..],
                &["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080"][..],
            ][v6];
            let plain: &'static [&'static str] =
                [&["10.1.0.11", "10.1.0.12"][..], &["2001:db8:1::11", "2001:db8:1::12"][..]][v6];
            services.push(spec(NAT[v6], protocol, Mode::Nat, two));
            services.push(spec(FULL[v6], protocol, Mode::FullNat, two));
            services.push(spec(DSR[v6], protocol, Mode::Dsr, plain));
            services.push(tunnelled(GRE[v6], protocol, (Tunnel::Gre, true), &[], plain));
            // The outer family is the other one, and IPv6 has a checksum over everything.
            services.push(tunnelled(GUE[v6], protocol, (Tunnel::Gue, false), &[], &["2001:db8:1::11"]));
        }
    }
    two_arm(&services)
}

fn bed(workers: u8) -> Bed {
    let steering = Arc::new(Steering::keyed(workers, bed::secret()));
    let mut bed = Bed::steered(&steering, 1000, parts(), &[]);
    bed.know_all();
    bed
}

fn seal(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// One fragment of the packet in `frame`: `range` of its payload.
fn fragment(frame: &[u8], id: u16, range: std::ops::Range<usize>, more: bool) -> Vec<u8> {
    let v6 = frame[14] >> 4 == 6;
    let at = if v6 { 54 } else { 34 };
    let mut out = frame[..at].to_vec();
    let offset = range.start as u16;
    if v6 {
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        out.extend([frame[20], 0, high, low, 0, 0, (id >> 8) as u8, id as u8]);
        out[20] = 44;
        out[18..20].copy_from_slice(&(range.len() as u16 + 8).to_be_bytes());
    } else {
        out[16..18].copy_from_slice(&(range.len() as u16 + 20).to_be_bytes());
        out[18..20].copy_from_slice(&id.to_be_bytes());
        out[20..22].copy_from_slice(&((offset / 8) | u16::from(more) << 13).to_be_bytes());
        seal(&mut out[14..]);
    }
    out.extend(&frame[at + range.start..at + range.end]);
    out
}

/// All fragments of the packet in `frame`, of these sizes in turn.
fn fragments(frame: &[u8], id: u16, sizes: &[usize]) -> Vec<Vec<u8>> {
    let len = frame.len() - if frame[14] >> 4 == 6 { 54 } else { 34 };
    let (mut start, mut all) = (0, Vec::new());
    for size in sizes.iter().cycle() {
        let end = (start + size).min(len);
        all.push(fragment(frame, id, start..end, end < len));
        start = end;
        if start == len {
            return all;
        }
    }
    unreachable!("no sizes")
}

/// What a frame carries: as it is, or from inside the tunnel to which it goes.
fn opened(frame: Vec<u8>) -> Vec<u8> {
    let at = match (frame[14] >> 4, frame[if frame[14] >> 4 == 4 { 23 } else { 20 }]) {
        (4, 47) => 38,
        (6, 47) => 58,
        (6, 17) if frame[56..58] == 6080u16.to_be_bytes() => {
            // Right over all of the fragment.
            parse(&frame);
            66
        }
        _ => return frame,
    };
    let ethertype: &[u8] = if frame[at] >> 4 == 4 { &[8, 0] } else { &[0x86, 0xdd] };
    [&frame[..12], ethertype, &frame[at..]].concat()
}

/// Payload, whether more follows, and the header but for what differs between fragments.
type Part = (Vec<u8>, bool, Vec<u8>);

/// The datagrams that fragments make up, as a host would put them together, by their identification.
fn reassemble(frames: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<u16, Vec<u8>> {
    let mut parts: BTreeMap<u16, BTreeMap<usize, Part>> = BTreeMap::new();
    for frame in frames {
        let frame = opened(frame);
        let v6 = frame[14] >> 4 == 6;
        let (id, word, mut header, payload) = if v6 {
            assert_eq!(frame[20], 44);
            let mut header = frame[..54].to_vec();
            header[20] = frame[54];
            let word = u16::from_be_bytes([frame[56], frame[57]]);
            (u16::from_be_bytes([frame[60], frame[61]]), (word >> 3, word & 1 == 1), header, &frame[62..])
        } else {
            assert_eq!(Sum::default().bytes(&frame[14..34]).checksum(), 0, "header checksum");
            let word = u16::from_be_bytes([frame[20], frame[21]]);
            let id = u16::from_be_bytes([frame[18], frame[19]]);
            (id, (word & 0x1fff, word & 0x2000 != 0), frame[..34].to_vec(), &frame[34..])
        };
        // What may differ between fragments of one datagram.
        header[if v6 { 18 } else { 16 }..][..2].fill(0);
        if !v6 {
            header[20..22].fill(0);
            header[24..26].fill(0);
        }
        let before =
            parts.entry(id).or_default().insert(usize::from(word.0) * 8, (payload.to_vec(), word.1, header));
        assert!(before.is_none(), "a fragment left twice");
    }
    parts.into_iter().map(|(id, parts)| (id, join(&parts))).collect()
}

fn join(parts: &BTreeMap<usize, Part>) -> Vec<u8> {
    let mut whole = parts[&0].2.clone();
    let at = whole.len();
    let last = parts.len() - 1;
    for (n, (offset, (payload, more, header))) in parts.iter().enumerate() {
        assert_eq!(whole.len() - at, *offset, "a hole");
        assert_eq!(*more, n < last);
        assert_eq!(*header, whole[..at]);
        whole.extend(payload);
    }
    let len = (whole.len() - 14) as u16;
    if at == 54 {
        whole[18..20].copy_from_slice(&(len - 40).to_be_bytes());
    } else {
        whole[16..18].copy_from_slice(&len.to_be_bytes());
        seal(&mut whole[14..]);
    }
    whole
}

fn end(v6: usize, host: u16, port: u16) -> String {
    if v6 == 1 { format!("[{}:{host}]:{port}", CLIENT[1]) } else { format!("{}.{host}:{port}", CLIENT[0]) }
}

fn vip(mode: usize, v6: usize) -> String {
    let vip = [NAT, FULL, DSR, GRE, GUE][mode][v6];
    SocketAddr::new(vip.parse().unwrap(), 80).to_string()
}

fn drain(bed: &mut Bed, port: u8) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| bed.receive(port)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Datagrams of several flows, cut at random, in random order, arriving at random workers.
    #[test]
    fn what_arrives_is_what_was_sent(
        workers in 1u8..5, mode in 0usize..5, v6 in 0usize..2, is_tcp: bool, answers: bool,
        lens in proptest::collection::vec(100usize..3000, 1..5),
        sizes in proptest::collection::vec(9usize..80, 1..6),
        order in proptest::collection::vec(any::<u32>(), 30), arrivals in proptest::collection::vec(0usize..5, 30),
    ) {
        let mut bed = bed(workers);
        let sizes: Vec<usize> = sizes.iter().map(|size| size * 8).collect();
        // Answers pass only with nat and full-nat.
        let answers = answers && mode < 2;
        let (into, out) = if answers { (LAN, WAN) } else { (WAN, LAN) };
        let (mut sent, mut expected) = (Vec::new(), BTreeMap::new());
        for (n, len) in lens.iter().enumerate() {
            let (from, to) = (end(v6, 7 + n as u16, 4000), vip(mode, v6));
            let request = if is_tcp { tcp(&from, &to, SYN) } else { udp(&from, &to) };
            let payload: Vec<u8> = (0..*len).map(|i| (i * 7 + n) as u8).collect();
            let id = 100 + n as u16;
            let mut segment = request;
            if answers {
                let left = parse(&bed.pass(WAN, &request.frame(WAN, b""), LAN));
                segment = Segment { from: left.to, to: left.from, tcp: is_tcp.then_some(SYN | ACK), hop_limit: 64 };
            }
            sent.extend(fragments(&segment.frame(into, &payload), id, &sizes));
            expected.insert(id, (request, payload));
        }
        let mut shuffled: Vec<(u32, usize, Vec<u8>)> = sent
            .into_iter()
            .enumerate()
            .map(|(n, frame)| {
                (order[n % 30].wrapping_mul(n as u32 * 2 + 1), arrivals[n % 30] % usize::from(workers), frame)
            })
            .collect();
        shuffled.sort_by_key(|(key, _, _)| *key);
        let mut left = Vec::new();
        for (key, worker, frame) in shuffled {
            bed.wires[worker][usize::from(into)].send(&frame);
            // Sometimes several at once.
            if key % 3 > 0 {
                bed.turn();
                left.extend(drain(&mut bed, out));
            }
        }
        bed.turn();
        left.extend(drain(&mut bed, out));
        prop_assert_eq!(bed.drops(), vec![]);
        prop_assert_eq!(bed.total(|c| c.held.get()), 0);
        let whole = reassemble(left);
        prop_assert_eq!(whole.len(), expected.len());
        for (id, frame) in whole {
            let (request, payload) = &expected[&id];
            let Left { from, to, hop_limit, tcp, payload: got, .. } = parse(&frame);
            prop_assert_eq!((&got, tcp, hop_limit), (payload, is_tcp, 63));
            if answers {
                prop_assert_eq!((from, to), (request.to, request.from));
            } else {
                prop_assert_eq!(to.port(), if mode < 2 { 8080 } else { 80 });
                prop_assert!(mode == 1 || from == request.from);
                prop_assert!(mode < 2 || to == request.to);
            }
        }
        bed.check_conservation();
        let connections: usize = bed.workers.iter().map(|worker| worker.pipeline().connections()).sum();
        prop_assert_eq!(connections, lens.len());
    }

    /// Whatever fragments there are, in whatever state: nothing overlaps at the far end, and the books balance.
    #[test]
    fn what_leaves_never_overlaps(
        workers in 1u8..4, v6 in 0usize..2,
        parts in proptest::collection::vec((0u16..3, 0usize..12, 1usize..6, 0usize..3), 1..80),
    ) {
        let mut bed = bed(workers);
        let frame = udp(&end(v6, 7, 4000), &vip(0, v6)).frame(WAN, &[7; 200]);
        let mut seen: BTreeMap<(Vec<u8>, u16), Vec<bool>> = BTreeMap::new();
        for (id, start, len, worker) in parts {
            // Never the last: a datagram that is whole may be followed by another of its number.
            let one = fragment(&frame, id, start * 8..start * 8 + len * 8, true);
            bed.wires[worker % usize::from(workers)][0].send(&one);
            bed.turn();
        }
        for frame in drain(&mut bed, LAN) {
            let (offset, len, id) = if v6 == 1 {
                (u16::from_be_bytes([frame[56], frame[57]]) >> 3, frame.len() - 62, [frame[60], frame[61]])
            } else {
                (u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff, frame.len() - 34, [frame[18], frame[19]])
            };
            let units = seen.entry((frame[..6].to_vec(), u16::from_be_bytes(id))).or_insert_with(|| vec![false; 64]);
            let units = &mut units[usize::from(offset)..usize::from(offset) + len / 8];
            prop_assert!(units.iter().all(|seen| !seen), "a part left twice");
            units.fill(true);
        }
        bed.check_conservation();
        bed.now += 3000;
        bed.turn();
        prop_assert_eq!(bed.total(|c| c.held.get()), 0);
        bed.check_conservation();
    }
}

#[test]
fn floods_are_bounded_and_others_get_through() {
    let mut bed = bed(1);
    let frame = udp("198.51.100.7:4000", "192.0.2.10:80").frame(WAN, &[7; 1000]);
    for n in 0..20_000u32 {
        let mut one = fragment(&frame, n as u16, 80..160, true);
        one[27..30].copy_from_slice(&n.to_be_bytes()[1..]);
        seal(&mut one[14..]);
        bed.send(WAN, &one);
        // First ones, too: of datagrams that never become whole.
        let mut one = fragment(&frame, n as u16, 0..80, true);
        one[27..30].copy_from_slice(&(n | 0x80_0000).to_be_bytes()[1..]);
        seal(&mut one[14..]);
        bed.send(WAN, &one);
        if n % 1000 == 0 {
            drain(&mut bed, LAN);
            let whole =
                fragments(&udp("203.0.113.9:4000", "192.0.2.20:80").frame(WAN, &[5; 2000]), n as u16, &[800]);
            let count = whole.len();
            for one in whole {
                bed.send(WAN, &one);
            }
            assert_eq!(drain(&mut bed, LAN).len(), count, "in the midst of a flood");
        }
    }
    assert_eq!(bed.total(|c| c.held.get()), 256);
    assert_eq!(bed.dropped(DropReason::FragmentQueueFull), 20_000 - 256);
    assert!(bed.total(|c| c.fragment_evictions.get()) > 30_000);
    bed.check_conservation();
    bed.now += 2000;
    bed.turn();
    assert_eq!((bed.total(|c| c.held.get()), bed.dropped(DropReason::FragmentTimeout)), (0, 256));
    bed.check_conservation();
}

#[test]
fn each_flaw_has_its_reason() {
    let big = |v6: usize| udp(&end(v6, 7, 4000), &vip(0, v6)).frame(WAN, &[7; 1000]);
    for v6 in 0..2 {
        let whole = big(v6);
        let segment = tcp(&end(v6, 7, 4000), &vip(0, v6), SYN).frame(WAN, &[7; 1000]);
        let cases: [(&str, Vec<Vec<u8>>, &str); 9] = [
            ("of odd length", vec![fragment(&whole, 1, 0..81, true)], "fragment_malformed"),
            ("empty", vec![fragment(&whole, 1, 8..8, true)], "fragment_malformed"),
            ("ports alone", vec![fragment(&segment, 1, 0..8, true)], "fragment_tiny"),
            ("half a TCP header", vec![fragment(&segment, 1, 0..16, true)], "fragment_tiny"),
            ("over the TCP header", vec![fragment(&segment, 1, 16..64, true)], "fragment_tiny"),
            (
                "teardrop",
                vec![fragment(&whole, 1, 0..80, true), fragment(&whole, 1, 40..120, true)],
                "fragment_overlap",
            ),
            (
                "a part of a poisoned one",
                vec![
                    fragment(&whole, 1, 0..80, true),
                    fragment(&whole, 1, 72..160, true),
                    fragment(&whole, 1, 160..240, true),
                ],
                "fragment_overlap",
            ),
            (
                "a copy",
                vec![fragment(&whole, 1, 0..80, true), fragment(&whole, 1, 0..80, true)],
                "fragment_overlap",
            ),
            (
                "beyond the last",
                vec![
                    fragment(&whole, 1, 0..80, true),
                    fragment(&whole, 1, 160..240, false),
                    fragment(&whole, 1, 240..320, true),
                ],
                "fragment_overlap",
            ),
        ];
        for (what, frames, reason) in cases {
            let mut bed = bed(1);
            for frame in &frames {
                bed.send(WAN, frame);
            }
            let count = frames.len() as u64;
            let drops = bed.drops();
            assert!(drops.len() == 1 && drops[0].0 == reason, "{what}: {drops:?}");
            assert_eq!(drain(&mut bed, LAN).len() as u64, count - drops[0].1, "{what}");
            bed.check_conservation();
        }
    }
}

#[test]
fn a_whole_datagram_is_forgotten_and_its_number_used_again() {
    let mut bed = bed(2);
    for v6 in 0..2 {
        let whole = udp(&end(v6, 7, 4000), &vip(0, v6)).frame(WAN, &[7; 2000]);
        for _ in 0..20 {
            for one in fragments(&whole, 9, &[800]) {
                bed.send(WAN, &one);
            }
            assert_eq!(drain(&mut bed, LAN).len(), 3);
        }
    }
    assert_eq!(bed.drops(), []);
    bed.check_conservation();
}

#[test]
fn what_the_first_one_is_dropped_for_the_others_are_too() {
    for workers in 1..4 {
        let mut bed = bed(workers);
        let nobody = udp("198.51.100.7:4000", "192.0.2.10:81").frame(WAN, &[7; 2000]);
        let mut parts = fragments(&nobody, 9, &[400]);
        parts.rotate_left(2);
        for one in &parts {
            bed.send(WAN, one);
        }
        assert_eq!(bed.drops(), [("no_service", parts.len() as u64)]);
        // A health check's answer in fragments.
        let mut bed = self::bed(workers);
        for one in fragments(&udp("10.1.0.11:53", "10.1.0.1:65000").frame(LAN, &[7; 2000]), 9, &[800]) {
            bed.send(LAN, &one);
        }
        assert_eq!(bed.drops(), [("fragment", 3)]);
        bed.check_conservation();
    }
}

#[test]
fn without_room_for_a_connection_dsr_goes_on() {
    let mut parts = parts();
    parts.generation = 1;
    let mut bed = Bed::new(1, 1, parts);
    bed.know_all();
    // An established connection fills the table.
    let (ask, answer) =
        (tcp("198.51.100.9:1", "192.0.2.10:80", SYN), tcp("10.1.0.11:8080", "198.51.100.9:1", ACK));
    bed.pass(WAN, &ask.frame(WAN, b""), LAN);
    bed.pass(LAN, &Segment { tcp: Some(SYN | ACK), ..answer }.frame(LAN, b""), WAN);
    bed.pass(WAN, &Segment { tcp: Some(ACK), ..ask }.frame(WAN, b""), LAN);
    bed.pass(LAN, &answer.frame(LAN, b"hello"), WAN);
    for (vip, count) in [("192.0.2.20:80", 3), ("192.0.2.40:80", 3), ("192.0.2.10:80", 0)] {
        for one in fragments(&udp("198.51.100.7:4000", vip).frame(WAN, &[7; 2000]), 9, &[800]) {
            bed.send(WAN, &one);
        }
        let left: Vec<Vec<u8>> = drain(&mut bed, LAN);
        assert_eq!(left.len(), count, "{vip}: {:?}", bed.drops());
        assert!(left.iter().all(|frame| frame[..6] == left[0][..6]), "one backend");
        if count > 0 {
            let whole = reassemble(left);
            assert_eq!(parse(&whole[&9]).payload, [7; 2000]);
        }
    }
    assert_eq!(bed.drops(), [("table_full", 3)]);
    bed.check_conservation();
}

#[test]
fn a_fragment_that_is_all_of_its_datagram_is_no_fragment() {
    let mut bed = bed(3);
    let whole = udp(&end(1, 7, 4000), &vip(0, 1)).frame(WAN, b"atomic");
    let len = whole.len() - 54;
    // RFC 6946: each by itself, though the numbers are the same.
    for _ in 0..3 {
        let left = bed.pass(WAN, &fragment(&whole, 1, 0..len, false), LAN);
        assert_eq!(parse(&left).payload, b"atomic");
    }
    bed.check_conservation();
}

#[test]
fn the_first_one_is_answered_when_it_does_not_fit() {
    let mut parts = parts();
    parts.ports[1].mtu = 600;
    let mut bed = Bed::new(1, 100, parts);
    bed.know_all();
    for v6 in 0..2 {
        let whole = udp(&end(v6, 7, 4000), &vip(0, v6)).frame(WAN, &[7; 2000]);
        for one in fragments(&whole, 9, &[800]) {
            bed.send(WAN, &one);
        }
        let problems = drain(&mut bed, WAN);
        assert_eq!(problems.len(), 1);
        parse_problem(&problems[0]);
    }
    assert_eq!(bed.drops(), [("mtu_exceeded", 6)]);
    let last_hop = Segment { hop_limit: 1, ..udp(&end(0, 7, 4000), &vip(0, 0)) }.frame(WAN, &[7; 2000]);
    for one in fragments(&last_hop, 10, &[800]) {
        bed.send(WAN, &one);
    }
    assert_eq!((bed.dropped(DropReason::HopLimit), drain(&mut bed, WAN).len()), (3, 1));
    bed.check_conservation();
}

#[test]
fn fragments_wait_for_the_next_hop_too() {
    let mut bed = Bed::new(2, 100, parts());
    bed.know("10.0.0.1");
    let whole = udp(&end(0, 7, 4000), &vip(0, 0)).frame(WAN, &[7; 2000]);
    let mut parts = fragments(&whole, 9, &[400]);
    parts.reverse();
    for one in &parts {
        bed.send(WAN, one);
    }
    assert_eq!(bed.total(|c| c.held.get()), parts.len() as u64);
    bed.know("10.1.0.11");
    bed.know("10.1.0.12");
    assert_eq!(parse(&reassemble(drain(&mut bed, LAN))[&9]).payload, [7; 2000]);
    bed.check_conservation();
}
