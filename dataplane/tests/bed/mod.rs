//! A balancer on in-memory ports: workers with real pipelines, a control end, and packets made and checked by an
//! independent library.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test file uses its part of it"
)]

use ctl::config::{Mode, Mss, Protocol, Tunnel};
use dataplane::affinity::{Affinity, Clients};
use dataplane::conn::Timeouts;
use dataplane::counters::WorkerCounters;
use dataplane::flow::Secret;
use dataplane::io::memory::{MemoryQueue, Wire};
use dataplane::pipeline::{Notice, Pipeline, Settings};
use dataplane::route::NextHop;
use dataplane::scheduler::{self, Candidate, HashFields, MaglevParameters};
use dataplane::service::Service;
use dataplane::snapshot::{Backend, Parts, Port, Snapshot};
use dataplane::steering::{Spread, Steering, deal};
use dataplane::tunnel::{self, GueForm, Mark};
use dataplane::verdict::DropReason;
use dataplane::vlan::Place;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::{self, Command, ControlEnd, Event, Worker};
use etherparse::{
    Icmpv4Slice, Icmpv6Slice, NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub const WAN: u8 = 0;
pub const LAN: u8 = 1;
pub const PORT_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0xaa, 1]);

/// What hashes of this balancer are keyed with.
pub fn secret() -> Secret {
    Secret::new(std::array::from_fn(|i| (i * 29 + 5) as u8))
}

/// A key, and the worker behind each value of the hash.
pub fn nic(workers: u8) -> Spread {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let key: Vec<u8> = (0..52).map(|_| byte()).collect();
    Spread::new(&key, (0..128).map(|n| n % workers).collect()).unwrap()
}

/// Keyed, by one end, by both ends.
pub fn steering(kind: u8, workers: u8) -> Arc<Steering> {
    Arc::new(match kind {
        0 => Steering::keyed(workers, secret()),
        1 => Steering::one_end(workers, secret(), nic(workers)),
        _ => Steering::both_ends(workers, secret(), nic(workers)),
    })
}

/// The balancer and the far ends of its ports.
pub struct Bed {
    pub workers: Vec<Worker<MemoryQueue>>,
    pub controls: Vec<ControlEnd>,
    pub counters: Vec<Arc<WorkerCounters>>,
    /// By worker, then by port.
    pub wires: Vec<Vec<Wire>>,
    pub parts: Parts,
    pub now: u32,
    pub notices: Vec<Notice>,
}

/// A service in few words.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub vip: &'static str,
    pub ports: &'static str,
    pub protocol: Protocol,
    pub mode: Mode,
    pub tunnel: Option<Arc<tunnel::Options>>,
    pub mss: Option<Mss>,
    pub scheduler: ctl::config::Scheduler,
    pub affinity: Option<Affinity>,
    pub backends: Vec<BackendSpec>,
}

#[derive(Debug, Clone, Copy)]
pub struct BackendSpec {
    pub address: &'static str,
    pub weight: u16,
}

/// What names every VIP, with L3DSR.
pub const DSCP: u8 = 5;

pub fn spec(vip: &'static str, protocol: Protocol, mode: Mode, backends: &[&'static str]) -> ServiceSpec {
    ServiceSpec {
        vip,
        ports: "80",
        protocol,
        mode,
        tunnel: None,
        mss: None,
        scheduler: ctl::config::Scheduler::RoundRobin,
        affinity: None,
        backends: backends.iter().map(|address| BackendSpec { address, weight: 100 }).collect(),
    }
}

/// A `dsr` service behind a tunnel; the port's own address is the outer source unless `sources` says otherwise.
pub fn tunnelled(
    vip: &'static str,
    protocol: Protocol,
    (tunnel, direct): (Tunnel, bool),
    sources: &[&str],
    backends: &[&'static str],
) -> ServiceSpec {
    let sources: Vec<IpAddr> = sources.iter().map(|source| source.parse().unwrap()).collect();
    let options = tunnel::Options::new(tunnel, GueForm { port: 6080, direct }, vip.contains(':'), &sources);
    let options = match vip.parse() {
        Ok(vip) if tunnel == Tunnel::L3dsr => options.with_mark(Mark { dscp: DSCP, vip }),
        _ => options,
    };
    ServiceSpec { tunnel: Some(Arc::new(options)), ..spec(vip, protocol, Mode::Dsr, backends) }
}

/// Hardware address of a host on a link, by the last byte of its address.
pub fn mac_of(address: IpAddr) -> Mac {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    Mac([2, 0, 0, 0, 1, last])
}

/// An ICMP error that arrives by `port`: type, code and second word.
pub fn icmp_error(
    port: u8,
    from: &str,
    to: IpAddr,
    (kind, code, rest): (u8, u8, u32),
    quote: &[u8],
) -> Vec<u8> {
    let from: IpAddr = from.parse().unwrap();
    let mac = if port == WAN { GATEWAY_MAC } else { mac_of(from) };
    let builder = PacketBuilder::ethernet2(mac.0, PORT_MACS[usize::from(port)].0);
    let mut frame = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder
            .ipv4(from.octets(), to.octets(), 60)
            .icmpv4_raw(kind, code, rest.to_be_bytes())
            .write(&mut frame, quote)
            .unwrap(),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder
            .ipv6(from.octets(), to.octets(), 60)
            .icmpv6_raw(kind, code, rest.to_be_bytes())
            .write(&mut frame, quote)
            .unwrap(),
        _ => panic!("mixed families"),
    }
    frame
}

/// Two ports: `10.0.0.2/24`, `2001:db8::2/64` with gateways `.1` on the WAN, `10.1.0.1/24`, `2001:db8:1::1/64` on the
/// LAN.
pub fn two_arm(services: &[ServiceSpec]) -> Parts {
    let port = |mac, addresses: [&str; 2]| Port {
        mac,
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        host: None,
    };
    let mut parts = Parts {
        generation: 1,
        ports: vec![
            port(PORT_MACS[0], ["10.0.0.2/24", "2001:db8::2/64"]),
            port(PORT_MACS[1], ["10.1.0.1/24", "2001:db8:1::1/64"]),
        ],
        routes: vec![
            ("0.0.0.0/0".parse().unwrap(), "10.0.0.1".parse().unwrap()),
            ("::/0".parse().unwrap(), "2001:db8::1".parse().unwrap()),
        ],
        ..Parts::default()
    };
    for service in services {
        add_service(&mut parts, service);
    }
    parts
}

pub fn add_service(parts: &mut Parts, spec: &ServiceSpec) {
    let index = parts.services.len() as u32;
    let mut candidates = Vec::new();
    for backend in &spec.backends {
        let (address, port) = match backend.address.parse::<SocketAddr>() {
            Ok(socket) => (socket.ip(), Some(socket.port())),
            Err(_) => (backend.address.parse().unwrap(), None),
        };
        let slot = parts.backends.len() as u32;
        parts.backends.push(Some(Backend {
            address,
            port,
            service: index,
            timeouts: Timeouts::default(),
            removed: false,
            serving: backend.weight > 0,
        }));
        let own = if address.is_ipv4() { "10.1.0.1" } else { "2001:db8:1::1" };
        let locals = (spec.mode == Mode::FullNat).then(|| own.parse().unwrap());
        parts.local_addresses.push(locals.into_iter().collect());
        parts.tunnels.push(spec.tunnel.clone());
        candidates.push(Candidate { slot, address, port: port.unwrap_or(0), weight: backend.weight });
    }
    parts.services.push(Service {
        id: index,
        protocol: spec.protocol,
        vip: spec.vip.parse().unwrap(),
        ports: spec.ports.parse().unwrap(),
        mode: spec.mode,
        timeouts: Timeouts::default(),
        hash_fields: HashFields::ALL,
        affinity: spec.affinity,
        mss: spec.mss,
        resets_unknown: spec.mode == Mode::FullNat,
        scheduler: scheduler::build(spec.scheduler, &candidates, MaglevParameters::default()),
    });
}

impl Bed {
    /// `workers` workers with tables for `max_connections`, forwarding by `parts`; no neighbour is known yet.
    pub fn new(workers: usize, max_connections: usize, parts: Parts) -> Self {
        let steering = Arc::new(Steering::keyed(workers as u8, secret()));
        Self::steered(&steering, max_connections, parts, &[])
    }

    /// Likewise, with owners as `steering` says, and with as many RX and TX queues a port as `queues` says; one for each
    /// worker if it says nothing.
    pub fn steered(
        steering: &Arc<Steering>,
        max_connections: usize,
        parts: Parts,
        queues: &[(u16, u16)],
    ) -> Self {
        Self::placed(steering, max_connections, parts, queues, &[])
    }

    /// Likewise, and `places` says by port whose device it is on and how its frames are tagged.
    pub fn placed(
        steering: &Arc<Steering>,
        max_connections: usize,
        parts: Parts,
        queues: &[(u16, u16)],
        places: &[Place],
    ) -> Self {
        let workers = steering.workers();
        let ports: Vec<(u16, u16)> = (0..parts.ports.len())
            .map(|port| queues.get(port).copied().unwrap_or((workers.into(), workers.into())))
            .collect();
        let dealt = deal::deal(workers, &ports);
        let mut bed = Self {
            workers: Vec::new(),
            controls: Vec::new(),
            counters: Vec::new(),
            wires: Vec::new(),
            parts,
            now: 0,
            notices: Vec::new(),
        };
        let clients = Clients::new(workers, max_connections, secret());
        for (number, mesh) in worker::mesh(workers.into()).into_iter().enumerate() {
            let counters = Arc::new(WorkerCounters::with_backends(128));
            let pipeline = Pipeline::new(Settings {
                worker: number as u8,
                steering: Arc::clone(steering),
                max_connections,
                large_pages: false,
                secret: secret(),
                maglev: MaglevParameters::default(),
                clients: Arc::clone(&clients),
                counters: Arc::clone(&counters),
            })
            .unwrap();
            let is_sub = |id: usize| places.get(id).is_some_and(|place| usize::from(place.device) != id);
            let (queues, wires) = dealt
                .iter()
                .enumerate()
                .map(|(id, port)| {
                    if is_sub(id) {
                        return MemoryQueue::end(false, false);
                    }
                    let number = number as u8;
                    let receives = port.receives_from(number).next().is_some();
                    MemoryQueue::end(receives, port.sends_through(number).is_some())
                })
                .unzip();
            let sends_for: Vec<u8> = dealt.iter().map(|port| port.sends_for[number]).collect();
            let (control, worker_end) = worker::channel();
            let worker = Worker::new(queues, pipeline, mesh, worker_end).sending_by(&sends_for);
            bed.workers.push(worker.with_vlans(places));
            bed.controls.push(control);
            bed.counters.push(counters);
            bed.wires.push(wires);
        }
        bed.publish();
        bed
    }

    /// Gives every worker a snapshot of `parts`.
    pub fn publish(&mut self) {
        let snapshot = Arc::new(Snapshot::new(self.parts.clone()));
        for control in &mut self.controls {
            control.send(Command::Publish(Arc::clone(&snapshot))).unwrap();
        }
        self.turn();
        for counters in &self.counters {
            assert_eq!(counters.generation.get(), u64::from(self.parts.generation));
        }
    }

    /// Tells every worker the hardware address of `address`, a host on a link.
    pub fn know(&mut self, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let snapshot = Snapshot::new(self.parts.clone());
        let port = snapshot.on_link(address).expect("on link");
        let gateway = matches!(address.to_string().as_str(), "10.0.0.1" | "2001:db8::1");
        let mac = if gateway { GATEWAY_MAC } else { mac_of(address) };
        for control in &mut self.controls {
            control.send(Command::Neighbor { hop: NextHop { port, address }, mac: Some(mac) }).unwrap();
        }
        self.turn();
    }

    /// Tells every worker both gateways and all backends.
    pub fn know_all(&mut self) {
        self.know("10.0.0.1");
        self.know("2001:db8::1");
        let backends: Vec<String> =
            self.parts.backends.iter().flatten().map(|backend| backend.address.to_string()).collect();
        for backend in backends {
            self.know(&backend);
        }
    }

    /// Every worker once, until none has anything to do.
    pub fn turn(&mut self) {
        while self.workers.iter_mut().map(|worker| worker.turn(self.now)).sum::<usize>() > 0 {}
        for control in &mut self.controls {
            while let Some(event) = control.receive() {
                if let Event::Notice(notice) = event {
                    self.notices.push(notice);
                }
            }
        }
    }

    /// Sends a frame to a port of worker 0 and lets the workers work.
    pub fn send(&mut self, port: u8, frame: &[u8]) {
        self.wires[0][usize::from(port)].send(frame);
        self.turn();
    }

    /// The oldest frame that left by `port` of any worker.
    pub fn receive(&mut self, port: u8) -> Option<Vec<u8>> {
        self.wires.iter().find_map(|wires| wires.get(usize::from(port))?.receive())
    }

    /// Sends a frame and returns what leaves by `out`, which must be the only frame that leaves.
    pub fn pass(&mut self, port: u8, frame: &[u8], out: u8) -> Vec<u8> {
        self.send(port, frame);
        let sent = self.receive(out).unwrap_or_else(|| panic!("nothing left; drops: {:?}", self.drops()));
        let more = (0..self.parts.ports.len()).find_map(|port| self.receive(port as u8));
        assert_eq!(more, None, "more than one frame left");
        sent
    }

    pub fn total(&self, counter: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| counter(counters)).sum()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.total(|counters| counters.drops[reason as usize].get())
    }

    /// Reasons that occurred.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL.iter().map(|&r| (r.name(), self.dropped(r))).filter(|(_, n)| *n > 0).collect()
    }

    /// Both conservation equations of the design.
    pub fn check_conservation(&self) {
        let rx = self.total(|c| c.rx_packets.get());
        let forwarded = self.total(|c| c.forwarded.get());
        let rest = self.total(|c| c.consumed.get() + c.punted.get() + c.held.get());
        let drops = self.total(WorkerCounters::dropped_total);
        assert_eq!(
            rx,
            forwarded + rest + drops,
            "rx = forwarded + consumed + punted + held + drops {:?}",
            self.drops()
        );
        let tx = self.total(|c| c.tx_packets.get());
        assert_eq!(tx, forwarded + self.total(|c| c.generated.get()), "tx = forwarded + generated");
    }
}

/// What a test wants to send.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// TCP flags, or UDP.
    pub tcp: Option<u8>,
    pub hop_limit: u8,
}

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;

pub fn udp(from: &str, to: &str) -> Segment {
    Segment { from: from.parse().unwrap(), to: to.parse().unwrap(), tcp: None, hop_limit: 64 }
}

pub fn tcp(from: &str, to: &str, flags: u8) -> Segment {
    Segment { tcp: Some(flags), ..udp(from, to) }
}

impl Segment {
    /// The frame, to the hardware address of `port`.
    pub fn frame(&self, port: u8, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(mac_of(self.from.ip()).0, PORT_MACS[usize::from(port)].0);
        let builder = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), self.hop_limit),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), self.hop_limit),
            _ => panic!("mixed families"),
        };
        let mut frame = Vec::new();
        match self.tcp {
            None => builder.udp(self.from.port(), self.to.port()).write(&mut frame, payload).unwrap(),
            Some(flags) => {
                let mut header = TcpHeader::new(self.from.port(), self.to.port(), 1000, 500);
                header.syn = flags & SYN != 0;
                header.ack = flags & ACK != 0;
                header.fin = flags & FIN != 0;
                header.rst = flags & RST != 0;
                builder.tcp_header(header).write(&mut frame, payload).unwrap();
            }
        }
        frame
    }

    /// The answer to this one.
    pub fn reply(&self, flags: u8) -> Self {
        Self { from: self.to, to: self.from, tcp: self.tcp.map(|_| flags), hop_limit: self.hop_limit }
    }
}

/// What a frame that left says, with every checksum verified by an independent parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub to_mac: Mac,
    pub from_mac: Mac,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub hop_limit: u8,
    pub tcp: bool,
    pub payload: Vec<u8>,
}

pub fn parse(frame: &[u8]) -> Left {
    let packet = SlicedPacket::from_ethernet(frame).expect("well-formed");
    let (from_ip, to_ip, hop_limit): (IpAddr, IpAddr, u8) = match packet.net.as_ref().expect("IP") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "IPv4 header checksum");
            (header.source.into(), header.destination.into(), header.time_to_live)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            (header.source.into(), header.destination.into(), header.hop_limit)
        }
        other @ NetSlice::Arp(_) => panic!("unexpected {other:?}"),
    };
    let (from, to, tcp, payload) = match packet.transport.as_ref().expect("transport") {
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let expected = match (from_ip, to_ip) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload())
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload())
                }
                _ => unreachable!(),
            };
            if header.checksum != 0 {
                assert_eq!(header.checksum, expected.unwrap(), "UDP checksum");
            }
            (header.source_port, header.destination_port, false, udp.payload().to_vec())
        }
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let expected = match (from_ip, to_ip) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), tcp.payload())
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), tcp.payload())
                }
                _ => unreachable!(),
            };
            assert_eq!(header.checksum, expected.unwrap(), "TCP checksum");
            (header.source_port, header.destination_port, true, tcp.payload().to_vec())
        }
        other => panic!("unexpected {other:?}"),
    };
    let mac = |at: usize| Mac(frame[at..at + 6].try_into().unwrap());
    Left {
        to_mac: mac(0),
        from_mac: mac(6),
        from: SocketAddr::new(from_ip, from),
        to: SocketAddr::new(to_ip, to),
        hop_limit,
        tcp,
        payload,
    }
}

/// An ICMP error that left, its checksums verified by an independent parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub to_mac: Mac,
    pub from_mac: Mac,
    pub from: IpAddr,
    pub to: IpAddr,
    pub hop_limit: u8,
    pub kind: u8,
    pub code: u8,
    /// The second word.
    pub rest: u32,
    pub quote: Vec<u8>,
}

pub fn parse_problem(frame: &[u8]) -> Problem {
    let packet = SlicedPacket::from_ethernet(frame).expect("well-formed");
    let (from, to, hop_limit, message): (IpAddr, IpAddr, u8, Vec<u8>) = match packet.net.as_ref().expect("IP")
    {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "IPv4 header checksum");
            assert_eq!(header.protocol.0, 1);
            let body = ip.payload().payload.to_vec();
            let expected = Icmpv4Slice::from_slice(&body).unwrap().icmp_type().calc_checksum(&body[8..]);
            assert_eq!(expected, u16::from_be_bytes([body[2], body[3]]), "ICMP checksum");
            (header.source.into(), header.destination.into(), header.time_to_live, body)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.next_header.0, 58);
            let body = ip.payload().payload.to_vec();
            let slice = Icmpv6Slice::from_slice(&body).unwrap();
            assert!(slice.is_checksum_valid(header.source, header.destination), "ICMPv6 checksum");
            (header.source.into(), header.destination.into(), header.hop_limit, body)
        }
        other @ NetSlice::Arp(_) => panic!("unexpected {other:?}"),
    };
    let mac = |at: usize| Mac(frame[at..at + 6].try_into().unwrap());
    Problem {
        to_mac: mac(0),
        from_mac: mac(6),
        from,
        to,
        hop_limit,
        kind: message[0],
        code: message[1],
        rest: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        quote: message[8..].to_vec(),
    }
}
