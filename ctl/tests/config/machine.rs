//! What is warned about, and what depends on the build or the machine.

use super::{BASE, DESIGN, DSR, EVERYTHING, MINIMAL, list, parse};
use ctl::config::{Machine, Mode, Scheduler, Supported, Tunnel, unsupported};

#[track_caller]
fn warned(text: &str, key: &str, problem: &str) {
    let warnings = parse(text).warnings();
    assert!(
        warnings.iter().any(|warning| warning.0.key == key
            && warning.0.problem.contains(problem)
            && warning.0.line.is_some()),
        "{warnings:?}"
    );
}

#[test]
fn warnings_do_not_refuse() {
    let base = BASE.replace("10.0.0.11:8080\"", "10.0.0.11:8080\"\nweight = 0");
    warned(
        &base.replace("10.0.0.12:8080\"", "10.0.0.12:8080\"\nweight = 0"),
        "service.backend",
        "every backend of service \"web\" has weight 0",
    );
    assert!(!parse(&base).warnings().iter().any(|warning| warning.0.key == "service.backend"));
    warned(&BASE.replace("[1]", "[4095]"), "runtime.workers", "this machine has no CPU 4095");
    warned(&BASE.replace("10.0.0.12", "10.0.0.2"), "service.backend.address", "own address on port \"wan\"");
    let small_table =
        BASE.replace("[1]", "[1]\nmaglev_table_size = 251") + "[[service.backend]]\naddress = \"10.0.0.13\"";
    warned(&small_table, "runtime.maglev_table_size", "uneven");
    if Machine::current().online.len() > 1 {
        warned(&BASE.replace("[1]", "[0]"), "runtime.workers", "in control_cpus as well");
    }
}

#[test]
fn backends_that_nothing_leads_to_are_warned_about() {
    let far = BASE.replace("10.0.0.12", "10.77.0.12");
    assert!(!parse(&far).warnings().iter().any(|warning| warning.0.key == "service.backend.address"));
    let no_route = far.replace("[[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.0.0.1\"\n", "");
    warned(&no_route, "service.backend.address", "nothing leads to 10.77.0.12");
    warned(
        &format!("{BASE}{DSR}[[service.backend]]\naddress = \"10.77.0.1\""),
        "service.backend.address",
        "dsr without a tunnel",
    );
}

#[test]
fn what_a_build_cannot_do_is_refused_in_words() {
    let few = Supported {
        modes: &[Mode::Nat, Mode::Dsr],
        tunnels: &[Tunnel::None],
        schedulers: &[Scheduler::Maglev, Scheduler::RoundRobin],
        affinities: &[ctl::config::Affinity::None],
        health_types: &[],
        vip_prefixes: false,
        port_ranges: false,
        tiers: false,
        metrics: false,
        ..Supported::ALL
    };
    let config = parse(EVERYTHING);
    assert_eq!(unsupported(&config, &Supported::ALL), []);
    let errors = list(&unsupported(&config, &few));
    for line in [
        "test.toml:12: runtime.metrics: a metrics listener is not available in this build; remove it; \"/metrics\" is on the control socket",
        "test.toml:42: service.vip: vip = \"192.0.2.0/24\", a prefix, is not available in this build; use one address",
        "test.toml:43: service.ports: ports = \"*\", a range, is not available in this build; use one port",
        "test.toml:46: service.scheduler: scheduler = \"least-connections\" is not available in this build; use maglev or round-robin",
        "test.toml:47: service.affinity: affinity = \"source-ip\" is not available in this build; use none",
        "test.toml:53: service.backend.tier: tier = 1 is not available in this build; use 0, or remove it",
        "test.toml:60: service.mode: mode = \"full-nat\" is not available in this build; use nat or dsr",
        "test.toml:76: service.tunnel: tunnel = \"gue\" is not available in this build; use none",
        "test.toml:77: service.health: health checking is not available in this build; remove [service.health]; its backends then count as up",
    ] {
        assert!(errors.contains(line), "{errors}\nlacks {line}");
    }
    assert_eq!(unsupported(&parse(MINIMAL), &few), []);
}

#[test]
fn the_machine_decides_about_cpus() {
    let config = parse(DESIGN);
    let two = Machine { online: vec![0, 1], allowed: vec![0, 1] };
    let errors = config.check_machine(&two);
    assert_eq!(errors.len(), 2);
    assert_eq!(
        errors[0].to_string(),
        "test.toml:2: runtime.workers: this machine has no CPU 2; use one of its 2 CPUs, 0 to 1"
    );
    let four = Machine { online: vec![0, 1, 2, 3], allowed: vec![0] };
    assert_eq!(config.check_machine(&four), []);
}
