//! Several workers: whichever receives a packet, the owner of its connection decides.

mod bed;

use bed::{ACK, Bed, LAN, SYN, WAN, parse, spec, tcp, two_arm, udp};
use ctl::config::{Mode, Protocol};
use proptest::prelude::*;

fn services() -> [bed::ServiceSpec; 2] {
    [
        spec("192.0.2.10", Protocol::Tcp, Mode::Nat, &["10.1.0.11:8080", "10.1.0.12:8080"]),
        spec("192.0.2.20", Protocol::Udp, Mode::Dsr, &["10.1.0.11", "10.1.0.12"]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every packet of every connection arrives at a random worker, as with a port that spreads at will.
    #[test]
    fn connections_hold_wherever_their_packets_arrive(workers in 2usize..6, arrivals in proptest::collection::vec(0usize..6, 400)) {
        let mut bed = Bed::new(workers, 1000, two_arm(&services()));
        bed.know_all();
        let mut arrival = arrivals.iter().cycle().map(|a| a % workers);
        let mut backends = Vec::new();
        for client in 0..40u16 {
            let from = format!("198.51.100.{}:{}", client % 5 + 1, 1000 + client);
            let mut to = None;
            for flags in [SYN, SYN | ACK, ACK, ACK, ACK] {
                let reply = flags == SYN | ACK;
                let worker = arrival.next().unwrap();
                if reply {
                    let backend: std::net::SocketAddr = to.unwrap();
                    bed.wires[worker][usize::from(LAN)].send(&tcp(&backend.to_string(), &from, flags).frame(LAN, b""));
                    bed.turn();
                    let out = parse(&bed.receive(WAN).expect("reply"));
                    prop_assert_eq!(out.from.to_string(), "192.0.2.10:80");
                    prop_assert_eq!(out.to.to_string(), from.clone());
                } else {
                    bed.wires[worker][usize::from(WAN)].send(&tcp(&from, "192.0.2.10:80", flags).frame(WAN, b""));
                    bed.turn();
                    let out = parse(&bed.receive(LAN).expect("request"));
                    prop_assert!(to.is_none_or(|to| to == out.to), "moved from {:?} to {}", to, out.to);
                    to = Some(out.to);
                }
            }
            backends.push(to);
            let worker = arrival.next().unwrap();
            bed.wires[worker][usize::from(WAN)].send(&udp(&from, "192.0.2.20:80").frame(WAN, b""));
            bed.turn();
            prop_assert!(bed.receive(LAN).is_some());
        }
        prop_assert_eq!(bed.drops(), vec![]);
        let connections: usize = bed.workers.iter().map(|worker| worker.pipeline().connections()).sum();
        prop_assert_eq!(connections, 80, "one entry a connection, whoever received its packets");
        prop_assert_eq!(bed.total(|c| c.handoffs.get()), bed.total(|c| c.handoffs_in.get()));
        prop_assert!(bed.total(|c| c.handoffs.get()) > 0);
        bed.check_conservation();
    }
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
