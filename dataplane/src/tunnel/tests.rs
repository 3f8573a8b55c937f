//! Every tunnel, both families outside and in, read back by an independent parser.

use super::*;
use crate::packet::VecPacket;
use crate::wire::checksum::Sum;
use crate::wire::{tcp, udp};
use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TransportSlice,
    UdpHeader,
};
use proptest::prelude::*;

/// An inner packet behind a placeholder of an Ethernet header, `padding` bytes too long.
#[derive(Debug, Clone)]
struct Made {
    v6: bool,
    tcp: bool,
    tos: u8,
    payload: Vec<u8>,
    /// UDP: 0 leaves the checksum out.
    checksum: bool,
    /// IPv4: a first fragment; the checksum is then not that of these bytes.
    fragment: bool,
    padding: usize,
}

impl Made {
    fn packet(&self) -> Vec<u8> {
        let (from, to) = ([198, 51, 100, 7], [192, 0, 2, 10]);
        let (from6, to6) = ([0x20; 16], [0x21; 16]);
        let mut transport = Vec::new();
        if self.tcp {
            let mut header = etherparse::TcpHeader::new(40000, 80, 7, 9);
            let sum = if self.v6 {
                header.calc_checksum_ipv6_raw(from6, to6, &self.payload)
            } else {
                header.calc_checksum_ipv4_raw(from, to, &self.payload)
            };
            header.checksum = sum.unwrap();
            header.write(&mut transport).unwrap();
        } else {
            let len = (8 + self.payload.len()) as u16;
            let mut header = UdpHeader { source_port: 40000, destination_port: 53, length: len, checksum: 0 };
            header.checksum = match (self.checksum, self.v6) {
                (false, _) => 0,
                (true, false) => header.calc_checksum_ipv4_raw(from, to, &self.payload).unwrap(),
                (true, true) => header.calc_checksum_ipv6_raw(from6, to6, &self.payload).unwrap(),
            };
            header.write(&mut transport).unwrap();
        }
        transport.extend(&self.payload);
        if self.fragment {
            transport.truncate(transport.len() & !7);
        }
        let mut packet = Vec::new();
        let number = if self.tcp { IpNumber::TCP } else { IpNumber::UDP };
        if self.v6 {
            let mut header = Ipv6Header {
                traffic_class: self.tos,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: transport.len() as u16,
                next_header: number,
                hop_limit: 9,
                source: from6,
                destination: to6,
            };
            header.flow_label = Ipv6FlowLabel::try_new(0x54321).unwrap();
            header.write(&mut packet).unwrap();
        } else {
            let mut header = Ipv4Header::new(transport.len() as u16, 9, number, from, to).unwrap();
            header.dscp = etherparse::IpDscp::try_new(self.tos >> 2).unwrap();
            header.ecn = etherparse::IpEcn::try_new(self.tos & 3).unwrap();
            header.more_fragments = self.fragment;
            header.fragment_offset = IpFragOffset::ZERO;
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut packet).unwrap();
        }
        packet.extend(transport);
        packet
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0xee; L3];
        frame.extend(self.packet());
        frame.extend(std::iter::repeat_n(0xaa, self.padding));
        frame
    }
}

fn made() -> impl Strategy<Value = Made> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..64), 0usize..20).prop_map(
        |((v6, tcp, checksum, fragment), tos, mut payload, padding)| {
            let fragment = fragment && !v6;
            if tcp && fragment {
                // The pipeline drops a first fragment without a whole TCP header (RFC 1858).
                payload.resize(payload.len().max(4), 0);
            }
            Made { v6, tcp, tos, payload, checksum: checksum || v6, fragment, padding }
        },
    )
}

const SOURCES: [&str; 5] = ["10.9.0.1", "10.9.0.2", "2001:db8:9::1", "10.9.0.3", "2001:db8:9::2"];

fn encapsulation(tunnel: Tunnel, outer_v6: bool, inner_v6: bool, direct: bool) -> Way {
    let sources: Vec<IpAddr> = SOURCES.iter().map(|source| source.parse().unwrap()).collect();
    let backend = if outer_v6 { "2001:db8:1::11" } else { "10.1.0.11" };
    let options = Options::new(tunnel, GueForm { port: 6080, direct }, inner_v6, &sources);
    Way::new(&options, backend.parse().unwrap(), None).unwrap()
}

/// Protocol number, payload of the outer header, and whether the outer source is one of ours; checks the header.
fn opened(frame: &[u8], tos: u8) -> (u8, Vec<u8>, IpAddr) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            assert_eq!((header.dscp.value() << 2 | header.ecn.value(), header.time_to_live), (tos, 64));
            assert!(header.dont_fragment && header.identification == 0);
            assert_eq!(frame.len(), L3 + usize::from(header.total_len));
            (header.protocol.0, frame[L3 + 20..].to_vec(), header.source.into())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!((header.traffic_class, header.hop_limit), (tos, 64));
            assert_eq!(frame.len(), L3 + 40 + usize::from(header.payload_length));
            if let Some(TransportSlice::Udp(udp)) = &packet.transport {
                let expected = udp
                    .to_header()
                    .calc_checksum_ipv6_raw(header.source, header.destination, udp.payload())
                    .unwrap();
                assert_eq!(udp.checksum(), expected, "outer UDP checksum");
                assert_ne!(udp.checksum(), 0);
            }
            (header.next_header.0, frame[L3 + 40..].to_vec(), header.source.into())
        }
        other @ NetSlice::Arp(_) => panic!("unexpected {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(made in made(), hash: u64, outer_v6: bool, direct: bool, which in 1usize..4) {
        let tunnel = Tunnel::ALL[which];
        let way = encapsulation(tunnel, outer_v6, made.v6, direct);
        let mut packet = VecPacket::new(&made.frame());
        way.apply(&mut packet, hash).unwrap();
        prop_assert_eq!(packet.data().len(), L3 + way.overhead() + made.packet().len());
        let (number, payload, source) = opened(packet.data(), made.tos);
        prop_assert!(way.sources().contains(&source));
        prop_assert!(SOURCES.iter().any(|ours| ours.parse::<IpAddr>().unwrap() == source));
        let (inner_protocol, inner_ethertype) = if made.v6 { (41u8, [0x86, 0xdd]) } else { (4, [8, 0]) };
        let expected = match (tunnel, direct) {
            (Tunnel::Ipip, _) => { prop_assert_eq!(number, inner_protocol); 0 }
            (Tunnel::Gre, _) => {
                prop_assert_eq!(number, 47);
                prop_assert_eq!(&payload[..4], &[0, 0, inner_ethertype[0], inner_ethertype[1]]);
                4
            }
            (_, direct) => {
                prop_assert_eq!(number, 17);
                prop_assert!(u16::from_be_bytes([payload[0], payload[1]]) >= 49152);
                prop_assert_eq!(&payload[2..4], &6080u16.to_be_bytes());
                prop_assert_eq!(usize::from(u16::from_be_bytes([payload[4], payload[5]])), payload.len());
                if !outer_v6 {
                    prop_assert_eq!(&payload[6..8], &[0, 0]);
                }
                if !direct {
                    prop_assert_eq!(&payload[8..12], &[0, inner_protocol, 0, 0]);
                }
                if direct { 8 } else { 12 }
            }
        };
        // Inside nothing has changed.
        prop_assert_eq!(&payload[expected..], &made.packet()[..]);
        prop_assert_eq!(inner_offset(number, &payload), Some(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), outer_v6: bool, which in 1usize..4) {
        for number in [4, 17, 41, 47, bytes.first().copied().unwrap_or(0)] {
            prop_assert!(inner_offset(number, &bytes).is_none_or(|at| at <= bytes.len()));
        }
        let way = encapsulation(Tunnel::ALL[which], outer_v6, false, true);
        let _ = way.apply(&mut VecPacket::new(&bytes), 7);
    }
}

/// What L3DSR has made of `before`, put right by hand: addressed to the VIP, with the DSCP it had, and every checksum made anew.
fn recomputed(before: &Made, after: &[u8]) -> Vec<u8> {
    let mut packet = after.to_vec();
    let sum = |packet: &[u8], l4: usize, pseudo: Sum| pseudo.bytes(&packet[l4..]).checksum();
    let transport_len = packet.len() - if before.v6 { 40 } else { 20 };
    let number = if before.tcp { protocol::TCP } else { protocol::UDP };
    let (l4, pseudo) = if before.v6 {
        let (from, to) = (field::<16>(&packet, 8).into(), field::<16>(&packet, 24).into());
        (40, Sum::default().pseudo_v6(from, to, number, transport_len as u32))
    } else {
        packet[10..12].fill(0);
        let header = Sum::default().bytes(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        let (from, to) = (field::<4>(&packet, 12).into(), field::<4>(&packet, 16).into());
        (20, Sum::default().pseudo_v4(from, to, number, transport_len as u16))
    };
    let at = l4 + if before.tcp { tcp::at::CHECKSUM } else { udp::at::CHECKSUM };
    if before.tcp || before.checksum {
        packet[at..at + 2].fill(0);
        let checksum = match sum(&packet, l4, pseudo) {
            0 if !before.tcp => 0xffff,
            checksum => checksum,
        };
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

fn l3dsr(v6: bool, dscp: u8, vip: IpAddr, backend: IpAddr) -> Option<Way> {
    let options = Options::new(Tunnel::L3dsr, GueForm { port: 6080, direct: true }, v6, &[]);
    Way::new(&options.with_mark(Mark { dscp, vip }), backend, None)
}

fn any_address(v6: bool, bytes: [u8; 16]) -> IpAddr {
    if v6 { bytes.into() } else { [bytes[0], bytes[1], bytes[2], bytes[3]].into() }
}

proptest! {
    #[test]
    fn l3dsr_changes_the_address_and_the_dscp(made in made(), dscp in 1u8..64, backend: [u8; 16], hash: u64) {
        let backend = any_address(made.v6, backend);
        let vip: IpAddr = if made.v6 { [0x21; 16].into() } else { [192, 0, 2, 10].into() };
        let way = l3dsr(made.v6, dscp, vip, backend).unwrap();
        prop_assert_eq!((way.overhead(), way.end(), way.sources()), (0, None, &[][..]));
        let mut packet = VecPacket::new(&made.frame());
        way.apply(&mut packet, hash).unwrap();
        let before = made.packet();
        let after = packet.data()[L3..L3 + before.len()].to_vec();
        prop_assert_eq!(packet.data().len(), made.frame().len());
        // All that differs is where it should.
        let (class, address, l4) = if made.v6 { (0..2, 24..40, 40) } else { (1..2, 16..20, 20) };
        let checksum = l4 + if made.tcp { 16 } else { 6 };
        for at in 0..before.len() {
            let may = class.contains(&at) || address.contains(&at) || (checksum..checksum + 2).contains(&at)
                || !made.v6 && (10..12).contains(&at);
            prop_assert!(may || before[at] == after[at], "byte {at}");
        }
        let tos = if made.v6 { (be16(&after, 0) >> 4) as u8 } else { after[1] };
        prop_assert_eq!(tos, dscp << 2 | made.tos & 3);
        prop_assert_eq!(any_address(made.v6, match backend {
            IpAddr::V4(_) => std::array::from_fn(|n| *after.get(16 + n).filter(|_| n < 4).unwrap_or(&0)),
            IpAddr::V6(_) => field(&after, 24),
        }), backend);
        if made.v6 {
            prop_assert_eq!(after[1] & 0xf, before[1] & 0xf, "flow label");
            prop_assert_eq!(after[0] >> 4, 6);
        }
        // Part of a datagram has the checksum of the whole: there only the inverse can be looked at.
        if made.fragment {
            prop_assert!(ipv4::checksum_ok(&after[..20]));
        } else {
            prop_assert_eq!(&after, &recomputed(&made, &after));
        }
        // And back: as a backend does it.
        let back = l3dsr(made.v6, (made.tos >> 2).max(1), backend, vip).unwrap();
        back.apply(&mut packet, hash).unwrap();
        if made.tos >> 2 != 0 {
            prop_assert_eq!(packet.data(), &made.frame()[..]);
        }
    }

    #[test]
    fn l3dsr_leaves_later_fragments_payload_alone(made in made(), offset in 1u16..8000, dscp in 1u8..64) {
        let mut frame = made.frame();
        let header = if made.v6 {
            let next = frame[L3 + 6];
            frame[L3 + 6] = 44;
            let [high, low] = (offset << 3).to_be_bytes();
            frame.splice(L3 + 40..L3 + 40, [next, 0, high, low, 1, 2, 3, 4]);
            L3 + 48
        } else {
            frame[L3 + 6..L3 + 8].copy_from_slice(&offset.to_be_bytes());
            ipv4::seal(&mut frame[L3..L3 + 20]);
            L3 + 20
        };
        let (vip, backend) = (any_address(made.v6, [1; 16]), any_address(made.v6, [9; 16]));
        let mut packet = VecPacket::new(&frame);
        l3dsr(made.v6, dscp, vip, backend).unwrap().apply(&mut packet, 0).unwrap();
        prop_assert_eq!(&packet.data()[header..], &frame[header..]);
        prop_assert!(made.v6 || ipv4::checksum_ok(&packet.data()[L3..header]));
    }

    #[test]
    fn l3dsr_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), version in 4u8..7) {
        for v6 in [false, true] {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.get_mut(L3) {
                *first = version << 4 | *first & 0xf;
            }
            let way = l3dsr(v6, 5, any_address(v6, [1; 16]), any_address(v6, [9; 16])).unwrap();
            let _ = way.apply(&mut VecPacket::new(&bytes), 7);
        }
    }
}

#[test]
fn l3dsr_needs_a_dscp_and_one_family() {
    let (v4, v6): (IpAddr, IpAddr) = ([1; 4].into(), [1; 16].into());
    for (dscp, vip, backend, works) in
        [(1, v4, v4, true), (63, v6, v6, true), (0, v4, v4, false), (64, v4, v4, false), (5, v4, v6, false)]
    {
        assert_eq!(l3dsr(vip.is_ipv6(), dscp, vip, backend).is_some(), works);
    }
    let bare = Options::new(Tunnel::L3dsr, GueForm { port: 6080, direct: true }, false, &[]);
    assert_eq!(Way::new(&bare, v4, Some(v4)), None);
}

#[test]
fn flows_spread_over_sources_and_ports() {
    let mut seen = std::collections::HashMap::new();
    let way = encapsulation(Tunnel::Gue, false, false, true);
    let made =
        Made { v6: false, tcp: true, tos: 0, payload: vec![1], checksum: true, fragment: false, padding: 0 };
    for flow in 0..3000u64 {
        let mut packet = VecPacket::new(&made.frame());
        let hash = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        way.apply(&mut packet, hash).unwrap();
        let (_, payload, source) = opened(packet.data(), 0);
        let mut again = VecPacket::new(&made.frame());
        way.apply(&mut again, hash).unwrap();
        assert_eq!(packet, again, "one flow, one way");
        seen.entry(source).or_insert_with(std::collections::HashSet::new).insert(payload[..2].to_vec());
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.values().all(|ports| ports.len() > 800));
}

#[test]
fn there_must_be_a_source_and_headroom() {
    let gue = GueForm { port: 6080, direct: true };
    let other_family = ["2001:db8::1".parse().unwrap()];
    let options = Options::new(Tunnel::Ipip, gue, false, &other_family);
    let (backend, own) = ("10.1.0.11".parse().unwrap(), "10.1.0.1".parse().unwrap());
    assert_eq!(Way::new(&options, backend, None), None);
    assert_eq!(Way::new(&options, backend, Some(other_family[0])), None);
    assert_eq!(Way::new(&Options::new(Tunnel::None, gue, false, &[]), backend, Some(own)), None);
    let way = Way::new(&options, backend, Some(own)).unwrap();
    assert_eq!(way.sources(), [own]);
    assert_eq!(way.overhead(), 20);
    let made =
        Made { v6: false, tcp: false, tos: 0, payload: vec![], checksum: true, fragment: false, padding: 0 };
    let mut packet = VecPacket::new(&made.frame());
    for _ in 0..6 {
        way.apply(&mut packet, 1).unwrap();
    }
    assert_eq!(way.apply(&mut packet, 1), Err(Failure::Headroom));
}

/// A GUE header that says it is longer than all that is there: found by fuzzing.
#[test]
fn a_header_cut_short_has_nothing_inside() {
    let mut payload = vec![0xc0, 0, 0x17, 0xc0, 0, 60, 0, 0, 0x06, 4, 0, 0];
    payload.extend([0; 20]);
    assert_eq!(inner_offset(17, &payload), None);
    payload.extend([0; 4]);
    assert_eq!(inner_offset(17, &payload), Some(36));
}
