//! The life of TCP connections: who may end one, what revives it, and what becomes of those that nobody knows.

mod bed;

use bed::{ACK, Bed, FIN, GATEWAY_MAC, LAN, PORT_MACS, RST, SYN, WAN, parse, spec, two_arm};
use ctl::config::{Mode, Protocol};
use dataplane::conn::{Class, SETTLED, SETTLED_WINDOW, State, WINDOW};
use dataplane::verdict::DropReason;
use etherparse::{PacketBuilder, TcpHeader};
use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{self, Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's, and the backend's, initial sequence numbers: the client's wraps within the test.
const CLIENT_ISN: u32 = 0xffff_ff00;
const BACKEND_ISN: u32 = 0x7000_0000;

/// A conversation, as both its ends write it.
#[derive(Debug, Clone, Copy)]
struct Talk {
    client: SocketAddr,
    vip: SocketAddr,
    /// As the backend sees both ends.
    seen: (SocketAddr, SocketAddr),
    one_way: bool,
}

fn segment(
    port: u8,
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    (sequence, ack): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, PORT_MACS[usize::from(port)].0);
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("mixed families"),
    };
    let mut header = TcpHeader::new(from.port(), to.port(), sequence, 500);
    (header.syn, header.ack) = (flags & SYN != 0, flags & ACK != 0);
    (header.fin, header.rst) = (flags & FIN != 0, flags & RST != 0);
    header.acknowledgment_number = ack;
    let mut frame = Vec::new();
    builder.tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

impl Talk {
    /// A segment of the client with so many bytes after its initial number. It must leave towards the backend.
    fn client(&self, bed: &mut Bed, flags: u8, at: u32, payload: &[u8]) {
        let numbers = (CLIENT_ISN.wrapping_add(at), BACKEND_ISN + 1);
        let frame = segment(WAN, self.client, self.vip, flags, numbers, payload);
        let left = parse(&bed.pass(WAN, &frame, LAN));
        assert_eq!((left.from, left.to), self.seen);
    }

    /// One of the backend, acknowledging so many bytes of the client. In direct server return nobody sees it.
    fn backend(&self, bed: &mut Bed, flags: u8, acknowledged: u32, payload: &[u8]) {
        if self.one_way {
            return;
        }
        let numbers = (BACKEND_ISN, CLIENT_ISN.wrapping_add(acknowledged));
        let frame = segment(LAN, self.seen.1, self.seen.0, flags, numbers, payload);
        let left = parse(&bed.pass(LAN, &frame, WAN));
        assert_eq!((left.from, left.to), (self.vip, self.client));
    }

    /// Opens it; the client has sent `bytes` and the backend has acknowledged them.
    fn open(&self, bed: &mut Bed, bytes: u32) {
        self.client(bed, SYN, 0, b"");
        self.backend(bed, SYN | ACK, 1, b"");
        self.client(bed, ACK, 1, b"");
        self.client(bed, ACK, bytes, b"x");
        self.backend(bed, ACK, bytes + 1, b"");
        assert_eq!(state(bed), State::Established);
    }
}

/// The state of the only connection.
fn state(bed: &Bed) -> State {
    let (v4, v6) = bed.workers[0].pipeline().listing_len();
    let pipeline = bed.workers[0].pipeline();
    let states = pipeline.listing_v4(0..v4).map(|entry| entry.state);
    let mut states = states.chain(pipeline.listing_v6(0..v6).map(|entry| entry.state));
    let only = states.next().expect("a connection");
    assert_eq!(states.next(), None, "one connection");
    only
}

fn active(bed: &Bed) -> u64 {
    bed.counters[0].backends.iter().map(|backend| backend.connections_active.get()).sum()
}

/// Lets time go by with every worker at work.
fn pass_time(bed: &mut Bed, milliseconds: u32) {
    for _ in 0..milliseconds / 500 {
        bed.now += 500;
        bed.turn();
    }
    bed.now += milliseconds % 500;
    bed.turn();
}

/// Every mode that tracks TCP, of both families, with an open connection.
fn every_mode(bytes: u32, check: impl Fn(&mut Bed, Talk)) {
    let cases = [
        (Mode::Nat, "192.0.2.10", "198.51.100.7:40000", "10.1.0.11:8080"),
        (Mode::Nat, "2001:db8:a::10", "[2001:db8:ffff::7]:40000", "[2001:db8:1::11]:8080"),
        (Mode::FullNat, "192.0.2.10", "198.51.100.7:40000", "10.1.0.11:8080"),
        (Mode::Dsr, "192.0.2.10", "198.51.100.7:40000", "10.1.0.11"),
        (Mode::Dsr, "2001:db8:a::10", "[2001:db8:ffff::7]:40000", "2001:db8:1::11"),
    ];
    for (mode, vip, client, backend) in cases {
        let mut bed = Bed::new(1, 100, two_arm(&[spec(vip, Protocol::Tcp, mode, &[backend])]));
        bed.know_all();
        let (client, vip) = (client.parse().unwrap(), SocketAddr::new(vip.parse().unwrap(), 80));
        let syn = segment(WAN, client, vip, SYN, (CLIENT_ISN, 0), b"");
        let left = parse(&bed.pass(WAN, &syn, LAN));
        let talk = Talk { client, vip, seen: (left.from, left.to), one_way: mode == Mode::Dsr };
        talk.open(&mut bed, bytes);
        check(&mut bed, talk);
        bed.check_conservation();
        assert_eq!(bed.drops(), []);
    }
}

#[test]
fn blind_endings_change_nothing_and_are_counted() {
    every_mode(1000, |bed, talk| {
        let mut blind = 0;
        for n in 0..500u32 {
            let at = n.wrapping_mul(0x9e37_79b9).wrapping_add(1001);
            let near = at.min(at.wrapping_neg());
            if near <= WINDOW + 1001 {
                continue;
            }
            let flags =
                [RST, RST | ACK, FIN | ACK, FIN, SYN, SYN | ACK, SYN | FIN, SYN | RST][n as usize % 8];
            talk.client(bed, flags, at, b"");
            // Those with SYN alone ask for nothing that the balancer would have to doubt.
            blind += u64::from(flags & (RST | FIN) != 0);
            assert_eq!(state(bed), State::Established, "{flags:#x} at {at}");
        }
        assert_eq!(bed.total(|c| c.out_of_window.get()), blind);
        assert_eq!(active(bed), 1);
        // The client's own is believed.
        talk.client(bed, RST, 1001, b"");
        assert_eq!((state(bed), active(bed)), (State::Reset, 0));
    });
}

#[test]
fn endings_are_believed_with_what_is_on_its_way_and_across_a_wrap() {
    for on_its_way in [0, 1, 1460, 500_000] {
        every_mode(1000, |bed, talk| {
            talk.client(bed, FIN | ACK, 1001 + on_its_way, b"last");
            let expected = if talk.one_way { State::TimeWait } else { State::FinClient };
            assert_eq!(state(bed), expected);
        });
        every_mode(1000, |bed, talk| {
            talk.client(bed, RST | ACK, 1001 + on_its_way, b"");
            assert_eq!(state(bed), State::Reset);
        });
    }
}

#[test]
fn on_a_quiet_connection_a_guess_has_to_be_closer() {
    every_mode(1000, |bed, talk| {
        pass_time(bed, SETTLED);
        // As often as anybody likes: what is not believed is no sign of life either.
        for _ in 0..3 {
            talk.client(bed, RST, 1001 + SETTLED_WINDOW, b"");
            talk.client(bed, FIN | ACK, 1001 - 2, b"");
            talk.client(bed, RST, 900, b"");
        }
        assert_eq!((state(bed), bed.total(|c| c.out_of_window.get())), (State::Established, 9));
        talk.client(bed, RST, 1001, b"");
        assert_eq!(state(bed), State::Reset);
    });
}

#[test]
fn a_client_moves_the_window_of_its_own_connection_on() {
    every_mode(1000, |bed, talk| {
        // 40 MiB, in steps that the window allows; acknowledged where anybody sees it.
        let mut at = 1001;
        for _ in 0..80 {
            at += WINDOW / 2;
            talk.client(bed, ACK, at, b"x");
            talk.backend(bed, ACK, at + 1, b"");
        }
        talk.client(bed, RST, 1001, b"");
        assert_eq!(state(bed), State::Established);
        talk.client(bed, RST, at + 1, b"");
        assert_eq!(state(bed), State::Reset);
    });
}

#[test]
fn a_lucky_reset_kills_nothing_that_lives_on() {
    every_mode(1000, |bed, talk| {
        talk.client(bed, RST, 1001, b"");
        assert_eq!((state(bed).class(), active(bed)), (Class::Closing, 0));
        talk.client(bed, ACK, 1001, b"on we go");
        assert_eq!((state(bed), active(bed)), (State::Adopted, 1));
        talk.client(bed, ACK, 1001, b"on we go");
        talk.backend(bed, ACK, 1009, b"");
        assert_eq!((state(bed), active(bed)), (State::Established, 1));
    });
}

#[test]
fn a_backend_that_goes_on_long_after_a_reset_did_not_believe_it() {
    let mut bed =
        Bed::new(1, 100, two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"])]));
    bed.know_all();
    let talk = Talk {
        client: "198.51.100.7:40000".parse().unwrap(),
        vip: "192.0.2.10:80".parse().unwrap(),
        seen: ("198.51.100.7:40000".parse().unwrap(), "10.1.0.11:8080".parse().unwrap()),
        one_way: false,
    };
    talk.open(&mut bed, 1000);
    talk.client(&mut bed, RST, 1001, b"");
    // What was on its way.
    for _ in 0..5 {
        talk.backend(&mut bed, ACK, 1001, b"data");
        pass_time(&mut bed, 300);
    }
    assert_eq!((state(&bed), active(&bed)), (State::Reset, 0));
    pass_time(&mut bed, 1000);
    talk.backend(&mut bed, ACK, 1001, b"data");
    assert_eq!((state(&bed), active(&bed)), (State::Established, 1));
    // A reset of the backend's own ends it whatever its numbers.
    talk.backend(&mut bed, RST, 77, b"");
    assert_eq!((state(&bed), active(&bed)), (State::Reset, 0));
    bed.check_conservation();
}

#[test]
fn half_closed_connections_live_as_long_as_somebody_speaks() {
    every_mode(1000, |bed, talk| {
        talk.client(bed, FIN | ACK, 1001, b"");
        // Twenty minutes of answers and acknowledgments, with pauses.
        for _ in 0..20 {
            pass_time(bed, 50_000);
            talk.backend(bed, ACK, 1002, b"more");
            talk.client(bed, ACK, 1002, b"");
            assert_eq!((state(bed), active(bed)), (State::FinClient, 1));
        }
        pass_time(bed, 239_000);
        assert_eq!(bed.workers[0].pipeline().connections(), 1);
        pass_time(bed, 3_000);
        assert_eq!(bed.workers[0].pipeline().connections(), 0);
    });
}

#[test]
fn an_upload_may_outlive_the_backends_half() {
    every_mode(1000, |bed, talk| {
        talk.backend(bed, FIN | ACK, 1001, b"");
        for n in 0..20 {
            pass_time(bed, 200_000);
            talk.client(bed, ACK, 1001 + n, b"x");
            talk.backend(bed, ACK, 1002 + n, b"");
        }
        let expected = if talk.one_way { State::Established } else { State::FinBackend };
        assert_eq!((state(bed), active(bed)), (expected, 1));
        talk.client(bed, FIN | ACK, 1021, b"");
        assert_eq!((state(bed), active(bed)), (State::TimeWait, 0));
    });
}

#[test]
fn a_port_used_again_is_another_connection() {
    every_mode(1000, |bed, talk| {
        talk.client(bed, FIN | ACK, 1001, b"");
        talk.backend(bed, FIN | ACK, 1002, b"");
        talk.client(bed, ACK, 1002, b"");
        assert_eq!(state(bed), State::TimeWait);
        let syn = segment(WAN, talk.client, talk.vip, SYN, (0x1234_5678, 0), b"");
        let left = parse(&bed.pass(WAN, &syn, LAN));
        assert_eq!((state(bed), active(bed)), (State::SynSent, 1));
        // With full-nat it has another local end.
        let again = Talk { seen: (left.from, left.to), ..talk };
        again.open(bed, 500);
    });
}

#[test]
fn a_backend_that_forgot_may_take_the_port_again_at_once() {
    every_mode(1000, |bed, talk| {
        if talk.one_way {
            return;
        }
        talk.client(bed, FIN | ACK, 1001, b"");
        assert_eq!(state(bed), State::FinClient);
        // The client has crashed and begins anew, with numbers of its own; the backend has crashed too.
        let at = 0x4000_0000;
        talk.client(bed, SYN, at, b"");
        assert_eq!(state(bed), State::FinClient);
        talk.backend(bed, SYN | ACK, at + 1, b"");
        talk.client(bed, ACK, at + 1, b"");
        talk.backend(bed, ACK, at + 1, b"");
        assert_eq!((state(bed), active(bed)), (State::Established, 1));
    });
}

/// A bed with one service that was just started: a client goes on with a connection that nobody knows.
fn restarted(mode: Mode, resets: bool) -> (Bed, Vec<u8>) {
    let backend = if mode == Mode::Dsr { "10.1.0.11" } else { "10.1.0.11:8080" };
    let mut parts = two_arm(&[spec("192.0.2.10", Protocol::Tcp, mode, &[backend])]);
    parts.services[0].resets_unknown = resets;
    let mut bed = Bed::new(1, 100, parts);
    bed.know_all();
    let (client, vip) = ("198.51.100.7:40000".parse().unwrap(), "192.0.2.10:80".parse().unwrap());
    (bed, segment(WAN, client, vip, ACK, (5000, 7000), b"going on"))
}

#[test]
fn unknown_connections_are_adopted() {
    for mode in [Mode::Nat, Mode::Dsr] {
        let (mut bed, going_on) = restarted(mode, false);
        bed.pass(WAN, &going_on, LAN);
        if mode == Mode::Nat {
            assert_eq!(state(&bed), State::Adopted);
            let (from, to) = ("10.1.0.11:8080".parse().unwrap(), "198.51.100.7:40000".parse().unwrap());
            bed.pass(LAN, &segment(LAN, from, to, ACK, (7000, 5008), b""), WAN);
        }
        assert_eq!(state(&bed), State::Established);
        // Its numbers are known from now on.
        let (client, vip) = ("198.51.100.7:40000".parse().unwrap(), "192.0.2.10:80".parse().unwrap());
        bed.pass(WAN, &segment(WAN, client, vip, RST, (5008 + 0x1000_0000, 0), b""), LAN);
        assert_eq!(state(&bed), State::Established);
        bed.pass(WAN, &segment(WAN, client, vip, FIN | ACK, (5008, 7000), b""), LAN);
        assert_ne!(state(&bed), State::Established);
        bed.check_conservation();
    }
}

#[test]
fn unknown_connections_are_reset_where_the_service_says_so() {
    for mode in [Mode::Nat, Mode::Dsr] {
        let (mut bed, going_on) = restarted(mode, true);
        let answer = bed.pass(WAN, &going_on, WAN);
        let left = parse(&answer);
        assert_eq!(
            (left.from.to_string(), left.to.to_string()),
            ("192.0.2.10:80".into(), "198.51.100.7:40000".into())
        );
        let tcp = etherparse::TcpHeaderSlice::from_slice(&answer[34..]).unwrap();
        // The number that the client expects next: it said so.
        assert_eq!((tcp.sequence_number(), tcp.rst(), tcp.ack()), (7000, true, false));
        assert_eq!(bed.workers[0].pipeline().connections(), 0);
        // A reset is not answered, and a SYN is taken.
        let (client, vip) = ("198.51.100.7:40000".parse().unwrap(), "192.0.2.10:80".parse().unwrap());
        bed.send(WAN, &segment(WAN, client, vip, RST, (5000, 0), b""));
        assert_eq!(bed.receive(WAN), None);
        bed.pass(WAN, &segment(WAN, client, vip, SYN, (5000, 0), b""), LAN);
        assert_eq!(state(&bed), State::SynSent);
        assert_eq!(bed.drops(), [("no_connection", 1), ("unknown_connection", 1)]);
        bed.check_conservation();
    }
}

#[test]
fn resets_of_unknown_connections_are_limited() {
    let (mut bed, going_on) = restarted(Mode::Nat, true);
    for _ in 0..1000 {
        bed.send(WAN, &going_on);
    }
    let answers = std::iter::from_fn(|| bed.receive(WAN)).count();
    assert!((1..=100).contains(&answers), "{answers}");
    assert_eq!(bed.dropped(DropReason::UnknownConnection), 1000);
    bed.check_conservation();
}

#[test]
fn nothing_goes_untracked_that_would_be_reset_next() {
    for resets in [false, true] {
        let mut parts = two_arm(&[
            spec("192.0.2.20", Protocol::Tcp, Mode::Dsr, &["10.1.0.11"]),
            spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"]),
        ]);
        parts.services[0].resets_unknown = resets;
        let mut bed = Bed::new(1, 4, parts);
        bed.know_all();
        let (vip, backend) = ("192.0.2.10:80".parse().unwrap(), "10.1.0.11:8080".parse().unwrap());
        for port in 1000..1004 {
            let client = SocketAddr::new("198.51.100.7".parse().unwrap(), port);
            bed.pass(WAN, &segment(WAN, client, vip, SYN, (1, 0), b""), LAN);
            bed.pass(LAN, &segment(LAN, backend, client, SYN | ACK, (1, 2), b""), WAN);
            bed.pass(WAN, &segment(WAN, client, vip, ACK, (2, 2), b""), LAN);
            bed.pass(LAN, &segment(LAN, backend, client, ACK, (2, 2), b""), WAN);
        }
        let client = "198.51.100.7:2000".parse().unwrap();
        bed.send(WAN, &segment(WAN, client, "192.0.2.20:80".parse().unwrap(), SYN, (1, 0), b""));
        assert_eq!(bed.receive(LAN).is_some(), !resets);
        assert_eq!(bed.total(|c| c.stateless.get()), u64::from(!resets));
        assert_eq!(bed.dropped(DropReason::TableFull), u64::from(resets));
        bed.check_conservation();
    }
}

/// IP packets on their way.
#[derive(Debug, Default)]
struct Link {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 600;
        capabilities
    }
}

/// A host with one TCP socket.
struct Host {
    interface: Interface,
    link: Link,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Bytes that it has read.
    read: usize,
}

impl Host {
    fn new(address: [u8; 4], seed: u64) -> Self {
        let mut link = Link::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut link, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::from(Ipv4Addr::from(address)), 0)).unwrap();
        });
        let buffer = || SocketBuffer::new(vec![0; 4096]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_keep_alive(Some(Duration::from_secs(5)));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { interface, link, sockets, handle, read: 0 }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self, local: u16, to: ([u8; 4], u16)) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        socket
            .connect(self.interface.context(), (IpAddress::from(Ipv4Addr::from(to.0)), to.1), local)
            .unwrap();
    }

    fn poll(&mut self, now: u32) {
        self.interface.poll(Instant::from_millis(now), &mut self.link, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while socket.can_recv() {
            self.read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        self.interface.poll(Instant::from_millis(now), &mut self.link, &mut self.sockets);
    }

    /// Whether it is past the handshake.
    fn is_open(&mut self) -> bool {
        use tcp::State::{Closed, Listen, SynReceived, SynSent};
        !matches!(self.socket().state(), Closed | Listen | SynSent | SynReceived)
    }

    /// Whether it has said that it sends no more, or has been told to stop.
    fn has_closed(&mut self) -> bool {
        use tcp::State::{CloseWait, Established, Listen, SynReceived, SynSent};
        !matches!(self.socket().state(), Listen | SynSent | SynReceived | Established | CloseWait)
    }
}

const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);
const SERVICE: ([u8; 4], u16) = ([192, 0, 2, 10], 80);
const BACKEND: ([u8; 4], u16) = ([10, 1, 0, 11], 8080);

/// Two hosts, the balancer between, and an outsider who knows everything but sequence numbers.
struct World {
    bed: Bed,
    client: Host,
    backend: Host,
    /// What the balancer has sent and has not arrived: towards the backend, and towards the client.
    towards: [VecDeque<Vec<u8>>; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut bed =
            Bed::new(1, 16, two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080"])]));
        bed.know_all();
        let (client, backend) = (Host::new(CLIENT.0, seed), Host::new(BACKEND.0, !seed));
        Self { bed, client, backend, towards: Default::default() }
    }

    /// A packet through the balancer.
    fn through(&mut self, port: u8, packet: &[u8]) {
        let mut frame = PORT_MACS[usize::from(port)].0.to_vec();
        frame.extend(GATEWAY_MAC.0);
        frame.extend([8, 0]);
        frame.extend(packet);
        self.bed.send(port, &frame);
        for (side, out) in [(0, LAN), (1, WAN)] {
            while let Some(frame) = self.bed.receive(out) {
                parse(&frame);
                self.towards[side].push_back(frame[14..].to_vec());
            }
        }
    }

    fn poll(&mut self) {
        self.client.poll(self.bed.now);
        self.backend.poll(self.bed.now);
    }

    /// What lies on one of the four ways: taken out, or copied and left there.
    fn carry(&mut self, way: usize, which: usize, keep: bool) {
        let queue = match way {
            0 => &mut self.client.link.sent,
            1 => &mut self.towards[0],
            2 => &mut self.backend.link.sent,
            _ => &mut self.towards[1],
        };
        // Overtaken by a few at most.
        let at = which % queue.len().clamp(1, 3);
        let packet = if keep { queue.get(at).cloned() } else { queue.remove(at) };
        let Some(packet) = packet else { return };
        match way {
            0 => self.through(WAN, &packet),
            1 => self.backend.link.received.push_back(packet),
            2 => self.through(LAN, &packet),
            _ => self.client.link.received.push_back(packet),
        }
        self.poll();
    }

    fn lose(&mut self, way: usize) {
        let queue = match way {
            0 => &mut self.client.link.sent,
            1 => &mut self.towards[0],
            2 => &mut self.backend.link.sent,
            _ => &mut self.towards[1],
        };
        queue.pop_front();
    }

    /// A forged segment of the client whose number does not fit.
    fn attack(&mut self, flags: u8, guess: u32) {
        let (v4, _) = self.bed.workers[0].pipeline().listing_len();
        let entry = self.bed.workers[0].pipeline().listing_v4(0..v4).next().copied();
        let Some(entry) = entry else { return };
        // Before that, the hosts themselves take what comes first.
        if !self.client.is_open() || !self.backend.is_open() {
            return;
        }
        let ahead = guess.wrapping_sub(entry.expected);
        if ahead.min(ahead.wrapping_neg()) <= WINDOW {
            return;
        }
        let (client, vip) = (SocketAddr::from(CLIENT), SocketAddr::from(SERVICE));
        let frame = segment(WAN, client, vip, flags, (guess, guess.rotate_left(9)), b"");
        self.through(WAN, &frame[14..]);
    }

    fn entry(&self) -> Option<State> {
        let (v4, _) = self.bed.workers[0].pipeline().listing_len();
        self.bed.workers[0].pipeline().listing_v4(0..v4).next().map(|entry| entry.state)
    }

    /// Everything arrives in order, for so many rounds of 100 ms.
    fn calm(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.bed.now += 100;
            self.bed.turn();
            self.poll();
            for way in [0, 1, 2, 3] {
                for _ in 0..16 {
                    self.carry(way, 0, false);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Carry { way: usize, which: usize, keep: bool },
    Lose(usize),
    Attack(u8, u32),
    Say { backend: bool, bytes: usize },
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flags = prop::sample::select(vec![RST, RST | ACK, FIN | ACK, SYN, SYN | ACK, FIN]);
    let step = prop_oneof![
        10 => (0usize..4, 0usize..3, prop::bool::weighted(0.1)).prop_map(|(way, which, keep)| Step::Carry { way, which, keep }),
        1 => (0usize..4).prop_map(Step::Lose),
        2 => (flags, any::<u32>()).prop_map(|(flags, guess)| Step::Attack(flags, guess)),
        2 => (any::<bool>(), 1usize..1500).prop_map(|(backend, bytes)| Step::Say { backend, bytes }),
        2 => (1u32..300).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

fn play(world: &mut World, steps: &[Step]) -> Result<(), TestCaseError> {
    for step in steps {
        match *step {
            Step::Carry { way, which, keep } => world.carry(way, which, keep),
            Step::Lose(way) => world.lose(way),
            Step::Attack(flags, guess) => world.attack(flags, guess),
            Step::Say { backend, bytes } => {
                let host = if backend { &mut world.backend } else { &mut world.client };
                if host.socket().can_send() {
                    let _ = host.socket().send_slice(&vec![7; bytes]);
                }
            }
            Step::Wait(milliseconds) => {
                world.bed.now += milliseconds;
                world.bed.turn();
            }
        }
        world.poll();
        let closed = (world.client.has_closed(), world.backend.has_closed());
        if let (Some(state), false) = (world.entry(), closed.0 && closed.1) {
            prop_assert!(state.class() != Class::Closing, "{state:?} after {step:?}, closed: {closed:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Two real ends, and a network that reorders, repeats and loses, with an outsider who guesses: what goes on is never
    /// over, what both have closed is, and the port opens again.
    #[test]
    fn real_ends_and_a_bad_network(
        seed: u64,
        both_open: bool,
        client_first: bool,
        opening in steps(),
        talking in steps(),
        half in steps(),
    ) {
        let mut world = World::new(seed);
        world.client.connect(CLIENT.1, SERVICE);
        if both_open {
            world.poll();
            // Its SYN is known before the backend's comes.
            world.carry(0, 0, false);
            world.backend.connect(BACKEND.1, CLIENT);
        } else {
            world.backend.socket().listen(BACKEND.1).unwrap();
        }
        play(&mut world, &opening)?;
        world.calm(300);
        prop_assert_eq!(world.client.socket().state(), tcp::State::Established);
        prop_assert_eq!(world.backend.socket().state(), tcp::State::Established);
        play(&mut world, &talking)?;
        world.client.socket().send_slice(b"and one").unwrap_or_default();
        world.backend.socket().send_slice(b"more").unwrap_or_default();
        world.calm(300);
        prop_assert_eq!(world.entry(), Some(State::Established));
        let read = (world.client.read, world.backend.read);
        prop_assert!(read.0 > 0 && read.1 > 0, "{read:?}");
        // One half.
        let first = if client_first { &mut world.client } else { &mut world.backend };
        first.socket().close();
        play(&mut world, &half)?;
        world.calm(300);
        let expected = if client_first { State::FinClient } else { State::FinBackend };
        prop_assert_eq!(world.entry(), Some(expected));
        // The other.
        let second = if client_first { &mut world.backend } else { &mut world.client };
        second.socket().close();
        world.calm(300);
        prop_assert_eq!(world.entry(), Some(State::TimeWait));
        // Both ends forget, and the client takes the same port.
        let mut again = World { client: Host::new(CLIENT.0, seed ^ 5), backend: Host::new(BACKEND.0, seed ^ 7), ..world };
        again.client.connect(CLIENT.1, SERVICE);
        again.backend.socket().listen(BACKEND.1).unwrap();
        again.calm(20);
        again.client.socket().send_slice(b"hello").unwrap();
        again.calm(20);
        prop_assert_eq!(again.entry(), Some(State::Established));
        prop_assert_eq!(again.backend.read, 5);
        again.bed.check_conservation();
    }
}
