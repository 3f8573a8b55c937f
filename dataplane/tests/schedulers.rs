//! Which backend new connections get, over whole workers: affinity, connections counted across workers, and what a change of
//! backends moves.

mod bed;

use bed::{ACK, BackendSpec, Bed, LAN, RST, SYN, ServiceSpec, WAN, parse, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol, Scheduler};
use dataplane::affinity::Affinity;
use dataplane::scheduler::{self, Candidate, Cursor, Load, MaglevParameters};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const VIP4: &str = "192.0.2.10:80";
const VIP6: &str = "[2001:db8:ffff::10]:80";
const BACKENDS4: [&str; 3] = ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080"];
const BACKENDS6: [&str; 3] = ["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080", "[2001:db8:1::13]:8080"];
const AFFINITY: Affinity = Affinity { timeout: 60_000, prefix_v4: 24, prefix_v6: 64 };

fn bed(scheduler: Scheduler, affinity: Option<Affinity>) -> Bed {
    let service =
        |vip, backends| ServiceSpec { scheduler, affinity, ..spec(vip, Protocol::Tcp, Mode::Nat, backends) };
    let services = [service("192.0.2.10", &BACKENDS4[..]), service("2001:db8:ffff::10", &BACKENDS6[..])];
    let mut bed = Bed::new(3, 4096, two_arm(&services));
    bed.know_all();
    bed
}

/// A new connection; the last digits of its backend's address.
fn connect(bed: &mut Bed, from: &str, to: &str) -> String {
    let to = parse(&bed.pass(WAN, &tcp(from, to, SYN).frame(WAN, b""), LAN)).to.ip().to_string();
    to[to.len() - 2..].to_owned()
}

/// Gives the IPv4 service a scheduler over those of its backends whose slots are named.
fn serve(bed: &mut Bed, kind: Scheduler, slots: &[u32]) {
    let backend = |slot: u32| bed.parts.backends[slot as usize].unwrap();
    let candidate = |&slot: &u32| Candidate {
        slot,
        address: backend(slot).address,
        port: backend(slot).port.unwrap(),
        weight: 100,
    };
    let candidates: Vec<Candidate> = slots.iter().map(candidate).collect();
    bed.parts.services[0].scheduler = scheduler::build(kind, &candidates, MaglevParameters::default());
    for slot in 0..3 {
        bed.parts.backends[slot as usize].as_mut().unwrap().serving = slots.contains(&slot);
    }
    bed.parts.generation += 1;
    bed.publish();
}

/// What the control thread does every few milliseconds.
fn look(bed: &Bed) {
    let load = |slot: u32| Load {
        active: bed.total(|counters| counters.backends[slot as usize].connections_active.get()),
        total: bed.total(|counters| counters.backends[slot as usize].connections_total.get()),
    };
    bed.parts.services[0].scheduler.observe(bed.workers.len() as u8, &load);
}

#[test]
fn least_connections_counts_those_of_all_workers() {
    let mut bed = bed(Scheduler::LeastConnections, None);
    serve(&mut bed, Scheduler::LeastConnections, &[0]);
    for port in 1000..1030 {
        assert_eq!(connect(&mut bed, &format!("198.51.100.7:{port}"), VIP4), "11");
    }
    serve(&mut bed, Scheduler::LeastConnections, &[0, 1, 2]);
    let owners = bed.counters.iter().filter(|counters| counters.connections_total.get() > 0).count();
    assert_eq!(owners, 3, "all workers own some");
    // However its connections are spread over workers: the first backend gets no more until the others are even.
    for port in 2000..2060 {
        look(&bed);
        assert_ne!(connect(&mut bed, &format!("198.51.100.8:{port}"), VIP4), "11");
    }
    let active =
        |bed: &Bed, slot: usize| bed.total(|counters| counters.backends[slot].connections_active.get());
    assert_eq!([active(&bed, 0), active(&bed, 1), active(&bed, 2)], [30; 3]);
    // Connections that end make room, whoever owned them.
    for port in 1000..1015 {
        let reset = tcp(&format!("198.51.100.7:{port}"), VIP4, RST);
        bed.pass(WAN, &reset.frame(WAN, b""), LAN);
    }
    assert_eq!(active(&bed, 0), 15);
    for port in 3000..3015 {
        look(&bed);
        assert_eq!(connect(&mut bed, &format!("198.51.100.9:{port}"), VIP4), "11");
    }
    bed.check_conservation();
}

#[test]
fn a_client_stays_with_its_backend_on_every_worker() {
    for &kind in Scheduler::ALL {
        let mut bed = bed(kind, Some(AFFINITY));
        let mut used = BTreeSet::new();
        for net in 0..20 {
            let first = connect(&mut bed, &format!("203.0.{net}.1:1000"), VIP4);
            for port in 1001..1012 {
                // Any address of the prefix is the same client.
                assert_eq!(connect(&mut bed, &format!("203.0.{net}.{}:{port}", port - 1000), VIP4), first);
            }
            let first6 = connect(&mut bed, &format!("[2001:db8:9:{net:x}::1]:1000"), VIP6);
            for port in 1001..1006 {
                assert_eq!(connect(&mut bed, &format!("[2001:db8:9:{net:x}::{port}]:{port}"), VIP6), first6);
            }
            used.insert(first);
        }
        assert_eq!(used.len(), 3, "{kind}");
        let owners = bed.counters.iter().filter(|counters| counters.connections_total.get() > 0).count();
        assert_eq!(owners, 3);
    }
}

#[test]
fn connections_of_one_burst_are_of_one_client() {
    let mut bed = Bed::new(
        1,
        64,
        two_arm(&[ServiceSpec {
            affinity: Some(AFFINITY),
            ..spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &BACKENDS4)
        }]),
    );
    bed.know_all();
    for port in 1000..1010 {
        bed.wires[0][usize::from(WAN)].send(&tcp(&format!("203.0.113.5:{port}"), VIP4, SYN).frame(WAN, b""));
    }
    bed.turn();
    let backends: BTreeSet<_> =
        std::iter::from_fn(|| bed.receive(LAN)).map(|frame| parse(&frame).to).collect();
    assert_eq!(backends.len(), 1, "{backends:?}");
}

#[test]
fn affinity_is_over_when_nobody_comes_for_a_while() {
    let mut bed = bed(Scheduler::RoundRobin, Some(AFFINITY));
    let mut port = 1000;
    let mut again = |bed: &mut Bed, later: u32| {
        bed.now += later;
        port += 1;
        connect(bed, &format!("203.0.113.5:{port}"), VIP4)
    };
    let first = again(&mut bed, 0);
    // Every new connection begins the time anew.
    for _ in 0..10 {
        assert_eq!(again(&mut bed, 50_000), first);
    }
    let later: BTreeSet<String> = (0..30).map(|_| again(&mut bed, 61_000)).collect();
    assert!(later.len() > 1, "{later:?}");
}

#[test]
fn affinity_ends_with_the_backend_and_follows_to_another() {
    let mut bed = bed(Scheduler::RoundRobin, Some(AFFINITY));
    let first = connect(&mut bed, "203.0.113.5:1000", VIP4);
    let lost: u32 = BACKENDS4.iter().position(|backend| backend.contains(&*first)).unwrap() as u32;
    let rest: Vec<u32> = (0..3).filter(|&slot| slot != lost).collect();
    serve(&mut bed, Scheduler::RoundRobin, &rest);
    let second = connect(&mut bed, "203.0.113.5:1001", VIP4);
    assert_ne!(second, first);
    for port in 1002..1020 {
        assert_eq!(connect(&mut bed, &format!("203.0.113.5:{port}"), VIP4), second);
    }
    // It is back, and the client stays where it is; its old connection never moved.
    serve(&mut bed, Scheduler::RoundRobin, &[0, 1, 2]);
    assert_eq!(connect(&mut bed, "203.0.113.5:1030", VIP4), second);
    let old = tcp("203.0.113.5:1000", VIP4, ACK);
    assert!(parse(&bed.pass(WAN, &old.frame(WAN, b"x"), LAN)).to.to_string().contains(&first));
}

#[test]
fn removing_one_of_a_hundred_moves_nothing_established_and_little_that_is_new() {
    const FLOWS: u16 = 4000;
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| (1..=100).map(|n| format!("10.1.0.{}:8080", n + 100)).collect());
    let list: Vec<&'static str> = NAMES.iter().map(String::as_str).collect();
    for &kind in Scheduler::ALL {
        let service = ServiceSpec { scheduler: kind, ..spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &list) };
        let mut bed = Bed::new(1, 1 << 14, two_arm(&[service]));
        bed.know_all();
        let client = |n: u16, port: u16| format!("198.51.{}.{}:{port}", n >> 8, n as u8);
        let mut backends = BTreeMap::new();
        for n in 0..FLOWS {
            let to = parse(&bed.pass(WAN, &tcp(&client(n, 1000), VIP4, SYN).frame(WAN, b""), LAN)).to;
            backends.insert(n, to);
        }
        let all: Vec<Candidate> = (1..100u32)
            .map(|slot| {
                let backend = bed.parts.backends[slot as usize].unwrap();
                Candidate { slot, address: backend.address, port: backend.port.unwrap(), weight: 100 }
            })
            .collect();
        let gone = bed.parts.backends[0].unwrap().address;
        bed.parts.backends[0].as_mut().unwrap().removed = true;
        bed.parts.backends[0].as_mut().unwrap().serving = false;
        bed.parts.services[0].scheduler = scheduler::build(kind, &all, MaglevParameters::default());
        bed.parts.generation += 1;
        bed.publish();
        // Every connection is where it was, those to the backend that is gone too.
        for n in 0..FLOWS {
            let old = tcp(&client(n, 1000), VIP4, ACK);
            let now = parse(&bed.pass(WAN, &old.frame(WAN, b"x"), LAN)).to;
            assert_eq!(now, backends[&n], "{kind}: established");
        }
        let (mut moved, mut orphans) = (0, Vec::new());
        for n in 0..FLOWS {
            let before = backends[&n];
            // The same flow, new: what the scheduler says of it now.
            let reset = tcp(&client(n, 1000), VIP4, RST);
            bed.pass(WAN, &reset.frame(WAN, b""), LAN);
            let now = parse(&bed.pass(WAN, &tcp(&client(n, 1000), VIP4, SYN).frame(WAN, b""), LAN)).to;
            assert_ne!(now.ip(), gone, "{kind}");
            if before.ip() == gone {
                orphans.push(now);
            } else {
                moved += u32::from(now != before);
            }
        }
        if bed.parts.services[0].scheduler.uses_hash() {
            assert!(moved <= u32::from(FLOWS) / 50, "{kind}: {moved} of {FLOWS} moved");
        }
        // What was the lost one's share goes to all that are left, not to one of them.
        let heirs: BTreeSet<_> = orphans.iter().collect();
        assert!(orphans.len() > 10 && heirs.len() * 2 > orphans.len(), "{kind}: {orphans:?}");
        bed.check_conservation();
    }
}

/// New connections of so many clients by backend, over three workers.
fn spread(kind: Scheduler, weights: &'static [(&'static str, u16)], flows: u32) -> Vec<u32> {
    let backends = weights.iter().map(|&(address, weight)| BackendSpec { address, weight }).collect();
    let base = spec("192.0.2.10", Protocol::Udp, Mode::Nat, &[]);
    let mut bed = Bed::new(3, 1 << 16, two_arm(&[ServiceSpec { scheduler: kind, backends, ..base }]));
    bed.know_all();
    for n in 0..flows {
        if n % 500 == 0 {
            look(&bed);
        }
        let client = format!("198.{}.{}.{}:40000", 18 + (n >> 16), n as u16 >> 8, n as u8);
        bed.wires[n as usize % 3][usize::from(WAN)].send(&udp(&client, VIP4).frame(WAN, b""));
        if n % 96 == 95 {
            bed.turn();
        }
    }
    bed.turn();
    bed.check_conservation();
    let total = |slot: usize| bed.total(|counters| counters.backends[slot].connections_total.get()) as u32;
    (0..weights.len()).map(total).collect()
}

#[test]
fn weights_hold_over_whole_workers() {
    const FLOWS: u32 = 30_000;
    static WEIGHTS: [(&str, u16); 4] =
        [("10.1.0.11:53", 100), ("10.1.0.12:53", 200), ("10.1.0.13:53", 300), ("10.1.0.14:53", 400)];
    for &kind in Scheduler::ALL {
        let hashes = scheduler::build(kind, &[], MaglevParameters::default()).uses_hash();
        for (count, (address, weight)) in spread(kind, &WEIGHTS, FLOWS).into_iter().zip(WEIGHTS) {
            let exact = f64::from(FLOWS) * f64::from(weight) / 1000.0;
            // Which flows there are is chance; whose they are, once hashed, is not.
            let chance = if hashes { 4.0 * exact.sqrt() } else { 0.0 };
            let off = (f64::from(count) - exact).abs();
            assert!(off <= exact / 100.0 + chance, "{kind}: {count} to {address}, its share is {exact}");
        }
    }
}

#[test]
fn the_table_of_a_hash_has_the_weights_within_a_percent() {
    const HASHES: u64 = 1_000_000;
    let sets: [Vec<u16>; 5] = [
        vec![1, 2, 3],
        vec![100; 100],
        vec![1, 99],
        (1..=20).map(|n| n * 50).collect(),
        vec![65_535, 40_000, 20_000, 10_000],
    ];
    for kind in [Scheduler::Maglev, Scheduler::SourceHash] {
        for weights in &sets {
            let candidate = |(slot, &weight): (u32, &u16)| Candidate {
                slot,
                address: [10, 1, 0, slot as u8].into(),
                port: 80,
                weight,
            };
            let candidates: Vec<Candidate> = (0..).zip(weights).map(candidate).collect();
            let scheduler = scheduler::build(kind, &candidates, MaglevParameters::default());
            let mut counts = vec![0u32; weights.len()];
            // Hashes at equal distances meet every place of the table equally often.
            for n in 0..HASHES {
                let slot = scheduler.pick(n * (u64::MAX / HASHES), &mut Cursor::default()).unwrap();
                counts[slot as usize] += 1;
            }
            let all: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (&count, &weight) in counts.iter().zip(weights) {
                let exact = HASHES as f64 * f64::from(weight) / all;
                assert!((f64::from(count) - exact).abs() <= exact / 100.0, "{kind}: {count} for {exact}");
            }
        }
    }
}
