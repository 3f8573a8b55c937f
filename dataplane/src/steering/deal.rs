//! Which worker works which queue, when there are as many queues as workers, or fewer, or more.
//!
//! Queues are dealt like cards, and each port goes on where the one before ended: with one queue a port, two ports keep two
//! workers receiving. A worker without a queue of a port gets its packets from the others, and sends by way of one that can.

/// The workers of one port's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// By RX queue: who receives from it.
    pub receivers: Vec<u8>,
    /// By TX queue: who sends through it.
    pub senders: Vec<u8>,
    /// By worker: who sends its packets, itself if it has a TX queue.
    pub sends_for: Vec<u8>,
}

impl Dealt {
    /// The RX queues of `worker`.
    pub fn receives_from(&self, worker: u8) -> impl Iterator<Item = u16> {
        (0u16..)
            .zip(&self.receivers)
            .filter(move |(_, receiver)| **receiver == worker)
            .map(|(queue, _)| queue)
    }

    /// The TX queue of `worker`, if it has one.
    pub fn sends_through(&self, worker: u8) -> Option<u16> {
        (0u16..).zip(&self.senders).find(|(_, sender)| **sender == worker).map(|(queue, _)| queue)
    }
}

/// Deals the RX and TX queues of each port to `workers`; a worker gets no second TX queue of a port.
pub fn deal(workers: u8, ports: &[(u16, u16)]) -> Vec<Dealt> {
    let workers = usize::from(workers.max(1));
    let (mut next_rx, mut next_tx) = (0, 0);
    let round = |next: &mut usize, count: usize| -> Vec<u8> {
        let hands = (0..count).map(|queue| ((*next + queue) % workers) as u8).collect();
        *next = (*next + count) % workers;
        hands
    };
    ports
        .iter()
        .map(|&(rx, tx)| {
            let receivers = round(&mut next_rx, usize::from(rx));
            let senders = round(&mut next_tx, usize::from(tx).clamp(1, workers));
            let sends_for = (0..workers)
                .map(|worker| {
                    let own = senders.iter().copied().find(|&sender| usize::from(sender) == worker);
                    own.unwrap_or(senders[worker % senders.len()])
                })
                .collect();
            Dealt { receivers, senders, sends_for }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_queue_each_is_the_usual_case() {
        for dealt in deal(2, &[(2, 2), (2, 2)]) {
            assert_eq!(dealt, Dealt { receivers: vec![0, 1], senders: vec![0, 1], sends_for: vec![0, 1] });
        }
    }

    #[test]
    fn two_ports_with_one_queue_keep_two_workers_busy() {
        let dealt = deal(2, &[(1, 1), (1, 1)]);
        assert_eq!(dealt[0], Dealt { receivers: vec![0], senders: vec![0], sends_for: vec![0, 0] });
        assert_eq!(dealt[1], Dealt { receivers: vec![1], senders: vec![1], sends_for: vec![1, 1] });
        assert_eq!((dealt[1].receives_from(1).collect(), dealt[1].sends_through(0)), (vec![0], None));
    }

    proptest! {
        #[test]
        fn every_queue_has_a_worker_and_every_worker_a_way_out(
            workers in 1u8..=64,
            ports in proptest::collection::vec((1u16..70, 1u16..70), 1..5),
        ) {
            let dealt = deal(workers, &ports);
            let mut loads = vec![0; usize::from(workers)];
            for (dealt, (rx, tx)) in dealt.iter().zip(&ports) {
                prop_assert_eq!(dealt.receivers.len(), usize::from(*rx));
                prop_assert_eq!(dealt.senders.len(), usize::from((*tx).min(workers.into())));
                for &receiver in &dealt.receivers {
                    loads[usize::from(receiver)] += 1;
                }
                for worker in 0..workers {
                    let sender = dealt.sends_for[usize::from(worker)];
                    prop_assert!(dealt.sends_through(sender).is_some());
                    prop_assert_eq!(sender == worker, dealt.sends_through(worker).is_some());
                }
            }
            let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
            prop_assert!(most - least <= 1, "{:?}", loads);
        }
    }
}
