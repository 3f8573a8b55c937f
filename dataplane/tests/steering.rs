//! Several workers: whichever receives a packet, the owner of its connection decides.

mod bed;

use bed::{ACK, Bed, LAN, SYN, WAN, nic, parse, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use dataplane::steering::{Steering, deal};
use dataplane::verdict::DropReason;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::sync::Arc;

fn services() -> [bed::ServiceSpec; 2] {
    [
        spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080", "10.1.0.12:8080"]),
        spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11", "10.1.0.12"]),
    ]
}

/// Clients that connect through `bed`; `arrives` names the worker that each packet comes to by its port and ends. Checks
/// every packet on the way. Returns how many connections there are.
fn converse(
    bed: &mut Bed,
    clients: u16,
    mut arrives: impl FnMut(u8, SocketAddr, SocketAddr) -> usize,
) -> Result<usize, TestCaseError> {
    let mut deliver = |bed: &mut Bed, port: u8, segment: bed::Segment, out: u8| {
        let worker = arrives(port, segment.from, segment.to);
        bed.wires[worker][usize::from(port)].send(&segment.frame(port, b""));
        bed.turn();
        bed.receive(out).map(|frame| parse(&frame))
    };
    for client in 0..clients {
        let from = format!("198.51.100.{}:{}", client % 5 + 1, 1000 + client);
        let mut to = None;
        for flags in [SYN, SYN | ACK, ACK, ACK, ACK] {
            if flags == SYN | ACK {
                let backend: SocketAddr = to.unwrap();
                let out = deliver(bed, LAN, tcp(&backend.to_string(), &from, flags), WAN).expect("reply");
                prop_assert_eq!(out.from.to_string(), "192.0.2.10:80");
                prop_assert_eq!(out.to.to_string(), from.clone());
            } else {
                let out = deliver(bed, WAN, tcp(&from, "192.0.2.10:80", flags), LAN).expect("request");
                prop_assert!(to.is_none_or(|to| to == out.to), "moved from {:?} to {}", to, out.to);
                to = Some(out.to);
            }
        }
        prop_assert!(deliver(bed, WAN, udp(&from, "192.0.2.20:80"), LAN).is_some());
    }
    prop_assert_eq!(bed.drops(), vec![]);
    prop_assert_eq!(bed.total(|c| c.handoffs.get()), bed.total(|c| c.handoffs_in.get()));
    bed.check_conservation();
    Ok(bed.workers.iter().map(|worker| worker.pipeline().connections()).sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every packet of every connection arrives at a random worker, as with a port that spreads at will.
    #[test]
    fn connections_hold_wherever_their_packets_arrive(workers in 2usize..6, arrivals in proptest::collection::vec(0usize..6, 400)) {
        let mut bed = Bed::new(workers, 1000, two_arm(&services()));
        bed.know_all();
        let mut arrival = arrivals.iter().cycle().map(|a| a % workers);
        let connections = converse(&mut bed, 40, |_, _, _| arrival.next().unwrap())?;
        prop_assert_eq!(connections, 80, "one entry a connection, whoever received its packets");
        prop_assert!(bed.total(|c| c.handoffs.get()) > 0);
        let by_port = bed.counters.iter().flat_map(|c| &c.ports).map(|port| port.handoffs.get()).sum::<u64>();
        prop_assert_eq!(by_port, bed.total(|c| c.handoffs.get()));
    }

    /// Fewer queues than workers, in one direction or both: some workers hear and send by way of others.
    #[test]
    fn workers_without_queues_work_all_the_same(
        workers in 2u8..6, wan in (1u16..4, 1u16..4), lan in (1u16..4, 1u16..4), seed: u32,
    ) {
        let queues = [wan, lan].map(|(rx, tx)| (rx.min(workers.into()), tx.min(workers.into())));
        let steering = Arc::new(Steering::keyed(workers, bed::secret()));
        let mut bed = Bed::steered(&steering, 1000, two_arm(&services()), &queues);
        bed.know_all();
        let dealt = deal::deal(workers, &queues);
        let mut next = seed;
        let connections = converse(&mut bed, 40, |port, _, _| {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let receivers = &dealt[usize::from(port)].receivers;
            receivers[(next >> 16) as usize % receivers.len()].into()
        })?;
        prop_assert_eq!(connections, 80);
        let busy = bed.workers.iter().filter(|worker| worker.pipeline().connections() > 0).count();
        prop_assert_eq!(busy, usize::from(workers), "every worker has its share of connections");
        let relayed = bed.total(|c| c.relayed.get());
        prop_assert_eq!(relayed > 0, queues.iter().any(|(_, tx)| *tx < workers.into()), "{} relayed", relayed);
    }
}

fn end(address: SocketAddr) -> (std::net::IpAddr, u16) {
    (address.ip(), address.port())
}

#[test]
fn a_port_that_hashes_the_outer_end_delivers_to_the_owner() {
    for workers in [2, 3, 5] {
        let steering = Arc::new(Steering::one_end(workers, bed::secret(), nic(workers)));
        let mut bed = Bed::steered(&steering, 1000, two_arm(&services()), &[]);
        bed.know_all();
        let nic = nic(workers);
        let outer = |port, from, to| nic.by_one_end(end(if port == WAN { from } else { to })).into();
        assert_eq!(converse(&mut bed, 200, outer).unwrap(), 400);
        assert_eq!(bed.total(|c| c.handoffs.get()), 0);
        let shares: Vec<usize> = bed.workers.iter().map(|worker| worker.pipeline().connections()).collect();
        assert!(shares.iter().all(|&share| share > 200 / usize::from(workers)), "{shares:?}");
    }
}

#[test]
fn a_port_that_hashes_both_ends_delivers_dsr_to_the_owner() {
    let steering = Arc::new(Steering::both_ends(4, bed::secret(), nic(4)));
    let mut bed = Bed::steered(&steering, 1000, two_arm(&services()), &[]);
    bed.know_all();
    let nic = nic(4);
    let both = |_, from, to| nic.by_both_ends(end(from), end(to)).into();
    assert_eq!(converse(&mut bed, 200, both).unwrap(), 400);
    // nat cannot be: its answers do not say what the request's other end was. 3 of 4 of its 1,000 packets.
    let handoffs = bed.total(|c| c.handoffs.get());
    assert!((650..850).contains(&handoffs), "{handoffs}");
}

#[test]
fn what_belongs_to_nobody_is_dropped_once() {
    let mut bed = Bed::new(3, 100, two_arm(&services()));
    for port in 1000..1030 {
        bed.send(LAN, &udp("10.1.0.11:53", &format!("198.51.100.7:{port}")).frame(LAN, b""));
        bed.send(WAN, &udp(&format!("198.51.100.7:{port}"), "192.0.2.10:99").frame(WAN, b""));
    }
    assert_eq!(bed.drops(), [("no_service", 60)]);
    bed.check_conservation();
}

/// More packets for one worker than the ring to it holds, while it does not look.
#[test]
fn a_full_ring_drops_and_counts() {
    let mut bed = Bed::steered(
        &Arc::new(Steering::keyed(2, bed::secret())),
        100,
        two_arm(&services()),
        &[(1, 1), (1, 1)],
    );
    bed.know_all();
    let sent = 10_000;
    for _ in 0..sent {
        bed.wires[0][usize::from(WAN)].send(&tcp("198.51.100.1:1000", "192.0.2.10:80", SYN).frame(WAN, b""));
    }
    // The port has its queue at worker 0, which works alone for a while.
    while bed.workers[0].turn(0) > 0 {}
    bed.turn();
    // Either worker 1 owns the connection, or it has the TX queue to the backend: the ring to it is in the way.
    assert_eq!(bed.total(|c| c.rx_packets.get()), sent);
    assert_eq!(bed.dropped(DropReason::HandoffFull), sent - 2048);
    assert_eq!(bed.total(|c| c.forwarded.get()), 2048);
    bed.check_conservation();
}
