//! What the wrapper of a queue costs beside the same loop in C: `cargo bench -p dataplane --bench queue`, as root, with
//! hugepages reserved (256 MiB) and nothing else running.

use dataplane::io::dpdk::{Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig, WorkerThread};
use dataplane::io::{Burst, Queue};
use std::hint::black_box;
use std::time::Instant;

/// Bursts of one measurement: half a millisecond, shorter than a time slice.
const ROUNDS: u64 = 2_000;
const MEASUREMENTS: usize = 4_000;

/// Nanoseconds per packet of a loop that returns how many it received.
fn measure(run: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    let packets = run();
    start.elapsed().as_nanos() as f64 / packets as f64
}

/// Rounds are interleaved and the fastest of each counts: other load on the machine only adds time.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let eal = Eal::init(&EalConfig::default())?;
    let pool = Mempool::new(&eal, &MempoolConfig { mbufs: 8191, ..MempoolConfig::default() })?;
    let config = PortConfig { device: "net_null0".into(), ..PortConfig::default() };
    let mut port = Port::open(&eal, &config, &pool)?;
    let mut queue = port.take_queues(1).pop().ok_or("the port has no queue")?;
    let worker = WorkerThread::spawn(&eal, 1, "cost", move || {
        let mut best = [f64::MAX; 2];
        for _ in 0..MEASUREMENTS {
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
    })?;
    let [c, rust] = worker.join().map_err(|_| "the worker panicked")?;
    println!(
        "receive and transmit, bursts of 32, a packet: C {c:.2} ns, here {rust:.2} ns, ratio {:.2}",
        rust / c
    );
    Ok(())
}
