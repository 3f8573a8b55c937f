//! Buffers come home exactly once, and threads run where they should.

use crate::bench::{frame, isolated, open, packet, pool, receive, start, transmit};
use dataplane::io::dpdk::{Mempool, MempoolConfig, PortConfig, WorkerThread, free_burst, open_ports};
use dataplane::io::{BURST, Burst, Queue};
use dataplane::packet::{Packet, VecPacket};

#[test]
fn what_a_full_ring_does_not_take_is_freed_once() {
    isolated("resources::what_a_full_ring_does_not_take_is_freed_once", || {
        let eal = start(false);
        let pool = pool(&eal);
        let (_port, mut queue) = open(&eal, &pool, "net_ring0");
        let packets: Vec<_> = (0..1500).map(|number| packet(&mut queue, &frame(number as u8, 60))).collect();
        assert_eq!(pool.in_use(), 1500);
        let taken = transmit(&mut queue, packets);
        assert!(taken < 1500 && taken % BURST != 0, "the ring was full in the middle of a burst: {taken}");
        assert_eq!(pool.in_use() as usize, taken, "the rest is free again");

        let back = receive(&mut queue, taken);
        let bytes: Vec<u8> = back.iter().map(|packet| packet.data()[59]).collect();
        assert_eq!(
            bytes,
            (0..taken).map(|number| number as u8).collect::<Vec<_>>(),
            "in order, the first ones"
        );
        drop(back);
        assert_eq!(pool.in_use(), 0);
        // A buffer freed twice would be handed out twice.
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        let mut places: Vec<_> = all.iter().map(|packet| packet.data().as_ptr()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), pool.capacity() as usize);
    });
}

#[test]
fn an_mbuf_behaves_as_the_test_packet_does() {
    isolated("resources::an_mbuf_behaves_as_the_test_packet_does", || {
        let eal = start(false);
        let pool = pool(&eal);
        let mut mbuf = pool.allocate().expect("a buffer");
        assert_eq!((mbuf.frame_len(), mbuf.segments()), (0, 1));
        let mut model = VecPacket::new(&[5; 100]);
        assert!(mbuf.set_len(100));
        mbuf.data_mut().fill(5);

        let prepended = [mbuf.prepend(20).map(|data| data.len()), model.prepend(20).map(|data| data.len())];
        assert_eq!(prepended, [Some(120); 2]);
        for data in [mbuf.data_mut(), model.data_mut()] {
            data[..20].fill(9);
        }
        assert_eq!((mbuf.data(), mbuf.frame_len()), (model.data(), model.frame_len()));
        for bytes in [0, 14, 107, 106, 1] {
            assert_eq!(mbuf.trim_front(bytes), model.trim_front(bytes), "trim {bytes}");
            assert_eq!((mbuf.data(), mbuf.frame_len()), (model.data(), model.frame_len()));
        }
        // 228 bytes are in front now: the headroom, and what was trimmed. All of them can be used, and no byte more.
        assert!(mbuf.prepend(100_000).is_none() && mbuf.prepend(229).is_none());
        assert!(!mbuf.set_len(1949) && mbuf.set_len(1948));
        assert!(mbuf.prepend(228).is_some() && mbuf.prepend(1).is_none());
        assert_eq!(mbuf.frame_len(), 128 + 2048);
    });
}

#[test]
fn an_empty_pool_says_so() {
    isolated("resources::an_empty_pool_says_so", || {
        let eal = start(false);
        let pool =
            Mempool::new(&eal, &MempoolConfig { mbufs: 63, ..MempoolConfig::default() }).expect("a pool");
        let mut burst = Burst::new();
        assert!(pool.allocate_burst(&mut burst) && burst.is_full());
        let mut second = Burst::new();
        assert!(!pool.allocate_burst(&mut second) && second.is_empty(), "all or nothing");
        let rest: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(rest.len(), 31);
        free_burst(&mut burst);
        assert_eq!((burst.len(), pool.in_use()), (0, 31));
        assert!(Mempool::new(&eal, &MempoolConfig { mbufs: 1 << 24, ..MempoolConfig::default() }).is_err());
    });
}

#[test]
fn workers_are_pinned_and_move_packets_between_threads() {
    isolated("resources::workers_are_pinned_and_move_packets_between_threads", || {
        let eal = start(false);
        let config = PortConfig { device: "net_null0".into(), queues: 2, ..PortConfig::default() };
        let mut ports = open_ports(&eal, &[config], 2, 0).unwrap_or_else(|error| panic!("{error}"));
        let pool = ports[0].pool().clone();
        let before = pool.in_use();
        let (sender, receiver) = std::sync::mpsc::sync_channel(64);
        let mut queues = ports[0].take_queues(2).into_iter();

        let mut first = queues.next().expect("queue 0");
        let from = WorkerThread::spawn(&eal, 0, "first", move || {
            for _ in 0..1000 {
                let mut burst = Burst::new();
                first.receive(&mut burst);
                sender.send(burst).expect("the other worker runs");
            }
            // SAFETY: takes no argument.
            unsafe { libc::sched_getcpu() }
        });
        let mut second = queues.next().expect("queue 1");
        let to = WorkerThread::spawn(&eal, 1, "second", move || {
            let sent: usize = receiver.iter().map(|mut burst| second.transmit(&mut burst)).sum();
            // SAFETY: takes no argument.
            (sent, unsafe { libc::sched_getcpu() })
        });
        let cpu = from.expect("CPU 0").join().expect("no panic");
        let (sent, other) = to.expect("CPU 1").join().expect("no panic");
        assert_eq!((cpu, other, sent), (0, 1, 32_000));
        drop(ports);
        assert_eq!(pool.in_use(), before);
    });
}
