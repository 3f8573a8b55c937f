//! Golden packets: what arrives and what must leave, byte for byte, as pcap files that a person can open. They were
//! made by an independent tool: see `golden/make.py`.

mod bed;

use bed::{Bed, PORT_MACS, spec, tunnelled, two_arm};
use ctl::config::{Mode, Ports, Protocol, Tunnel};
use dataplane::snapshot::Port;
use dataplane::steering::Steering;
use dataplane::vlan::Place;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcap::PcapReader;
use std::path::Path;
use std::sync::Arc;

fn frames(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.to_vec());
    }
    assert!(!frames.is_empty(), "{name} is empty");
    frames
}

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

#[track_caller]
fn pairs(name: &str) {
    let mut bed = bed();
    for (n, pair) in frames(name).chunks(2).enumerate() {
        let [input, expected] = pair else { panic!("{name}: a pair has two frames") };
        let out = bed.pass(port_of(input, 0), input, port_of(expected, 6));
        let out = if name.starts_with("tunnel") { without_entropy(&out, expected) } else { out };
        assert_eq!(out, *expected, "{name}, pair {n}: frames {} and {}", n * 2 + 1, n * 2 + 2);
    }
    bed.check_conservation();
}

macro_rules! golden {
    ($($test:ident: $file:literal,)+) => {
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
