use super::*;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};
use etherparse::{icmpv4, icmpv6};
use proptest::prelude::*;

const LOCAL: [u8; 4] = [10, 1, 0, 1];
const REMOTE: [u8; 4] = [10, 1, 0, 11];
const LOCAL6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const REMOTE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
const PORT: u16 = FIRST_PROBE_PORT;

fn way() -> Way {
    Way { hop: NextHop { port: 0, address: REMOTE.into() }, slot: 0 }
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 11], [2, 0, 0, 0, 0, 1])
}

fn flow(protocol: u8, remote: u16) -> Flow {
    Flow { protocol, local: (LOCAL.into(), PORT), remote: (REMOTE.into(), remote) }
}

fn flow6(protocol: u8, remote: u16) -> Flow {
    Flow { protocol, local: (LOCAL6.into(), PORT), remote: (REMOTE6.into(), remote) }
}

#[test]
fn answers_find_their_flow() {
    let mut frame = Vec::new();
    ethernet().ipv4(REMOTE, LOCAL, 64).tcp(80, PORT, 1, 1000).write(&mut frame, &[]).unwrap();
    let packet = frame[ethernet::LEN..].to_vec();
    // What pads the frame is no part of the packet.
    frame.resize(60, 0);
    assert_eq!(read(&frame), Some((flow(protocol::TCP, 80), Incoming::Packet(packet))));

    let mut frame = Vec::new();
    ethernet().ipv6(REMOTE6, LOCAL6, 64).udp(53, PORT).write(&mut frame, b"yes").unwrap();
    let packet = frame[ethernet::LEN..].to_vec();
    assert_eq!(read(&frame), Some((flow6(protocol::UDP, 53), Incoming::Packet(packet))));

    let mut frame = Vec::new();
    ethernet().ipv4(REMOTE, LOCAL, 64).icmpv4_echo_reply(PORT, 1).write(&mut frame, b"x").unwrap();
    assert_eq!(read(&frame).unwrap().0, flow(protocol::ICMP, 0));
    let mut frame = Vec::new();
    ethernet().ipv6(REMOTE6, LOCAL6, 64).icmpv6_echo_reply(PORT, 1).write(&mut frame, b"x").unwrap();
    assert_eq!(read(&frame).unwrap().0, flow6(protocol::ICMPV6, 0));
}

#[test]
fn errors_find_the_flow_that_they_quote() {
    let mut asked = Vec::new();
    PacketBuilder::ipv4(LOCAL, REMOTE, 64).udp(PORT, 53).write(&mut asked, b"question").unwrap();
    for (error, words) in [
        (icmpv4::DestUnreachableHeader::Port, Some("port unreachable, says 10.1.0.254")),
        (icmpv4::DestUnreachableHeader::Host, Some("host unreachable, says 10.1.0.254")),
        (icmpv4::DestUnreachableHeader::HostProhibited, Some("prohibited, says 10.1.0.254")),
        (icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 }, None),
    ] {
        // 8 bytes of the transport header are all that must be quoted (RFC 792).
        for quoted in [&asked[..28], &asked] {
            let mut frame = Vec::new();
            ethernet()
                .ipv4([10, 1, 0, 254], LOCAL, 64)
                .icmpv4(Icmpv4Type::DestinationUnreachable(error.clone()))
                .write(&mut frame, quoted)
                .unwrap();
            let wanted = words.map(|words| (flow(protocol::UDP, 53), Incoming::Refused(words.into())));
            assert_eq!(read(&frame), wanted);
        }
    }
    let mut asked = Vec::new();
    PacketBuilder::ipv6(LOCAL6, REMOTE6, 64).tcp(PORT, 80, 1, 1000).write(&mut asked, &[]).unwrap();
    let mut frame = Vec::new();
    ethernet()
        .ipv6(REMOTE6, LOCAL6, 64)
        .icmpv6(Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Prohibited))
        .write(&mut frame, &asked[..48])
        .unwrap();
    let words = "prohibited, says 2001:db8::11".to_owned();
    assert_eq!(read(&frame), Some((flow6(protocol::TCP, 80), Incoming::Refused(words))));
}

#[test]
fn every_port_is_used_before_one_is_used_again() {
    let exchange = Arc::new(Exchange::default());
    let open =
        |remote: u8| exchange.open(protocol::TCP, LOCAL.into(), ([10, 1, 0, remote].into(), 80), way());
    let first = open(1).unwrap();
    assert_eq!(first.flow.local.1, FIRST_PROBE_PORT);
    drop(first);
    assert!(!exchange.is_busy());
    let held: Vec<_> = (0..1023).map(|_| open(1).unwrap()).collect();
    assert_eq!(held[0].flow.local.1, FIRST_PROBE_PORT + 1);
    assert_eq!(open(1).unwrap().flow.local.1, FIRST_PROBE_PORT);
    let last = open(1).unwrap();
    assert!(open(1).is_none(), "1024 at once to one place");
    // Elsewhere the same ports are free.
    assert!(open(2).is_some());
    drop((held, last));
    assert!(open(1).is_some());
}

#[test]
fn what_is_for_nobody_is_dropped_and_queues_are_bounded() {
    let exchange = Arc::new(Exchange::default());
    let remote = (IpAddr::from(REMOTE), 80);
    let opening = exchange.open(protocol::TCP, LOCAL.into(), remote, way()).unwrap();
    let mut frame = Vec::new();
    ethernet().ipv4(REMOTE, LOCAL, 64).tcp(80, PORT, 1, 1000).write(&mut frame, &[]).unwrap();
    for _ in 0..INBOX + 10 {
        exchange.deliver(&frame);
    }
    let mut elsewhere = Vec::new();
    ethernet().ipv4(REMOTE, LOCAL, 64).tcp(81, PORT, 1, 1000).write(&mut elsewhere, &[]).unwrap();
    exchange.deliver(&elsewhere);
    let mut opening = opening;
    let mut context = Context::from_waker(std::task::Waker::noop());
    let received = std::iter::from_fn(|| opening.poll_receive(&mut context).is_ready().then_some(())).count();
    assert_eq!(received, INBOX);
    for _ in 0..OUTBOX + 10 {
        opening.send(vec![0x45]);
    }
    assert_eq!(exchange.take().len(), OUTBOX);
    assert_eq!(exchange.take().len(), 0);
}

proptest! {
    #[test]
    fn arbitrary_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4u8) {
        let mut frame = bytes;
        if frame.len() > 40 {
            let (ethertype, version) = if kind & 1 == 0 { ([8, 0], 0x45) } else { ([0x86, 0xdd], 0x60) };
            frame[12..14].copy_from_slice(&ethertype);
            frame[14] = version;
            let len = (frame.len() - 14) as u16;
            if kind & 1 == 0 {
                frame[16..18].copy_from_slice(&len.to_be_bytes());
                frame[23] = if kind & 2 == 0 { protocol::ICMP } else { protocol::TCP };
            }
        }
        let _ = read(&frame);
    }
}
