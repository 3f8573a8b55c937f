//! Golden packets: what arrives and what must leave, byte for byte, as pcap files that a person can open. They were
//! made by an independent tool: see `golden/make.py`.

mod bed;
#[path = "../../fuzz/checks/plain.rs"]
mod plain;

use bed::{Bed, PORT_MACS, spec, tunnelled, two_arm};
use ctl::config::{Mode, Ports, Protocol, Tunnel};
use dataplane::snapshot::Port;
use dataplane::steering::Steering;
use dataplane::vlan::Place;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcap::PcapReader;
use plain::{ETHERNET, ICMP, ICMPV6, Packet, Payload, TCP, UDP};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn frames(name: &str) -> Vec<Vec<u8>> {
    let path = folder().join(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.to_vec());
    }
    assert!(!frames.is_empty(), "{name} is empty");
    frames
}

/// GUE's port.
const GUE: u16 = 6080;

/// Services behind tunnels: the VIP's last group says which, as in `make.py`.
fn tunnels() -> Vec<bed::ServiceSpec> {
    let mut services = Vec::new();
    let kinds = [(Tunnel::Ipip, true), (Tunnel::Gue, true), (Tunnel::Gue, false), (Tunnel::Gre, true)];
    let vips = [
        ["192.0.2.40", "192.0.2.41", "2001:db8:a::40", "2001:db8:a::41"],
        ["192.0.2.42", "192.0.2.43", "2001:db8:a::42", "2001:db8:a::43"],
        ["192.0.2.44", "192.0.2.45", "2001:db8:a::44", "2001:db8:a::45"],
        ["192.0.2.46", "192.0.2.47", "2001:db8:a::46", "2001:db8:a::47"],
    ];
    for (kind, vips) in kinds.into_iter().zip(vips) {
        for (at, vip) in vips.into_iter().enumerate() {
            let backend = ["10.1.0.11", "2001:db8:1::11"][at % 2];
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                services.push(tunnelled(vip, protocol, kind, &[], &[backend]));
            }
        }
    }
    services
}

/// What spreads flows follows from the boot's secret: the flow label of IPv6, and the UDP source port. Checks them, and
/// takes over those of `expected`.
fn without_entropy(out: &[u8], expected: &[u8]) -> Vec<u8> {
    let mut frame = out.to_vec();
    let packet = SlicedPacket::from_ethernet(out).unwrap();
    let Some(NetSlice::Ipv6(_) | NetSlice::Ipv4(_)) = packet.net else { return frame };
    let v6 = out[12] == 0x86;
    let udp = if v6 { 54 } else { 34 };
    if v6 {
        frame[15..18].copy_from_slice(&expected[15..18]);
        assert_eq!(out[15] & 0xf0, expected[15] & 0xf0, "traffic class");
    }
    if let (Some(TransportSlice::Udp(header)), [high, low]) =
        (&packet.transport, [expected[udp], expected[udp + 1]])
        && header.destination_port() == 6080
    {
        assert!(header.source_port() >= 49152);
        frame[udp..udp + 2].copy_from_slice(&[high, low]);
        if v6 {
            bed::parse(out);
            frame[udp + 6..udp + 8].fill(0);
            let zeroed = frame.clone();
            let packet = SlicedPacket::from_ethernet(&zeroed).unwrap();
            let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(header))) =
                (packet.net, packet.transport)
            else {
                panic!("no UDP over IPv6");
            };
            let (from, to) = (ip.header().source(), ip.header().destination());
            let sum = header.to_header().calc_checksum_ipv6_raw(from, to, header.payload()).unwrap();
            frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        }
    }
    frame
}

fn bed() -> Bed {
    let service = |vip, ports, protocol, mode, backend| bed::ServiceSpec {
        ports,
        ..spec(vip, protocol, mode, &[backend])
    };
    let mut services = tunnels();
    services.extend([
        service("192.0.2.10", "80", Protocol::Tcp, Mode::Nat, "10.1.0.11:8080"),
        service("192.0.2.10", "53", Protocol::Udp, Mode::Nat, "10.1.0.11:5353"),
        service("2001:db8:a::10", "80", Protocol::Tcp, Mode::Nat, "[2001:db8:1::11]:8080"),
        service("2001:db8:a::10", "53", Protocol::Udp, Mode::Nat, "[2001:db8:1::11]:5353"),
        service("192.0.2.30", "80", Protocol::Tcp, Mode::FullNat, "10.1.0.11:8080"),
        service("192.0.2.30", "53", Protocol::Udp, Mode::FullNat, "10.1.0.11:5353"),
        service("2001:db8:a::30", "80", Protocol::Tcp, Mode::FullNat, "[2001:db8:1::11]:8080"),
        service("2001:db8:a::30", "53", Protocol::Udp, Mode::FullNat, "[2001:db8:1::11]:5353"),
        service("192.0.2.60", "80", Protocol::Tcp, Mode::FullNat, "[2001:db8:1::11]:8080"),
        service("192.0.2.60", "53", Protocol::Udp, Mode::FullNat, "[2001:db8:1::11]:5353"),
        service("2001:db8:a::60", "80", Protocol::Tcp, Mode::FullNat, "10.1.0.11:8080"),
        service("2001:db8:a::60", "53", Protocol::Udp, Mode::FullNat, "10.1.0.11:5353"),
        service("192.0.2.20", "80", Protocol::Tcp, Mode::Dsr, "10.1.0.11"),
        service("192.0.2.20", "80", Protocol::Udp, Mode::Dsr, "10.1.0.11"),
        service("2001:db8:a::20", "80", Protocol::Tcp, Mode::Dsr, "2001:db8:1::11"),
        service("2001:db8:a::20", "80", Protocol::Udp, Mode::Dsr, "2001:db8:1::11"),
    ]);
    // One local port, so that it is known which is taken.
    let steering = Steering::keyed(1, bed::secret()).with_local_ports(Ports::new(40001, 40001).unwrap());
    let mut bed = Bed::steered(&Arc::new(steering), 1000, two_arm(&services), &[]);
    bed.know_all();
    bed
}

/// The port that a frame belongs to by its hardware address at `at`; the WAN for group addresses that only it gets.
fn port_of(frame: &[u8], at: usize) -> u8 {
    let named = PORT_MACS.iter().position(|mac| frame[at..at + 6] == mac.0);
    named.map_or_else(|| u8::from(frame[6..12] == bed::mac_of([10, 1, 0, 11].into()).0), |port| port as u8)
}

/// Fragments that left, until their datagram is whole; then its checksum is looked at.
#[derive(Default)]
struct Reassembly(BTreeMap<(IpAddr, IpAddr, u8, u32), Vec<u8>>);

impl Reassembly {
    /// Takes the packet of a frame that left, tunnelled or not; `true` if it completes a datagram.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut packet = Packet::parse(bytes).unwrap();
        while let Some(at) = packet.inner(bytes, GUE) {
            bytes = &bytes[at..packet.total];
            packet = Packet::parse(bytes).unwrap();
        }
        if !packet.fragment {
            return false;
        }
        let (identification, offset, more) = if packet.source.is_ipv4() {
            let word = plain::be16(bytes, 6);
            (plain::be16(bytes, 4).into(), usize::from(word & 0x1fff) * 8, word & 0x2000 != 0)
        } else {
            let header = &bytes[packet.l4 - 8..packet.l4];
            let word = plain::be16(header, 2);
            (u32::from_be_bytes(header[4..].try_into().unwrap()), usize::from(word & !7), word & 1 != 0)
        };
        let key = (packet.source, packet.destination, packet.protocol, identification);
        let whole = self.0.entry(key).or_default();
        assert_eq!(offset, whole.len(), "golden fragments are in order");
        whole.extend(&bytes[packet.l4..packet.total]);
        if more {
            return false;
        }
        let mut whole = self.0.remove(&key).unwrap();
        let l4 = whole.len();
        let packet = Packet { l4: 0, total: l4, fragment: false, later: false, ..packet };
        assert_eq!(packet.payload(&whole), Payload::Good, "the datagram as a whole");
        whole[l4 - 1] ^= 1;
        assert_ne!(packet.payload(&whole), Payload::Good, "this can fail");
        true
    }
}

#[track_caller]
fn pairs(name: &str) {
    let mut bed = bed();
    let mut reassembly = Reassembly::default();
    for (n, pair) in frames(name).chunks(2).enumerate() {
        let [input, expected] = pair else { panic!("{name}: a pair has two frames") };
        let out = bed.pass(port_of(input, 0), input, port_of(expected, 6));
        assert_eq!(plain::verify(&out, GUE), Ok(()), "{name}, pair {n}");
        if out[12..14] != [8, 6] {
            reassembly.take(&out[ETHERNET..]);
        }
        let out = if name.starts_with("tunnel") { without_entropy(&out, expected) } else { out };
        assert_eq!(out, *expected, "{name}, pair {n}: frames {} and {}", n * 2 + 1, n * 2 + 2);
    }
    assert!(reassembly.0.is_empty(), "{name}: a datagram was not completed");
    bed.check_conservation();
}

macro_rules! golden {
    ($($test:ident: $file:literal,)+) => {
        /// The files whose frames are sent.
        const FILES: &[&str] = &[$($file,)+];

        $(#[test]
        fn $test() {
            pairs($file);
        })+
    };
}

golden! {
    nat_tcp_v4: "nat-tcp-v4.pcap",
    nat_tcp_v6: "nat-tcp-v6.pcap",
    nat_udp_v4: "nat-udp-v4.pcap",
    nat_udp_v6: "nat-udp-v6.pcap",
    full_nat_v4: "full-nat-v4.pcap",
    full_nat_v6: "full-nat-v6.pcap",
    dsr_v4: "dsr-v4.pcap",
    dsr_v6: "dsr-v6.pcap",
    tunnel_ipip: "tunnel-ipip.pcap",
    tunnel_gue1: "tunnel-gue1.pcap",
    tunnel_gue0: "tunnel-gue0.pcap",
    tunnel_gre: "tunnel-gre.pcap",
    refused: "refused.pcap",
    errors_v4: "errors-v4.pcap",
    errors_v6: "errors-v6.pcap",
    tunnel_errors: "tunnel-errors.pcap",
    fragments_v4: "fragments-v4.pcap",
    fragments_v6: "fragments-v6.pcap",
    tunnel_fragments: "tunnel-fragments.pcap",
    families_v4: "families-v4.pcap",
    families_v6: "families-v6.pcap",
    families_errors_v4: "families-errors-v4.pcap",
    families_errors_v6: "families-errors-v6.pcap",
    families_fragments_v4: "families-fragments-v4.pcap",
    families_fragments_v6: "families-fragments-v6.pcap",
    arp: "arp.pcap",
    ndp: "ndp.pcap",
    echo: "echo.pcap",
    too_big: "too-big.pcap",
    hop_limit: "hop-limit.pcap",
    options: "options.pcap",
    fragments_tcp: "fragments-tcp.pcap",
    errors_tcp: "errors-tcp.pcap",
    unsummed: "unsummed.pcap",
    tunnel_too_big: "tunnel-too-big.pcap",
    tunnel_hop_limit: "tunnel-hop-limit.pcap",
    tunnel_options: "tunnel-options.pcap",
    tunnel_fragments_tcp: "tunnel-fragments-tcp.pcap",
    tunnel_errors_tcp: "tunnel-errors-tcp.pcap",
}

/// WAN and LAN as VLANs of one device, by the hardware address of the WAN port.
#[test]
fn vlan() {
    let mut parts = bed().parts;
    parts.ports[1].mac = PORT_MACS[0];
    let addresses = Vec::new();
    parts.ports.push(Port { addresses, ..parts.ports[0].clone() });
    let places = [Some(100), Some(200), None].map(|vlan| Place { device: 2, vlan });
    let steering = Arc::new(Steering::keyed(1, bed::secret()));
    let mut bed = Bed::placed(&steering, 1000, parts, &[], &places);
    bed.know_all();
    for (n, pair) in frames("vlan.pcap").chunks(2).enumerate() {
        let [input, expected] = pair else { panic!("a pair has two frames") };
        assert_eq!(bed.pass(2, input, 2), *expected, "pair {n}: frames {} and {}", n * 2 + 1, n * 2 + 2);
    }
    bed.check_conservation();
}

#[test]
fn hostile() {
    let mut bed = bed();
    let frames = frames("hostile.drop.pcap");
    for (n, frame) in frames.iter().enumerate() {
        bed.send(0, frame);
        assert_eq!(bed.receive(0).or_else(|| bed.receive(1)), None, "frame {}", n + 1);
        assert_eq!(bed.drops().iter().map(|(_, count)| count).sum::<u64>(), n as u64 + 1);
    }
    bed.check_conservation();
}

// --- what there has to be ----------------------------------------------------------------------------------------

/// How a service is reached: by the last group of its VIP, as in `make.py`.
const MODES: [(u8, &str); 11] = [
    (10, "nat"),
    (30, "full-nat"),
    (20, "dsr"),
    (40, "dsr, ipip over IPv4"),
    (41, "dsr, ipip over IPv6"),
    (42, "dsr, gue variant 1 over IPv4"),
    (43, "dsr, gue variant 1 over IPv6"),
    (44, "dsr, gue variant 0 over IPv4"),
    (45, "dsr, gue variant 0 over IPv6"),
    (46, "dsr, gre over IPv4"),
    (47, "dsr, gre over IPv6"),
];

/// What may happen to a packet, in every mode.
const EVENTS: [&str; 7] = [
    "request",
    "request in fragments",
    "request with options or extension headers",
    "request that is too big",
    "request without a hop left",
    "ICMP error to the backend",
    "ICMP error to the client",
];
/// And in those where answers come by.
const ANSWERS: [&str; 2] = ["answer", "answer in fragments"];

/// Mode, IP version, protocol, what happens.
type Cell = (&'static str, u8, &'static str, &'static str);

fn mode(vip: IpAddr) -> Option<&'static str> {
    let last = match vip {
        IpAddr::V4(v4) if v4.octets()[..3] == [192, 0, 2] => v4.octets()[3],
        IpAddr::V6(v6) if v6.segments()[..3] == [0x2001, 0xdb8, 0xa] => {
            // ::10 is the same service as .10.
            format!("{:x}", v6.segments()[7]).parse().ok()?
        }
        _ => return None,
    };
    MODES.iter().find(|(number, _)| *number == last).map(|(_, mode)| *mode)
}

fn protocol(number: u8) -> Option<&'static str> {
    match number {
        TCP => Some("TCP"),
        UDP => Some("UDP"),
        _ => None,
    }
}

/// The cell of the packet that an ICMP error quotes; the quote may be cut short.
fn quoted(packet: &Packet, bytes: &[u8], what: &'static str) -> Option<Cell> {
    let quote = &bytes[packet.l4 + 8..packet.total];
    if quote.len() < 28 {
        return None;
    }
    let v4 = quote[0] >> 4 == 4;
    let (number, ends) = if v4 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&quote[at..at + 4]).unwrap());
        (quote[9], [address(12), address(16)])
    } else {
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&quote[at..at + 16]).unwrap());
        (quote[6], [address(8), address(24)])
    };
    let mode = ends.into_iter().find_map(mode)?;
    Some((mode, if v4 { 4 } else { 6 }, protocol(number)?, what))
}

/// Which cell a pair of frames shows.
fn cell(input: &[u8], output: &[u8]) -> Option<Cell> {
    let (before, after) = (&input[ETHERNET..], &output[ETHERNET..]);
    let (arrived, left) = (Packet::parse(before).ok()?, Packet::parse(after).ok()?);
    let icmp = |packet: &Packet| matches!(packet.protocol, ICMP | ICMPV6);
    match (icmp(&arrived), icmp(&left)) {
        (true, _) if port_of(output, 6) == 1 => quoted(&arrived, before, "ICMP error to the backend"),
        (true, true) => quoted(&left, after, "ICMP error to the client"),
        (true, false) => None,
        (false, true) => {
            let too_big = (left.protocol, after[left.l4]) == (ICMP, 3) || after[left.l4] == 2;
            quoted(&left, after, if too_big { EVENTS[3] } else { EVENTS[4] })
        }
        (false, false) => {
            let version = before[0] >> 4;
            let plain = if version == 4 { 20 } else { 40 };
            let (mode, what) = match (mode(arrived.destination), mode(left.source)) {
                (Some(mode), _) if arrived.fragment => (mode, EVENTS[1]),
                (Some(mode), _) if arrived.l4 > plain => (mode, EVENTS[2]),
                (Some(mode), _) => (mode, EVENTS[0]),
                (_, Some(mode)) => (mode, ANSWERS[usize::from(arrived.fragment)]),
                _ => return None,
            };
            Some((mode, version, protocol(arrived.protocol)?, what))
        }
    }
}

#[test]
fn every_cell_of_the_matrix_has_its_golden_packets() {
    let mut shown = BTreeSet::new();
    for name in FILES {
        shown.extend(frames(name).chunks(2).filter_map(|pair| cell(&pair[0], &pair[1])));
    }
    let mut missing = Vec::new();
    for (_, mode) in MODES {
        let answers = if mode.contains("nat") { &ANSWERS[..] } else { &[] };
        for what in EVENTS.iter().chain(answers) {
            for version in [4, 6] {
                for protocol in ["TCP", "UDP"] {
                    let cell = (mode, version, protocol, *what);
                    if !shown.contains(&cell) {
                        missing.push(cell);
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "no golden packets for {missing:#?}");
}

#[test]
fn every_file_is_used() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let used = FILES.contains(&name) || matches!(name, "hostile.drop.pcap" | "vlan.pcap");
        assert!(used || path.extension().is_none_or(|kind| kind != "pcap"), "{name} is in no test");
    }
}
