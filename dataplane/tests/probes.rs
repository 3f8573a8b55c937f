//! Answers to health checks on their way to the control thread, and what connections say about backends.

mod bed;

use bed::{ACK, Bed, LAN, PORT_MACS, RST, SYN, WAN, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::flow::FIRST_PROBE_PORT;
use dataplane::verdict::DropReason;
use dataplane::worker::{PROBE_FRAME, Probe};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};

fn bed(workers: usize) -> Bed {
    let mut bed = Bed::new(
        workers,
        100,
        two_arm(&[
            spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
            spec("192.0.2.20", Protocol::Tcp, Mode::Dsr, &["10.1.0.11"]),
        ]),
    );
    bed.know_all();
    bed
}

fn answers(bed: &mut Bed) -> Vec<Probe> {
    bed.controls.iter_mut().flat_map(|end| std::iter::from_fn(|| end.receive_answer())).collect()
}

fn to_lan() -> PacketBuilder2 {
    PacketBuilder::ethernet2([2, 0, 0, 0, 1, 11], PORT_MACS[usize::from(LAN)].0)
}

type PacketBuilder2 = etherparse::PacketBuilderStep<etherparse::Ethernet2Header>;

#[test]
fn answers_to_checks_reach_the_control_thread() {
    // Two workers: whichever receives an answer passes it on.
    let mut bed = bed(2);
    let port = FIRST_PROBE_PORT;
    let own = [10, 1, 0, 1];
    let own6 = "2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let far6 = "2001:db8:1::11".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut frames = vec![
        tcp("10.1.0.11:8080", &format!("10.1.0.1:{port}"), SYN | ACK).frame(LAN, b""),
        // In dsr the backend answers as the VIP.
        tcp("192.0.2.20:80", "10.1.0.1:65535", SYN | ACK).frame(LAN, b""),
        udp("10.1.0.11:53", &format!("10.1.0.1:{port}")).frame(LAN, b"yes"),
        tcp("[2001:db8:1::11]:8080", &format!("[2001:db8:1::1]:{port}"), RST).frame(LAN, b""),
    ];
    let mut echo = Vec::new();
    to_lan().ipv4([10, 1, 0, 11], own, 64).icmpv4_echo_reply(port, 1).write(&mut echo, b"x").unwrap();
    frames.push(echo);
    let mut echo = Vec::new();
    to_lan().ipv6(far6, own6, 64).icmpv6_echo_reply(port, 1).write(&mut echo, b"x").unwrap();
    frames.push(echo);
    let mut asked = Vec::new();
    PacketBuilder::ipv4(own, [10, 1, 0, 11], 64).udp(port, 53).write(&mut asked, b"question").unwrap();
    let mut refusal = Vec::new();
    to_lan()
        .ipv4([10, 1, 0, 11], own, 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port))
        .write(&mut refusal, &asked)
        .unwrap();
    frames.push(refusal);
    let mut asked = Vec::new();
    PacketBuilder::ipv6(own6, far6, 64).tcp(port, 80, 1, 1000).write(&mut asked, &[]).unwrap();
    let mut refusal = Vec::new();
    to_lan()
        .ipv6(far6, own6, 64)
        .icmpv6(Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port))
        .write(&mut refusal, &asked)
        .unwrap();
    frames.push(refusal);
    for (number, frame) in frames.iter().enumerate() {
        bed.wires[number % 2][usize::from(LAN)].send(frame);
        bed.turn();
        let answers = answers(&mut bed);
        assert_eq!(answers.len(), 1, "{number}: {:?}", bed.drops());
        assert_eq!((answers[0].port, &answers[0].frame[..]), (LAN, &frame[..]), "{number}");
    }
    assert_eq!(bed.total(|counters| counters.consumed.get()), frames.len() as u64);
    bed.check_conservation();
}

#[test]
fn what_answers_no_check_stays_where_it_was() {
    let mut bed = bed(1);
    let below = FIRST_PROBE_PORT - 1;
    bed.send(LAN, &tcp("10.1.0.11:8080", &format!("10.1.0.1:{below}"), SYN).frame(LAN, b""));
    assert_eq!(bed.dropped(DropReason::NoService), 1);
    // A VIP is no address of a port.
    bed.send(WAN, &tcp("198.51.100.7:4000", &format!("192.0.2.10:{FIRST_PROBE_PORT}"), SYN).frame(WAN, b""));
    assert_eq!(bed.dropped(DropReason::NoService), 2);
    let mut echo = Vec::new();
    to_lan()
        .ipv4([10, 1, 0, 11], [10, 1, 0, 1], 64)
        .icmpv4_echo_reply(below, 1)
        .write(&mut echo, b"")
        .unwrap();
    bed.send(LAN, &echo);
    let mut echo = Vec::new();
    let vip = [192, 0, 2, 10];
    to_lan()
        .ipv4([10, 1, 0, 11], vip, 64)
        .icmpv4_echo_reply(FIRST_PROBE_PORT, 1)
        .write(&mut echo, b"")
        .unwrap();
    bed.send(LAN, &echo);
    assert_eq!(bed.dropped(DropReason::IcmpUnrelated), 2);
    assert_eq!(answers(&mut bed).len(), 0);
    bed.check_conservation();
}

#[test]
fn floods_of_answers_are_bounded() {
    let mut bed = bed(1);
    let answer = tcp("10.1.0.11:8080", &format!("10.1.0.1:{FIRST_PROBE_PORT}"), ACK).frame(LAN, b"");
    // So many in a millisecond.
    for _ in 0..100 {
        bed.send(LAN, &answer);
    }
    assert_eq!((answers(&mut bed).len(), bed.dropped(DropReason::ProbeQueueFull)), (64, 36));
    // So many before the control thread looks.
    for _ in 0..100 {
        bed.now += 1;
        for _ in 0..10 {
            bed.send(LAN, &answer);
        }
    }
    assert_eq!((answers(&mut bed).len(), bed.dropped(DropReason::ProbeQueueFull)), (512, 36 + 488));
    // So large.
    bed.now += 1;
    for len in [PROBE_FRAME, PROBE_FRAME + 1] {
        let headers = 14 + 20 + 8;
        let to = format!("10.1.0.1:{FIRST_PROBE_PORT}");
        bed.send(LAN, &udp("10.1.0.11:53", &to).frame(LAN, &vec![0; len - headers]));
    }
    assert_eq!((answers(&mut bed).len(), bed.dropped(DropReason::ProbeQueueFull)), (1, 36 + 489));
    bed.check_conservation();
}

#[test]
fn checks_leave_by_their_port() {
    let mut bed = bed(1);
    let frame = udp("10.1.0.1:64512", "10.1.0.11:53").frame(LAN, &[7; 1400]);
    let probe = || Probe { port: LAN, frame: frame.as_slice().try_into().unwrap() };
    for _ in 0..512 {
        assert!(bed.controls[0].send_probe(probe()));
    }
    assert!(!bed.controls[0].send_probe(probe()), "what is too much is lost");
    bed.turn();
    let left = std::iter::from_fn(|| bed.receive(LAN)).inspect(|left| assert_eq!(*left, frame)).count();
    assert_eq!((left, bed.total(|counters| counters.generated.get())), (512, 512));
    bed.check_conservation();
}

#[test]
fn connections_that_cannot_be_had_count_against_the_backend() {
    let mut bed = bed(1);
    let failures = |bed: &Bed| bed.counters[0].backends[0].failures.get();
    let syn = |port: u16| tcp(&format!("198.51.100.7:{port}"), "192.0.2.10:80", SYN);
    let answer = |port: u16, flags| tcp("10.1.0.11:8080", &format!("198.51.100.7:{port}"), flags);
    // Answered.
    bed.send(WAN, &syn(1001).frame(WAN, b""));
    bed.send(LAN, &answer(1001, SYN | ACK).frame(LAN, b""));
    bed.send(WAN, &tcp("198.51.100.7:1001", "192.0.2.10:80", ACK).frame(WAN, b""));
    bed.send(LAN, &answer(1001, ACK).frame(LAN, b""));
    bed.send(LAN, &answer(1001, RST).frame(LAN, b""));
    assert_eq!(failures(&bed), 0, "what ends later is no failure");
    // Not answered: the client asks again.
    bed.send(WAN, &syn(1002).frame(WAN, b""));
    bed.send(WAN, &syn(1002).frame(WAN, b""));
    assert_eq!(failures(&bed), 0, "twice on the way");
    bed.now += 1000;
    bed.send(WAN, &syn(1002).frame(WAN, b""));
    assert_eq!(failures(&bed), 1);
    // Refused.
    bed.send(WAN, &syn(1003).frame(WAN, b""));
    bed.send(LAN, &answer(1003, RST | ACK).frame(LAN, b""));
    assert_eq!(failures(&bed), 2);
    // The client gave up by itself.
    bed.send(WAN, &syn(1004).frame(WAN, b""));
    bed.send(WAN, &tcp("198.51.100.7:1004", "192.0.2.10:80", RST).frame(WAN, b""));
    assert_eq!(failures(&bed), 2);
    // Without the answers nothing is known.
    for _ in 0..3 {
        bed.now += 1000;
        bed.send(WAN, &tcp("198.51.100.7:1005", "192.0.2.20:80", SYN).frame(WAN, b""));
    }
    assert_eq!(bed.counters[0].backends[1].failures.get(), 0);
    bed.check_conservation();
}
