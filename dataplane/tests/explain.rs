//! What a worker says would become of a packet is what then becomes of it: random services, random flows, any worker.

mod bed;

use bed::{BackendSpec, Bed, LAN, SYN, Segment, ServiceSpec, WAN, spec, tcp, tunnelled, two_arm, udp};
use ctl::config::{Mode, Protocol, Scheduler, Tunnel};
use dataplane::conn::Direction;
use dataplane::pipeline::{Connection, Explanation, Fate, Question};
use dataplane::tunnel as tunnels;
use dataplane::worker::{Command, Event, Listing};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const VIPS: [&str; 6] =
    ["192.0.2.10", "192.0.2.11", "192.0.2.8/30", "192.0.2.0/24", "2001:db8:f::10", "2001:db8:f::/64"];
const PORTS: [&str; 5] = ["80", "81", "80-82", "53", "*"];
const BACKENDS4: [&str; 3] = ["10.1.0.11:8080", "10.1.0.12", "10.1.0.13:80"];
const BACKENDS6: [&str; 3] = ["[2001:db8:1::11]:8080", "2001:db8:1::12", "[2001:db8:1::13]:80"];
const KINDS: [(Tunnel, bool); 4] =
    [(Tunnel::Ipip, true), (Tunnel::Gue, true), (Tunnel::Gue, false), (Tunnel::Gre, true)];

fn question(protocol: u8, from: SocketAddr, to: SocketAddr) -> Question {
    Question { protocol, source: (from.ip(), from.port()), destination: (to.ip(), to.port()) }
}

fn of(segment: Segment) -> Question {
    question(if segment.tcp.is_some() { 6 } else { 17 }, segment.from, segment.to)
}

/// Without what changes as time goes by.
fn timeless(said: Explanation) -> Explanation {
    match said.fate {
        Fate::Known(connection) => {
            Explanation { fate: Fate::Known(Connection { idle: 0, ..connection }), ..said }
        }
        _ => said,
    }
}

/// What each worker says.
fn ask(bed: &mut Bed, question: Question) -> Vec<Explanation> {
    for control in &mut bed.controls {
        control.send(Command::List(Box::new(Listing::explain(question)))).unwrap();
    }
    let mut said = vec![None; bed.workers.len()];
    while said.iter().any(Option::is_none) {
        // Workers look after such things once a millisecond.
        bed.now += 1;
        for (number, worker) in bed.workers.iter_mut().enumerate() {
            worker.turn(bed.now);
            while let Some(event) = bed.controls[number].receive() {
                if let Event::Listed(listing) = event {
                    said[number] = listing.explanation.map(timeless);
                }
            }
        }
    }
    said.into_iter().flatten().collect()
}

/// The word of the worker whose word counts.
fn verdict(said: &[Explanation]) -> Explanation {
    if let Some(known) = said.iter().find(|one| matches!(one.fate, Fate::Known(_))) {
        return *known;
    }
    match said[0].fate {
        Fate::New { owner, .. } | Fate::NoService { owner } | Fate::Punted { owner, .. } => {
            said[usize::from(owner)]
        }
        _ => said[0],
    }
}

fn service(
    (vip, ports, protocol, mode): (usize, usize, Protocol, Mode),
    (kind, hashed): (usize, bool),
    weights: &[u16],
) -> ServiceSpec {
    let v6 = VIPS[vip].contains(':');
    let all: Vec<&'static str> = if v6 { BACKENDS6.to_vec() } else { BACKENDS4.to_vec() };
    // A tunnel leads to either family, and to no port.
    let bare = ["10.1.0.11", "2001:db8:1::12", "10.1.0.13"];
    let base = match (mode, kind) {
        (Mode::Dsr, 1..) => tunnelled(VIPS[vip], protocol, KINDS[kind - 1], &[], &bare),
        (Mode::Dsr, 0) if v6 => {
            spec(VIPS[vip], protocol, mode, &["2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13"])
        }
        (Mode::Dsr, 0) => spec(VIPS[vip], protocol, mode, &["10.1.0.11", "10.1.0.12", "10.1.0.13"]),
        _ => spec(VIPS[vip], protocol, mode, &all),
    };
    let backends =
        base.backends.iter().zip(weights).map(|(one, &weight)| BackendSpec { weight, ..*one }).collect();
    let scheduler = if hashed { Scheduler::Maglev } else { Scheduler::RoundRobin };
    ServiceSpec { ports: PORTS[ports], scheduler, backends, ..base }
}

fn services() -> impl Strategy<Value = Vec<ServiceSpec>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let mode = prop_oneof![Just(Mode::Nat), Just(Mode::FullNat), Just(Mode::Dsr)];
    let place = (0..VIPS.len(), 0..PORTS.len(), protocol, mode);
    let one = (place, (0..=KINDS.len(), any::<bool>()), proptest::collection::vec(0..3u16, 0..=3));
    proptest::collection::vec(one, 1..6).prop_map(|list| {
        let mut made: Vec<ServiceSpec> = Vec::new();
        for (place, choice, weights) in list {
            let new = service(place, choice, &weights);
            // Equal and crossing ranges on one prefix are refused by the configuration.
            let clashes = |old: &ServiceSpec| old.vip == new.vip && old.protocol == new.protocol;
            if !made.iter().any(clashes) {
                made.push(new);
            }
        }
        made
    })
}

fn flow() -> impl Strategy<Value = (Segment, u8)> {
    (any::<bool>(), any::<bool>(), 0..4u8, 1024..1040u16, 8..12u8, 0..5usize, any::<u8>()).prop_map(
        |(v6, is_tcp, client, port, vip, to, at)| {
            let to = [79, 80, 81, 53, 443][to];
            let (from, to) = if v6 {
                (format!("[2001:db8:c::{client}]:{port}"), format!("[2001:db8:f::{vip}]:{to}"))
            } else {
                (format!("198.51.100.{client}:{port}"), format!("192.0.2.{vip}:{to}"))
            };
            (if is_tcp { tcp(&from, &to, SYN) } else { udp(&from, &to) }, at)
        },
    )
}

/// The only frame that leaves, and by which port.
fn leaves(bed: &mut Bed, worker: usize, port: u8, segment: Segment) -> Option<(u8, Vec<u8>)> {
    bed.wires[worker][usize::from(port)].send(&segment.frame(port, b"payload"));
    bed.turn();
    let mut sent = Vec::new();
    for port in [WAN, LAN] {
        while let Some(frame) = bed.receive(port) {
            sent.push((port, frame));
        }
    }
    assert!(sent.len() <= 1);
    sent.pop()
}

/// The outer destination, and the packet inside.
fn opened(frame: &[u8]) -> (IpAddr, Vec<u8>) {
    let v6 = frame[12..14] == [0x86, 0xdd];
    let (number, to, payload): (u8, IpAddr, usize) = if v6 {
        (frame[20], <[u8; 16]>::try_from(&frame[38..54]).unwrap().into(), 54)
    } else {
        (frame[23], <[u8; 4]>::try_from(&frame[30..34]).unwrap().into(), 34)
    };
    let inner = payload + tunnels::inner_offset(number, &frame[payload..]).unwrap();
    let kind: [u8; 2] = if frame[inner] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    (to, [&frame[..12], &kind, &frame[inner..]].concat())
}

/// Sends what was asked about and compares.
fn compare(bed: &mut Bed, segment: Segment, arrives_at: usize) {
    let said = ask(bed, of(segment));
    let again = ask(bed, of(segment));
    let told = verdict(&said).fate;
    assert_eq!(told, verdict(&again).fate, "asking changes nothing");
    let before: Vec<u64> = bed.counters.iter().map(|one| one.connections_total.get()).collect();
    let drops = bed.drops();
    let left = leaves(bed, arrives_at, WAN, segment);
    let made: Vec<usize> =
        (0..before.len()).filter(|&n| bed.counters[n].connections_total.get() > before[n]).collect();
    let dropped = || -> Vec<&str> {
        bed.drops().iter().filter(|now| !drops.contains(now)).map(|(name, _)| *name).collect()
    };
    match told {
        Fate::NoService { .. } => assert_eq!((left, dropped()), (None, vec!["no_service"])),
        Fate::New { pick: None, .. } => assert_eq!((left, dropped()), (None, vec!["no_backend"])),
        Fate::New { conflict: true, .. } => {}
        Fate::New { service, owner, pick: Some(slot), .. } => {
            assert_eq!(made, [usize::from(owner)], "made by its owner");
            let service = &bed.parts.services[service as usize];
            assert!(service.vip.contains(segment.to.ip()) && service.ports.contains(segment.to.port()));
            let backend = bed.parts.backends[slot as usize].unwrap();
            assert_eq!(
                Some(backend.service),
                bed.parts.services.iter().position(|one| one.id == service.id).map(|n| n as u32)
            );
            let (port, frame) = left.expect("it leaves");
            assert_eq!((port, &frame[..6]), (LAN, &bed::mac_of(backend.address).0[..]), "to the backend");
            let tunnelled = bed.parts.tunnels[slot as usize].is_some();
            let inside = if tunnelled {
                let (to, inside) = opened(&frame);
                assert_eq!(to, backend.address);
                inside
            } else {
                frame
            };
            let left = bed::parse(&inside);
            let to = SocketAddr::new(backend.address, backend.port.unwrap_or(segment.to.port()));
            match service.mode {
                Mode::Dsr => assert_eq!((left.from, left.to), (segment.from, segment.to)),
                Mode::Nat => assert_eq!((left.from, left.to), (segment.from, to)),
                Mode::FullNat => {
                    assert_eq!((left.from.ip(), left.to), (bed.parts.local_addresses[slot as usize][0], to));
                }
            }
        }
        Fate::Known(connection) => {
            assert_eq!(made, Vec::<usize>::new());
            let (port, frame) = left.expect("it leaves");
            let tunnelled = bed.parts.tunnels[connection.backend as usize].is_some() && connection.one_way;
            let left = bed::parse(&if tunnelled { opened(&frame).1 } else { frame });
            let wanted = ((left.from.ip(), left.from.port()), (left.to.ip(), left.to.port()));
            assert_eq!((connection.leaves, connection.direction, port), (wanted, Direction::Forward, LAN));
        }
        Fate::Forged => assert_eq!((left, dropped()), (None, vec!["ip_source"])),
        Fate::Delivered | Fate::Punted { .. } => panic!("{told:?}"),
    }
}

/// The same for the answer of a connection that came about.
fn compare_answer(bed: &mut Bed, segment: Segment, arrives_at: usize) {
    let Fate::Known(request) = verdict(&ask(bed, of(segment))).fate else { return };
    if request.one_way {
        return;
    }
    let end = |(address, port): (IpAddr, u16)| SocketAddr::new(address, port);
    let answer = Segment {
        from: end(request.leaves.1),
        to: end(request.leaves.0),
        tcp: segment.tcp.map(|_| SYN | bed::ACK),
        hop_limit: 64,
    };
    let Fate::Known(told) = verdict(&ask(bed, of(answer))).fate else { panic!("it is known") };
    assert_eq!((told.direction, told.client), (Direction::Reply, (segment.from.ip(), segment.from.port())));
    let (port, frame) = leaves(bed, arrives_at, LAN, answer).expect("it leaves");
    let left = bed::parse(&frame);
    assert_eq!(
        (port, told.leaves),
        (WAN, ((left.from.ip(), left.from.port()), (left.to.ip(), left.to.port())))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_told_is_what_happens(
        services in services(), flows in proptest::collection::vec(flow(), 1..16), workers in 1..4usize,
    ) {
        let mut bed = Bed::new(workers, 1000, two_arm(&services));
        bed.know_all();
        for (segment, at) in flows {
            let at = usize::from(at) % workers;
            compare(&mut bed, segment, at);
            compare_answer(&mut bed, segment, (at + 1) % workers);
            // Now that there may be a connection; without one TCP is a SYN again.
            let known = matches!(verdict(&ask(&mut bed, of(segment))).fate, Fate::Known(_));
            let tcp = if known { segment.tcp.map(|_| bed::ACK) } else { segment.tcp };
            compare(&mut bed, Segment { tcp, ..segment }, at);
        }
        bed.check_conservation();
    }
}

#[test]
fn answers_to_checks_and_forged_sources_are_told() {
    let mut bed =
        Bed::new(2, 100, two_arm(&[spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:80"])]));
    bed.know_all();
    let fate = |bed: &mut Bed, from: &str, to: &str| verdict(&ask(bed, of(tcp(from, to, SYN)))).fate;
    assert_eq!(fate(&mut bed, "10.1.0.11:80", "10.1.0.1:65000"), Fate::Delivered);
    assert_eq!(fate(&mut bed, "10.1.0.1:4000", "192.0.2.10:80"), Fate::Forged);
}

#[test]
fn what_is_for_the_host_is_told() {
    let mut parts = two_arm(&[spec("10.0.0.2", Protocol::Tcp, Mode::Nat, &["10.1.0.11:80"])]);
    parts.ports[usize::from(WAN)].host = Some(100);
    let mut bed = Bed::new(2, 100, parts);
    bed.know_all();
    let mut fate = |from: &str, to: &str| verdict(&ask(&mut bed, of(tcp(from, to, SYN)))).fate;
    assert!(matches!(fate("198.51.100.7:4000", "10.0.0.2:22"), Fate::Punted { port: WAN, .. }));
    assert!(matches!(fate("[2001:db8:c::7]:4000", "[2001:db8::2]:40000"), Fate::Punted { port: WAN, .. }));
    assert!(matches!(fate("198.51.100.7:4000", "10.0.0.2:80"), Fate::New { .. }));
    assert_eq!(fate("198.51.100.7:4000", "10.0.0.2:65000"), Fate::Delivered);
    assert!(matches!(fate("198.51.100.7:4000", "10.1.0.1:22"), Fate::NoService { .. }));
    assert_eq!(fate("10.1.0.1:4000", "10.0.0.2:22"), Fate::Forged);
}
