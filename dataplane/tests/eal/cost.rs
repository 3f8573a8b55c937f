//! What the wrapper costs beside the same loop in C.

use crate::bench::{isolated_with, open, pool, start};
use dataplane::io::{Burst, Queue};
use std::hint::black_box;
use std::time::Instant;

/// Bursts of one measurement: half a millisecond, shorter than a time slice.
const ROUNDS: u64 = 2_000;

/// Nanoseconds per packet of a loop that returns how many it received.
fn measure(run: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    let packets = run();
    start.elapsed().as_nanos() as f64 / packets as f64
}

/// Rounds are interleaved and the fastest of each counts: other load on the machine only adds time.
#[test]
#[ignore = "a measurement, to be run alone: cargo test --release --test eal -- --ignored --nocapture cost"]
fn receive_and_transmit_on_a_null_port() {
    isolated_with("cost::receive_and_transmit_on_a_null_port", &["--ignored"], || {
        let eal = start(true);
        let pool = pool(&eal);
        let (_port, mut queue) = open(&eal, &pool, "net_null0");
        let worker = dataplane::io::dpdk::WorkerThread::spawn(&eal, 1, "cost", move || {
            let mut best = [f64::MAX; 2];
            for _ in 0..4_000 {
                best[0] = best[0].min(measure(|| queue.reference_loop(ROUNDS)));
                best[1] = best[1].min(measure(|| {
                    let mut packets = 0;
                    let mut burst = Burst::new();
                    for _ in 0..ROUNDS {
                        queue.receive(&mut burst);
                        packets += burst.len() as u64;
                        black_box(queue.transmit(&mut burst));
                    }
                    packets
                }));
            }
            best
        });
        let [c, rust] = worker.expect("CPU 1").join().expect("no panic");
        println!("receive + transmit, bursts of 32, per packet: C {c:.2} ns, queue pair {rust:.2} ns");
        assert!(
            rust < c * 1.25,
            "the wrapper is free but for a call per burst: C {c:.2} ns, here {rust:.2} ns"
        );
    });
}
