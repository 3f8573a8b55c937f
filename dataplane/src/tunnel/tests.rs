//! Every tunnel, both families outside and in, read back by an independent parser.

use super::*;
use crate::packet::VecPacket;
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
        |((v6, tcp, checksum, fragment), tos, payload, padding)| Made {
            v6,
            tcp,
            tos,
            payload,
            checksum: checksum || v6,
            fragment: fragment && !v6,
            padding,
        },
    )
}

const SOURCES: [&str; 5] = ["10.9.0.1", "10.9.0.2", "2001:db8:9::1", "10.9.0.3", "2001:db8:9::2"];

fn encapsulation(tunnel: Tunnel, outer_v6: bool, inner_v6: bool, direct: bool) -> Encapsulation {
    let sources: Vec<IpAddr> = SOURCES.iter().map(|source| source.parse().unwrap()).collect();
    let backend = if outer_v6 { "2001:db8:1::11" } else { "10.1.0.11" };
    let options = Options::new(tunnel, GueForm { port: 6080, direct }, inner_v6, &sources);
    Encapsulation::new(&options, backend.parse().unwrap(), None).unwrap()
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
    assert_eq!(Encapsulation::new(&options, backend, None), None);
    assert_eq!(Encapsulation::new(&options, backend, Some(other_family[0])), None);
    assert_eq!(Encapsulation::new(&Options::new(Tunnel::None, gue, false, &[]), backend, Some(own)), None);
    let way = Encapsulation::new(&options, backend, Some(own)).unwrap();
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
