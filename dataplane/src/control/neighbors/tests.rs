use super::*;
use proptest::prelude::*;

fn hop(n: u16) -> NextHop {
    NextHop { port: 0, address: [10, 0, (n >> 8) as u8, n as u8].into() }
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// Runs the clock to `until`, one due time after the other.
fn run(neighbors: &mut Neighbors, until: Millis) -> Vec<(Millis, Action)> {
    let mut log = Vec::new();
    while let Some(due) = neighbors.next_due().filter(|due| *due <= until) {
        let mut actions = Vec::new();
        neighbors.tick(due, &mut actions);
        log.extend(actions.into_iter().map(|action| (due, action)));
    }
    log
}

fn state(neighbors: &Neighbors, hop: NextHop) -> Option<NeighborState> {
    neighbors.rows(0).iter().find(|row| row.hop == hop).map(|row| row.state)
}

#[test]
fn three_questions_then_it_failed_and_is_forgotten() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    neighbors.wanted(1000, hop(1), &mut actions);
    neighbors.wanted(1001, hop(1), &mut actions);
    let ask = Action::Ask { hop: hop(1), to: None };
    assert_eq!(actions, [ask]);
    let log = run(&mut neighbors, 5_000);
    let tell = Action::Tell { hop: hop(1), mac: None };
    assert_eq!(log, [(1200, ask), (2200, ask), (3200, tell)]);
    assert_eq!(state(&neighbors, hop(1)), Some(NeighborState::Failed));
    run(&mut neighbors, 60_000);
    assert!(neighbors.is_empty());
}

#[test]
fn a_failed_one_is_asked_again_when_wanted_but_not_at_once() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    neighbors.wanted(0, hop(1), &mut actions);
    run(&mut neighbors, 2200);
    actions.clear();
    for now in 2201..2300 {
        neighbors.wanted(now, hop(1), &mut actions);
    }
    assert_eq!(actions, []);
    assert_eq!(run(&mut neighbors, 3300), [(3200, Action::Ask { hop: hop(1), to: None })]);
}

#[test]
fn an_answer_makes_it_usable_and_use_keeps_it_fresh() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    neighbors.wanted(0, hop(1), &mut actions);
    neighbors.seen(50, hop(1), mac(1), true, &mut actions);
    assert_eq!(actions[1..], [Action::Tell { hop: hop(1), mac: Some(mac(1)) }]);
    neighbors.used(29_000, hop(1), &mut actions);
    assert_eq!(run(&mut neighbors, 30_060), [(30_050, Action::Ask { hop: hop(1), to: Some(mac(1)) })]);
    actions.clear();
    neighbors.seen(30_100, hop(1), mac(1), true, &mut actions);
    assert_eq!((actions.as_slice(), state(&neighbors, hop(1))), (&[][..], Some(NeighborState::Reachable)));
    // Unused it is left alone, then forgotten, and workers are told.
    let log = run(&mut neighbors, 1_000_000);
    assert_eq!(log, [(329_000, Action::Tell { hop: hop(1), mac: None })]);
    assert!(neighbors.is_empty());
}

#[test]
fn one_that_stops_answering_is_looked_for_elsewhere_before_it_is_given_up() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    neighbors.pin(0, HashSet::from([hop(1)]), &mut actions);
    neighbors.seen(10, hop(1), mac(1), true, &mut actions);
    let log = run(&mut neighbors, 38_000);
    let alone = Action::Ask { hop: hop(1), to: Some(mac(1)) };
    let all = Action::Ask { hop: hop(1), to: None };
    assert_eq!(
        log,
        [
            (30_010, alone),
            (30_210, alone),
            (31_210, alone),
            (32_210, all),
            (32_410, all),
            (33_410, all),
            (34_410, Action::Lost { hop: hop(1) }),
            (34_410, Action::Tell { hop: hop(1), mac: None }),
        ]
    );
    // The configuration needs it: it is asked again without being wanted, and not lamented again.
    let log = run(&mut neighbors, 60_000);
    assert!(log.iter().any(|(_, action)| *action == all));
    assert!(!log.iter().any(|(_, action)| matches!(action, Action::Lost { .. })));
    actions.clear();
    neighbors.seen(60_000, hop(1), mac(2), true, &mut actions);
    assert_eq!(actions, [Action::Tell { hop: hop(1), mac: Some(mac(2)) }]);
}

#[test]
fn a_new_address_goes_to_the_workers_at_once() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    neighbors.seen(0, hop(1), mac(1), false, &mut actions);
    neighbors.seen(0, hop(1), mac(1), false, &mut actions);
    assert_eq!(actions, [Action::Tell { hop: hop(1), mac: Some(mac(1)) }]);
    actions.clear();
    neighbors.seen(9, hop(1), mac(2), false, &mut actions);
    let moved = Action::Moved { hop: hop(1), from: mac(1), to: mac(2) };
    assert_eq!(actions, [moved, Action::Tell { hop: hop(1), mac: Some(mac(2)) }]);
    assert_eq!(state(&neighbors, hop(1)), Some(NeighborState::Stale));
    // An answer that nobody asked for makes no entry.
    neighbors.seen(9, hop(2), mac(2), true, &mut actions);
    assert_eq!(state(&neighbors, hop(2)), None);
}

#[test]
fn made_up_neighbours_do_not_push_out_real_ones() {
    let (mut neighbors, mut actions) = (Neighbors::default(), Vec::new());
    for n in 0..u16::MAX {
        neighbors.wanted(0, hop(n), &mut actions);
    }
    assert_eq!(neighbors.len(), UNANSWERED);
    assert_eq!(neighbors.refused, u64::from(u16::MAX) - UNANSWERED as u64);
    neighbors.seen(1, hop(u16::MAX), mac(1), false, &mut actions);
    assert_eq!(state(&neighbors, hop(u16::MAX)), Some(NeighborState::Stale));
    for n in 0..u16::MAX {
        neighbors.seen(1, hop(n), mac(1), false, &mut actions);
    }
    assert_eq!(neighbors.len(), CAPACITY);
}

#[derive(Debug, Clone)]
enum Step {
    Wanted(u16),
    Used(u16),
    Seen(u16, u8, bool),
    Pin(Vec<u16>),
    Wait(Millis),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..6u16;
    prop_oneof![
        n.clone().prop_map(Step::Wanted),
        n.clone().prop_map(Step::Used),
        (n.clone(), 0..3u8, any::<bool>()).prop_map(|(n, m, solicited)| Step::Seen(n, m, solicited)),
        proptest::collection::vec(n, 0..3).prop_map(Step::Pin),
        (0..40_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: workers know exactly what the listing says, questions to one neighbour are bounded, the
    /// books balance, and what is neither used nor configured is forgotten.
    #[test]
    fn the_machine_keeps_its_promises(steps in proptest::collection::vec(step(), 1..60)) {
        let mut neighbors = Neighbors::default();
        let mut now = 0;
        let mut told: HashMap<NextHop, Option<Mac>> = HashMap::new();
        let mut asked: HashMap<NextHop, Vec<Millis>> = HashMap::new();
        let mut log = Vec::new();
        for step in steps.into_iter().chain([Step::Pin(Vec::new()), Step::Wait(700_000)]) {
            let mut actions = Vec::new();
            match step {
                Step::Wanted(n) => neighbors.wanted(now, hop(n), &mut actions),
                Step::Used(n) => neighbors.used(now, hop(n), &mut actions),
                Step::Seen(n, m, solicited) => neighbors.seen(now, hop(n), mac(m), solicited, &mut actions),
                Step::Pin(list) => neighbors.pin(now, list.into_iter().map(hop).collect(), &mut actions),
                Step::Wait(time) => {
                    log.extend(run(&mut neighbors, now + time));
                    now += time;
                }
            }
            log.extend(actions.into_iter().map(|action| (now, action)));
            for (at, action) in log.drain(..) {
                match action {
                    Action::Tell { hop, mac } => { told.insert(hop, mac); }
                    Action::Ask { hop, .. } => asked.entry(hop).or_default().push(at),
                    Action::Moved { .. } | Action::Lost { .. } => {}
                }
            }
            for row in neighbors.rows(now) {
                if matches!(row.state, NeighborState::Reachable | NeighborState::Stale) {
                    prop_assert_eq!(told.get(&row.hop), Some(&row.mac));
                }
            }
            let unanswered = neighbors.table.values().filter(|entry| !usable(entry.phase)).count();
            prop_assert_eq!(neighbors.unanswered, unanswered);
            prop_assert_eq!(neighbors.timers.len(), neighbors.table.len());
        }
        prop_assert!(neighbors.is_empty());
        for (hop, mac) in told {
            prop_assert_eq!(mac, None, "{:?} was forgotten, and workers use it", hop);
        }
        for times in asked.values() {
            // What wakes a stale one asks at once; for the rest, the waits keep three questions a second apart.
            let burst = times.windows(20).any(|window| window[19] - window[0] < 200);
            prop_assert!(!burst, "{:?}", times);
        }
    }
}
