//! The end of a drain: both sides of every connection of the backend get a reset, silent ones included.

mod bed;

use bed::{ACK, Bed, LAN, RST, SYN, Segment, WAN, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::verdict::DropReason;
use dataplane::wire::checksum::Delta;
use etherparse::{SlicedPacket, TcpSlice, TransportSlice};

/// Of the segments that the bed sends, and of those that [`spoken`] makes of them.
const SEQUENCE: u32 = 1000;
const ACKNOWLEDGMENT: u32 = 0x0102_0304;

const CLIENT: [&str; 2] = ["198.51.100.7:40000", "[2001:db8:ff::7]:40000"];
const VIP: [&str; 2] = ["192.0.2.10", "2001:db8:f::10"];
const SERVICE: [&str; 2] = ["192.0.2.10:80", "[2001:db8:f::10]:80"];
const BACKEND: [&str; 2] = ["10.1.0.11:8080", "[2001:db8:1::11]:8080"];

fn bed(family: usize, protocol: Protocol, mode: Mode) -> Bed {
    let backend = if mode == Mode::Dsr { ["10.1.0.11", "2001:db8:1::11"] } else { BACKEND };
    let mut bed = Bed::new(1, 64, two_arm(&[spec(VIP[family], protocol, mode, &[backend[family]])]));
    bed.know_all();
    bed
}

/// The frame of a segment that acknowledges something.
fn spoken(segment: Segment, port: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = segment.frame(port, payload);
    let l4 = if segment.from.is_ipv4() { 34 } else { 54 };
    let (acknowledgment, checksum) = (l4 + 8..l4 + 12, l4 + 16..l4 + 18);
    let delta = Delta::replace(&[0; 4], &ACKNOWLEDGMENT.to_be_bytes());
    let sum = delta.apply(u16::from_be_bytes([frame[l4 + 16], frame[l4 + 17]]));
    frame[acknowledgment].copy_from_slice(&ACKNOWLEDGMENT.to_be_bytes());
    frame[checksum].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Marks the backend as one whose connections have to end.
fn end(bed: &mut Bed) {
    bed.parts.generation += 1;
    bed.parts.resetting = vec![0];
    bed.publish();
}

fn established(bed: &mut Bed, client: &str, family: usize) -> (Segment, Segment) {
    let request = tcp(client, SERVICE[family], SYN);
    let towards = bed.pass(WAN, &request.frame(WAN, b""), LAN);
    let seen = bed::parse(&towards);
    let answer = Segment { from: seen.to, to: seen.from, tcp: Some(SYN | ACK), hop_limit: 64 };
    bed.pass(LAN, &answer.frame(LAN, b""), WAN);
    let (data, reply) = (tcp(client, SERVICE[family], ACK), Segment { tcp: Some(ACK), ..answer });
    bed.pass(WAN, &data.frame(WAN, b"x"), LAN);
    bed.pass(LAN, &reply.frame(LAN, b"y"), WAN);
    (data, reply)
}

/// Ends, flags, sequence number and acknowledgment of a segment; its checksums are good.
fn segment(frame: &[u8]) -> (std::net::SocketAddr, std::net::SocketAddr, u8, u32, u32) {
    let seen = bed::parse(frame);
    assert_eq!(seen.payload, b"");
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(header)) = sliced.transport else { panic!("no TCP") };
    let flags = |tcp: &TcpSlice<'_>| {
        u8::from(tcp.syn()) * SYN + u8::from(tcp.ack()) * ACK + u8::from(tcp.rst()) * RST
    };
    (seen.from, seen.to, flags(&header), header.sequence_number(), header.acknowledgment_number())
}

fn active(bed: &Bed) -> u64 {
    bed.total(|counters| counters.backends[0].connections_active.get())
}

#[test]
fn the_next_segment_of_the_client_resets_both() {
    for family in [0, 1] {
        let mut bed = bed(family, Protocol::Tcp, Mode::Nat);
        let (data, reply) = established(&mut bed, CLIENT[family], family);
        end(&mut bed);
        bed.send(WAN, &spoken(data, WAN, b"more"));
        let (to_backend, to_client) = (bed.receive(LAN).unwrap(), bed.receive(WAN).unwrap());
        // As the backend expects: the number of the segment itself.
        assert_eq!(segment(&to_backend), (reply.to, reply.from, RST | ACK, SEQUENCE, ACKNOWLEDGMENT));
        let (from, to, flags, sequence, _) = segment(&to_client);
        // As the client expects: the number that it acknowledged.
        assert_eq!((from, to, flags & RST, sequence), (data.to, data.from, RST, ACKNOWLEDGMENT));
        assert_eq!((active(&bed), bed.total(|counters| counters.resets.get())), (0, 1));
        // Whoever missed it hears it again.
        bed.send(LAN, &reply.frame(LAN, b"late"));
        assert_eq!(segment(&bed.receive(LAN).unwrap()).2 & RST, RST);
        assert_eq!(segment(&bed.receive(WAN).unwrap()).2 & RST, RST);
        // A reset is not answered with one.
        bed.send(WAN, &tcp(CLIENT[family], SERVICE[family], RST).frame(WAN, b""));
        assert!(bed.receive(WAN).is_none());
        bed.check_conservation();
    }
}

#[test]
fn silent_sides_are_made_to_speak() {
    for family in [0, 1] {
        let mut bed = bed(family, Protocol::Tcp, Mode::Nat);
        let (data, reply) = established(&mut bed, CLIENT[family], family);
        bed.now += 1000;
        end(&mut bed);
        bed.turn();
        // First the backend, with a number that it does not expect.
        bed.now += 1;
        bed.turn();
        let question = segment(&bed.receive(LAN).expect("a question"));
        assert_eq!(question, (reply.to, reply.from, ACK, 0, 0));
        assert_eq!(active(&bed), 0, "over, for whoever counts");
        // It does not answer: the client is asked a second later, and does.
        bed.now += 1001;
        bed.turn();
        bed.now += 1;
        bed.turn();
        bed.now += 1;
        bed.turn();
        let question = segment(&bed.receive(WAN).expect("another question"));
        assert_eq!((question.0, question.1, question.2), (data.to, data.from, ACK));
        bed.send(WAN, &data.frame(WAN, b""));
        assert_eq!(segment(&bed.receive(LAN).unwrap()).2 & RST, RST);
        assert_eq!(segment(&bed.receive(WAN).unwrap()).2 & RST, RST);
        // Nobody asks any more.
        for _ in 0..40 {
            bed.now += 250;
            bed.turn();
        }
        assert_eq!((bed.receive(LAN), bed.receive(WAN)), (None, None));
        assert_eq!(bed.total(|counters| counters.resets.get()), 1);
        bed.check_conservation();
    }
}

#[test]
fn with_direct_return_the_client_is_asked() {
    let mut bed = bed(0, Protocol::Tcp, Mode::Dsr);
    for flags in [SYN, ACK] {
        bed.pass(WAN, &tcp(CLIENT[0], SERVICE[0], flags).frame(WAN, b""), LAN);
    }
    end(&mut bed);
    bed.now += 1;
    bed.turn();
    bed.now += 1;
    bed.turn();
    let question = segment(&bed.receive(WAN).expect("a question"));
    assert_eq!((question.0.to_string(), question.1.to_string()), (SERVICE[0].into(), CLIENT[0].into()));
    bed.send(WAN, &spoken(tcp(CLIENT[0], SERVICE[0], ACK), WAN, b""));
    let to_backend = segment(&bed.receive(LAN).unwrap());
    assert_eq!((to_backend.0.to_string(), to_backend.1.to_string()), (CLIENT[0].into(), SERVICE[0].into()));
    assert_eq!((to_backend.2 & RST, to_backend.3), (RST, SEQUENCE));
    assert_eq!(segment(&bed.receive(WAN).unwrap()).3, ACKNOWLEDGMENT);
    bed.check_conservation();
}

#[test]
fn datagrams_go_elsewhere_and_the_port_may_be_used_again() {
    let mut bed = bed(0, Protocol::Udp, Mode::Nat);
    bed.pass(WAN, &udp(CLIENT[0], SERVICE[0]).frame(WAN, b"q"), LAN);
    end(&mut bed);
    bed.now += 1;
    bed.turn();
    assert_eq!((active(&bed), bed.workers[0].pipeline().connections()), (0, 0));

    let mut bed = self::bed(0, Protocol::Tcp, Mode::Nat);
    let (data, _) = established(&mut bed, CLIENT[0], 0);
    end(&mut bed);
    bed.send(WAN, &data.frame(WAN, b""));
    while bed.receive(WAN).or_else(|| bed.receive(LAN)).is_some() {}
    // The bed's scheduler still has the one backend: a new connection is made.
    bed.send(WAN, &tcp(CLIENT[0], SERVICE[0], SYN).frame(WAN, b""));
    assert_eq!(segment_flags(&mut bed), SYN);
    bed.check_conservation();
}

/// The flags of the segment that left towards the backend.
fn segment_flags(bed: &mut Bed) -> u8 {
    segment(&bed.receive(LAN).expect("a segment")).2
}

#[test]
fn many_at_once_are_bounded_and_all_reset() {
    let mut bed = Bed::new(1, 1024, two_arm(&[spec(VIP[0], Protocol::Tcp, Mode::Nat, &[BACKEND[0]])]));
    bed.know_all();
    for port in 0..500 {
        established(&mut bed, &format!("198.51.100.7:{}", 20_000 + port), 0);
    }
    end(&mut bed);
    let mut most = 0;
    for _ in 0..200 {
        bed.now += 1;
        bed.workers[0].turn(bed.now);
        let mut sent = 0;
        while bed.receive(LAN).is_some() {
            sent += 1;
        }
        most = most.max(sent);
    }
    assert!(most <= 32, "{most} in one turn");
    assert_eq!((active(&bed), bed.total(|counters| counters.resets.get())), (0, 500));
    assert_eq!(bed.dropped(DropReason::Drained), 0);
    bed.check_conservation();
}
