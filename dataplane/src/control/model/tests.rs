use super::*;
use crate::control::health::{Standing, Verdict};
use ctl::config::Config;

/// A service with `more` keys and so many backends in each tier.
fn model(more: &str, tiers: &[usize]) -> Model {
    with(&Model::default(), more, tiers)
}

fn with(before: &Model, more: &str, tiers: &[usize]) -> Model {
    let mut text = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.1.0.1/24\"]\n[[service]]\nname = \"web\"\n\
         vip = \"192.0.2.10\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n{more}\n"
    );
    for (tier, count) in tiers.iter().enumerate() {
        for number in 1..=*count {
            let backend =
                format!("[[service.backend]]\naddress = \"10.1.{tier}.{number}:80\"\ntier = {tier}\n");
            text.push_str(&backend);
        }
    }
    before.with(&Config::parse(&text, "test").unwrap().services, 1).unwrap()
}

fn health(threshold: u8) -> String {
    format!("[service.health]\ntype = \"tcp\"\npanic_threshold = {threshold}")
}

/// The first `up` of `tier` are up, the others down.
fn set(model: &mut Model, tier: u8, up: usize) {
    let backends = model.services[0].backends.iter_mut().filter(|backend| backend.config.tier == tier);
    for (number, backend) in backends.enumerate() {
        let verdict = if number < up { Verdict::Up } else { Verdict::Down };
        backend.health.as_mut().unwrap().standing = Standing::new(verdict);
    }
}

fn used(model: &Model) -> usize {
    model.services[0].eligible().len()
}

#[test]
fn those_that_are_down_are_not_used() {
    let mut model = model(&health(0), &[4, 2]);
    for up in (1..=4).rev() {
        set(&mut model, 0, up);
        assert_eq!((model.services[0].choice(), used(&model)), (Choice::Healthy { tier: 0 }, up));
    }
    set(&mut model, 0, 0);
    assert_eq!((model.services[0].choice(), used(&model)), (Choice::Healthy { tier: 1 }, 2));
    set(&mut model, 1, 0);
    assert_eq!((model.services[0].choice(), used(&model)), (Choice::Nobody, 0));
    // And back, one tier after the other.
    set(&mut model, 1, 1);
    assert_eq!((model.services[0].choice(), used(&model)), (Choice::Healthy { tier: 1 }, 1));
    set(&mut model, 0, 1);
    assert_eq!((model.services[0].choice(), used(&model)), (Choice::Healthy { tier: 0 }, 1));
}

#[test]
fn too_few_are_no_use() {
    let mut one = model(&health(1), &[4]);
    set(&mut one, 0, 1);
    assert_eq!((one.services[0].choice(), used(&one)), (Choice::Healthy { tier: 0 }, 1));
    set(&mut one, 0, 0);
    assert_eq!((one.services[0].choice(), used(&one)), (Choice::Panic { tier: 0 }, 4));

    let mut half = model(&health(50), &[4, 2]);
    set(&mut half, 0, 2);
    assert_eq!((half.services[0].choice(), used(&half)), (Choice::Healthy { tier: 0 }, 2));
    // A tier that stands by is better than one where backends are down.
    set(&mut half, 0, 1);
    assert_eq!((half.services[0].choice(), used(&half)), (Choice::Healthy { tier: 1 }, 2));
    set(&mut half, 1, 0);
    assert_eq!((half.services[0].choice(), used(&half)), (Choice::Panic { tier: 0 }, 4));
    // Those that an operator took out are not asked.
    for backend in &mut half.services[0].backends[1..4] {
        backend.admin = Admin::Disabled;
    }
    assert_eq!((half.services[0].choice(), used(&half)), (Choice::Healthy { tier: 0 }, 1));
}

#[test]
fn who_is_new_waits_for_a_check_unless_all_are() {
    let verdicts = |model: &Model| -> Vec<Verdict> {
        let health = model.services[0].backends.iter().filter_map(|backend| backend.health.as_ref());
        health.map(|health| health.standing.verdict).collect()
    };
    let mut first = model(&health(0), &[2]);
    assert_eq!((verdicts(&first), used(&first)), (vec![Verdict::Assumed; 2], 2));
    set(&mut first, 0, 1);
    let more = with(&first, &health(0), &[3]);
    assert_eq!(verdicts(&more), [Verdict::Up, Verdict::Down, Verdict::Untested]);
    assert_eq!(used(&more), 1);
    // Another check: the verdicts hold until it says otherwise.
    let other = with(&more, "[service.health]\ntype = \"icmp\"", &[3]);
    assert_eq!(verdicts(&other), verdicts(&more));
    // Those that served unchecked go on until a check says otherwise; who comes with the check does not.
    let unchecked = model("", &[2]);
    assert_eq!((verdicts(&unchecked), used(&unchecked)), (vec![], 2));
    let checked = with(&unchecked, &health(0), &[3]);
    assert_eq!(verdicts(&checked), [Verdict::Assumed, Verdict::Assumed, Verdict::Untested]);
}

#[test]
fn who_comes_back_begins_with_little() {
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let mut model = model(&format!("slow_start = \"40s\"\n{}", health(1)), &[3]);
    let weights = |model: &mut Model, now: Instant| -> Vec<u16> {
        model.ramp(now);
        let candidates = model.services[0].eligible();
        model.services[0].candidates.clone_from(&candidates);
        candidates.iter().map(|candidate| candidate.weight).collect()
    };
    assert_eq!(weights(&mut model, at(0)), [100, 100, 100], "all are new");
    set(&mut model, 0, 2);
    assert_eq!(weights(&mut model, at(1)), [100, 100]);
    set(&mut model, 0, 3);
    assert_eq!(weights(&mut model, at(10)), [100, 100, 5]);
    assert!(!model.has_to_ramp(at(13)) && model.has_to_ramp(at(14)));
    assert_eq!(weights(&mut model, at(30)), [100, 100, 50]);
    assert_eq!(model.services[0].backends[2].share(), 50);
    assert_eq!(weights(&mut model, at(50)), [100, 100, 100]);
    assert!(!model.has_to_ramp(at(1000)));
    // Down in the middle: it begins again.
    for (up, seconds, last) in [(2, 60, None), (3, 61, Some(5)), (2, 80, None), (3, 81, Some(5))] {
        set(&mut model, 0, up);
        assert_eq!(weights(&mut model, at(seconds)).get(2).copied(), last);
    }
    // Used for want of better ones: with all its weight.
    set(&mut model, 0, 0);
    assert_eq!(weights(&mut model, at(90)), [100, 100, 100]);
}

#[test]
fn short_ways_have_few_steps() {
    let begin = Instant::now();
    let ramp = Ramp { since: begin, step: 1 };
    let steps = |time: u64| -> Vec<u16> {
        let each = |ms| ramp.step_at(begin + Duration::from_millis(ms), Duration::from_millis(time));
        let mut steps: Vec<u16> = (0..=time).step_by(10).map(each).collect();
        assert!(steps.is_sorted());
        steps.dedup();
        steps
    };
    assert_eq!(steps(500), [1, 20]);
    assert_eq!(steps(4000), [1, 5, 10, 15, 20]);
    assert_eq!(steps(60_000), (1..=20).collect::<Vec<_>>());
}
