use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;

fn candidates(weights: &[u16]) -> Vec<Candidate> {
    let backend = |(i, &weight): (usize, &u16)| Candidate {
        slot: i as u32,
        address: [10, 1, (i >> 8) as u8, i as u8].into(),
        port: 80,
        weight,
    };
    weights.iter().enumerate().map(backend).collect()
}

/// Workers that make connections, and a control thread that looks on.
struct World {
    scheduler: LeastConnections,
    loads: RefCell<Vec<Load>>,
    cursors: Vec<Cursor>,
}

impl World {
    fn new(weights: &[u16], workers: u8) -> Self {
        Self {
            scheduler: LeastConnections::new(&candidates(weights)),
            loads: RefCell::new(vec![Load::default(); weights.len()]),
            cursors: (0..workers).map(|worker| Cursor::new(worker, workers)).collect(),
        }
    }

    fn look(&self) {
        let loads = self.loads.borrow();
        self.scheduler.observe(self.cursors.len() as u8, &|slot| loads[slot as usize]);
    }

    fn begin(&mut self, worker: usize) -> usize {
        let slot = self.scheduler.pick(0, &mut self.cursors[worker]).unwrap() as usize;
        let load = &mut self.loads.borrow_mut()[slot];
        load.active += 1;
        load.total += 1;
        slot
    }

    fn end(&self, slot: usize) {
        self.loads.borrow_mut()[slot].active -= 1;
    }

    fn active(&self) -> Vec<u64> {
        self.loads.borrow().iter().map(|load| load.active).collect()
    }

    fn totals(&self) -> Vec<u64> {
        self.loads.borrow().iter().map(|load| load.total).collect()
    }
}

#[test]
fn the_least_is_filled_up_first() {
    for workers in [1, 2, 3] {
        let mut world = World::new(&[100; 4], workers);
        for (slot, active) in [(0, 12), (1, 7), (2, 0), (3, 3)] {
            world.loads.borrow_mut()[slot].active = active;
        }
        for n in 0..26 {
            world.look();
            let least = world.active().into_iter().min();
            let slot = world.begin(n % usize::from(workers));
            assert_eq!(Some(world.active()[slot] - 1), least);
        }
        assert_eq!(world.active(), [12; 4]);
    }
}

#[test]
fn many_at_once_do_not_all_go_to_the_same() {
    let mut world = World::new(&[100; 10], 3);
    for load in &mut world.loads.borrow_mut()[1..] {
        load.active = 1000;
    }
    // More connections in one look than the least has to catch up, and far more than were planned for.
    for _ in 0..20 {
        world.look();
        for n in 0..3000 {
            world.begin(n % 3);
        }
    }
    let active = world.active();
    let (least, most) = (active.iter().min().unwrap(), active.iter().max().unwrap());
    assert!(most - least <= 3, "{active:?}");
}

#[test]
fn idle_backends_take_turns_by_weight() {
    // Connections that nobody ever sees, because they are over at once.
    let mut world = World::new(&[1, 2, 5], 1);
    for _ in 0..800 {
        world.look();
        let slot = world.begin(0);
        world.end(slot);
    }
    for (total, exact) in world.totals().into_iter().zip([100u64, 200, 500]) {
        assert!(total.abs_diff(exact) <= 2, "{:?}", world.totals());
    }
}

#[test]
fn a_backend_that_is_slow_gets_less() {
    let mut world = World::new(&[100, 100], 1);
    let mut running = VecDeque::new();
    for now in 0..8000 {
        while running.front().is_some_and(|&(end, _)| end <= now) {
            let (_, slot) = running.pop_front().unwrap();
            world.end(slot);
        }
        if now % 4 == 0 {
            world.look();
        }
        let slot = world.begin(0);
        running.push_back((now + if slot == 0 { 400 } else { 100 }, slot));
        running.make_contiguous().sort_unstable();
    }
    let totals = world.totals();
    let ratio = totals[1] as f64 / totals[0] as f64;
    assert!((3.7..4.3).contains(&ratio), "{totals:?}");
}

#[test]
fn what_was_long_ago_does_not_count() {
    let mut world = World::new(&[100, 100], 1);
    world.loads.borrow_mut()[0].active = 100_000;
    for _ in 0..1000 {
        world.look();
        let slot = world.begin(0);
        assert_eq!(slot, 1);
        world.end(slot);
    }
    world.loads.borrow_mut()[0].active = 0;
    let before = world.totals();
    for _ in 0..400 {
        world.look();
        let slot = world.begin(0);
        world.end(slot);
    }
    let after = world.totals();
    assert!(after[1] - before[1] > 100, "{before:?} {after:?}");
}

#[test]
fn plans_of_thousands() {
    let mut world = World::new(&vec![100; 16_384], 2);
    for n in 0..16_384 * 3 {
        if n % 4096 == 0 {
            world.look();
        }
        world.begin(n % 2);
    }
    let active = world.active();
    let (least, most) = (active.iter().min().unwrap(), active.iter().max().unwrap());
    assert!(most - least <= 2, "{least} {most}");
}

#[test]
fn nobody_to_pick() {
    for list in [candidates(&[]), candidates(&[0, 0])] {
        let scheduler = LeastConnections::new(&list);
        scheduler.observe(1, &|_| Load::default());
        assert_eq!(scheduler.pick(0, &mut Cursor::new(0, 1)), None);
    }
}

#[test]
fn before_the_first_look_weights_hold() {
    let mut world = World::new(&[1, 3], 1);
    for _ in 0..400 {
        world.begin(0);
    }
    assert_eq!(world.active(), [100, 300]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever began and ended before: from then on the backends come as near to their parts as whole numbers allow.
    #[test]
    fn converges_on_the_parts(
        weights in proptest::collection::vec(1u16..=10, 1..12),
        active in proptest::collection::vec(0u64..40, 12),
        workers in 1u8..4,
    ) {
        let mut world = World::new(&weights, workers);
        for (load, &active) in world.loads.borrow_mut().iter_mut().zip(&active) {
            load.active = active;
        }
        let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        // Enough for everyone to reach the fullest.
        let wanted = 41 * all;
        let sum: u64 = world.active().iter().sum();
        for n in 0..(wanted - sum) as usize {
            if n % 29 == 0 {
                world.look();
            }
            world.begin(n % usize::from(workers));
        }
        for (active, &weight) in world.active().into_iter().zip(&weights) {
            prop_assert!(active.abs_diff(41 * u64::from(weight)) <= 4, "{:?} of {:?}", world.active(), weights);
        }
    }

    /// Backends that are all alike differ by their weights alone, however short connections are and how often anybody looks.
    #[test]
    fn weights_hold(
        weights in proptest::collection::vec(1u16..=100, 2..10),
        length in 0usize..200, looks in 5usize..300, workers in 1u8..4,
    ) {
        const FLOWS: usize = 10_000;
        let mut world = World::new(&weights, workers);
        let mut running = VecDeque::new();
        for n in 0..FLOWS {
            if n % looks == 0 {
                world.look();
            }
            let slot = world.begin(n % usize::from(workers));
            running.push_back(slot);
            if running.len() > length {
                world.end(running.pop_front().unwrap());
            }
        }
        let all: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        for (total, &weight) in world.totals().into_iter().zip(&weights) {
            let exact = FLOWS as f64 * f64::from(weight) / all;
            prop_assert!(
                (total as f64 - exact).abs() <= FLOWS as f64 / 100.0,
                "{total} for {exact}: {:?} of {:?}", world.totals(), weights
            );
        }
    }
}
