//! Files that are right.

use super::{BASE, DESIGN, EVERYTHING, MINIMAL, parse, second};
use ctl::config::{
    BackendAddress, Config, Machine, Mode, Poll, Ports, Protocol, Scheduler, Size, Steering, TimeSpan, Tunnel,
};

#[test]
fn the_example_of_the_manual_is_good() {
    let config = parse(DESIGN);
    assert_eq!(config.runtime.workers, [2, 3]);
    assert_eq!(config.runtime.memory, Size::from_mebibytes(1024));
    assert_eq!(config.runtime.metrics, Some("127.0.0.1:9108".parse().unwrap()));
    let service = &config.services[0];
    assert_eq!((service.name.as_str(), service.protocol, service.mode), ("web", Protocol::Tcp, Mode::Nat));
    assert_eq!(service.health.as_ref().unwrap().interval, TimeSpan::from_secs(2));
    assert_eq!(service.backends[0].address, "10.1.0.11:8080".parse::<BackendAddress>().unwrap());
    assert_eq!(config.origin.line("service[0].backend[0].weight"), Some(40));
}

#[test]
fn defaults_are_as_documented() {
    let config = parse(MINIMAL);
    let machine = Machine::current();
    let runtime = &config.runtime;
    assert_eq!((runtime.workers.clone(), runtime.control_cpus.clone()), machine.default_cpus());
    assert_eq!(runtime.socket.to_str(), Some("/run/sluice/sluice.sock"));
    assert!(runtime.hugepages && runtime.eal_args.is_empty() && runtime.metrics.is_none());
    assert!(!runtime.status_page);
    assert_eq!((runtime.memory, runtime.max_connections), (Size::from_mebibytes(1024), 1_000_000));
    assert_eq!((runtime.steering, runtime.local_ports), (Steering::Auto, Ports::new(1024, 64_511).unwrap()));
    assert_eq!((runtime.poll, runtime.maglev_table_size, runtime.maglev_seed), (Poll::Adaptive, 65_537, 0));
    assert_eq!(config.ports[0].mtu, 1500);
    assert_eq!((config.ports[0].rx_descriptors, config.ports[0].tx_descriptors), (None, None));
    let service = &config.services[0];
    assert_eq!(service.name, "tcp-192.0.2.10-80");
    assert_eq!((service.scheduler, service.tunnel), (Scheduler::Maglev, Tunnel::None));
    assert_eq!(service.affinity, ctl::config::Affinity::None);
    assert_eq!(service.health, None);
    assert_eq!(service.timeouts.established, TimeSpan::from_secs(7440));
    assert_eq!(service.timeouts.udp, TimeSpan::from_secs(120));
    let backend = service.backends[0];
    assert_eq!((backend.address.port, backend.weight, backend.tier), (None, 100, 0));
}

#[test]
fn health_has_defaults() {
    let config = parse(&MINIMAL.replace("mode = \"nat\"", "mode = \"nat\"\nhealth.type = \"tcp\""));
    let health = config.services[0].health.clone().unwrap();
    assert_eq!((health.interval, health.timeout), (TimeSpan::from_secs(2), TimeSpan::from_secs(1)));
    assert_eq!((health.rise, health.fall, health.jitter), (2, 3, 10));
    assert_eq!((health.passive, health.panic_threshold), (true, 1));
    assert_eq!((health.port, health.status, health.tls_verify), (None, None, None));
}

#[test]
fn names_are_made_from_what_the_service_is() {
    let vip = |text: &str| text.parse().unwrap();
    let name = ctl::config::Service::default_name;
    assert_eq!(
        name(Protocol::Udp, vip("192.0.2.0/24"), Ports::new(100, 200).unwrap()),
        "udp-192.0.2.0_24-100-200"
    );
    assert_eq!(name(Protocol::Tcp, vip("2001:db8::1"), Ports::ANY), "tcp-2001:db8::1-any");
}

#[test]
fn good_files_read_back_as_written() {
    for text in [DESIGN, MINIMAL, EVERYTHING] {
        let config = parse(text);
        let printed = config.to_toml();
        assert_eq!(parse(&printed), config, "{printed}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
        // The model's own serde form has the same keys and defaults as the checked reader.
        assert_eq!(toml::from_str::<Config>(&printed).unwrap(), config);
    }
}

#[test]
fn sub_interfaces_may_stand_before_their_parent_and_have_its_mtu() {
    let sub = |name: &str, rest: &str| format!("[[port]]\nname = \"{name}\"\nparent = \"wan\"\n{rest}\n");
    let file = BASE.replace("addresses = [\"10.0.0.2/24\"", "mtu = 9000\naddresses = [\"10.0.0.2/24\"");
    let file = file.replacen("[[port]]", &format!("{}[[port]]", sub("a", "vlan = 1")), 1);
    let file = format!("{file}{}{}", sub("b", "vlan = 4094\nmtu = 1500"), sub("c", "vlan = 2"));
    let config = parse(&file);
    let mtus: Vec<_> = config.ports.iter().map(|port| (port.name.as_str(), port.vlan, port.mtu)).collect();
    let expected = [("a", Some(1), 9000), ("wan", None, 9000), ("b", Some(4094), 1500), ("c", Some(2), 9000)];
    assert_eq!(mtus, expected);
    assert_eq!(parse(&config.to_toml()), config);
}

#[test]
fn local_ports_are_a_range() {
    let config = parse(&format!("[runtime]\nlocal_ports = \"2000-64000\"\n{MINIMAL}"));
    assert_eq!(config.runtime.local_ports, Ports::new(2000, 64_000).unwrap());
    assert_eq!(parse(&config.to_toml()).runtime, config.runtime);
}

#[test]
fn a_number_of_a_port_needs_no_quotes() {
    assert_eq!(parse(&BASE.replace("\"80\"", "80")).services[0].ports, Ports::new(80, 80).unwrap());
}

#[test]
fn nested_and_separate_services_are_fine() {
    for (vip, ports) in [
        ("192.0.2.10", "*"),
        ("192.0.2.10", "80-90"),
        ("192.0.2.10", "70-80"),
        ("192.0.2.10", "81-90"),
        ("192.0.2.0/24", "80"),
        ("192.0.2.0/24", "70-79"),
        ("192.0.2.11", "80"),
    ] {
        parse(&format!("{BASE}{}", second("b", vip, ports)));
    }
    parse(&format!("{BASE}{}", second("b", "192.0.2.10", "80").replace("tcp", "udp")));
}

#[test]
fn a_vip_may_be_an_address_of_a_port() {
    parse(&BASE.replace("192.0.2.10", "10.0.0.2"));
}
