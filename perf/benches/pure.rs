//! The pure parts of the packet path, each alone: cargo bench -p perf

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dataplane::conn::{Entry, State, Table};
use dataplane::flow::{FlowKey, Secret, V4Key, V6Key};
use dataplane::rewrite::{self, Rewrite};
use dataplane::scheduler::{self, Candidate, Cursor, MaglevParameters};
use dataplane::wire::checksum::{Delta, Sum};
use dataplane::wire::protocol;
use std::hint::black_box;
use std::net::IpAddr;

fn secret() -> Secret {
    Secret::new(std::array::from_fn(|i| (i * 73 + 11) as u8))
}

fn keys<K: FlowKey>(n: u32, client: impl Fn(u32) -> IpAddr, vip: IpAddr, backend: IpAddr) -> [K; 2] {
    let client = (client(n), 1024 + (n % 60_000) as u16);
    [K::new(protocol::UDP, client, (vip, 53)), K::new(protocol::UDP, (backend, 5353), client)]
}

fn v4(n: u32) -> [V4Key; 2] {
    let client = |n: u32| IpAddr::from((0x6440_0000 + n / 7).to_be_bytes());
    keys(n, client, [192, 0, 2, 1].into(), [10, 1, 0, 11].into())
}

fn v6(n: u32) -> [V6Key; 2] {
    let client = |n: u32| IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n / 7)).to_be_bytes());
    let host = |low: u128| IpAddr::from((0x2001_0db8_00ff_u128 << 80 | low).to_be_bytes());
    keys(n, client, host(1), host(11))
}

fn hashing(c: &mut Criterion) {
    let secret = secret();
    let (four, six) = (v4(7)[0], v6(7)[0]);
    c.bench_function("hash/v4", |b| b.iter(|| black_box(four).hash(black_box(&secret))));
    c.bench_function("hash/v6", |b| b.iter(|| black_box(six).hash(black_box(&secret))));
    c.bench_function("stable_hash/v4", |b| b.iter(|| black_box(four).stable_hash(black_box(1))));
}

fn checksums(c: &mut Criterion) {
    let bytes = [0xa5; 1480];
    c.bench_function("checksum/1480 bytes", |b| {
        b.iter(|| Sum::default().bytes(black_box(&bytes)).checksum());
    });
    let delta = Delta::replace(&[1, 2, 3, 4], &[5, 6, 7, 8]);
    c.bench_function("checksum/incremental update", |b| {
        let mut field = [0x12, 0x34];
        b.iter(|| black_box(delta).update(black_box(&mut field)));
    });
    c.bench_function("rewrite/deltas of a connection", |b| b.iter(|| rewrite::deltas(black_box(&v4(7)))));
}

/// A table of `n` connections, at the load that it is sized for.
fn table<K: Rewrite>(n: u32, keys: impl Fn(u32) -> [K; 2]) -> Table<K> {
    let mut table = Table::new(n as usize, secret(), false).expect("memory");
    for number in 0..n {
        let entry = Entry { keys: keys(number), state: State::UdpNew, ..Entry::default() };
        let hashes = table.prepare(table.hash(&entry.keys[0]), &entry.keys);
        table.insert(&entry, hashes, 0, 30_000).expect("room");
    }
    table
}

fn connections(c: &mut Criterion) {
    const N: u32 = 10_000;
    let mut at = 0;
    let mut next = move || {
        at = (at + 7919) % N;
        at
    };
    let four = table(N, v4);
    c.bench_function("table/find v4, 10,000 connections", |b| {
        b.iter_batched(|| v4(next())[0], |key| four.find(four.hash(&key), &key), BatchSize::SmallInput);
    });
    let six = table(N, v6);
    c.bench_function("table/find v6, 10,000 connections", |b| {
        b.iter_batched(|| v6(next())[0], |key| six.find(six.hash(&key), &key), BatchSize::SmallInput);
    });
    c.bench_function("table/insert and remove v4", |b| {
        let mut table = table(N, v4);
        let mut extra = N;
        table.remove(0);
        b.iter(|| {
            extra = extra.wrapping_add(1) | 1 << 20;
            let entry = Entry { keys: v4(extra), state: State::UdpNew, ..Entry::default() };
            let hashes = table.prepare(table.hash(&entry.keys[0]), &entry.keys);
            let id = table.insert(&entry, hashes, 0, 30_000).expect("room");
            table.remove(id)
        });
    });
}

fn schedulers(c: &mut Criterion) {
    let candidates: Vec<Candidate> = (0..100u8)
        .map(|n| Candidate { slot: n.into(), address: [10, 1, 0, n].into(), port: 80, weight: 100 })
        .collect();
    for kind in [ctl::config::Scheduler::Maglev, ctl::config::Scheduler::RoundRobin] {
        let scheduler = scheduler::build(kind, &candidates, MaglevParameters::default());
        let (mut cursor, mut hash) = (Cursor::default(), 1u64);
        c.bench_function(&format!("pick/{kind}, 100 backends"), |b| {
            b.iter(|| {
                hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
                scheduler.pick(hash, &mut cursor)
            });
        });
    }
    c.bench_function("maglev/build, 100 backends", |b| {
        b.iter(|| {
            scheduler::build(
                ctl::config::Scheduler::Maglev,
                black_box(&candidates),
                MaglevParameters::default(),
            )
        });
    });
}

criterion_group!(benches, hashing, checksums, connections, schedulers);
criterion_main!(benches);
