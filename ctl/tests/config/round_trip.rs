//! Whatever a configuration holds, its export reads back as the same. The literals below name every key: a new one does
//! not compile until it is here.

use ctl::config::{
    Affinity, Backend, BackendAddress, Config, HashField, Health, HealthType, InterfaceAddress, Mode, Mss,
    Origin, Payload, Poll, Port, Ports, Prefix, Protocol, Route, Runtime, Scheduler, Service, Size, Steering,
    TimeSpan, Timeouts, Tunnel, UnknownConnections,
};
use proptest::prelude::*;
use std::net::IpAddr;

/// Numbers to choose by; at its end it begins again.
struct Dice {
    rolls: Vec<u16>,
    at: usize,
}

impl Dice {
    fn below(&mut self, limit: u16) -> u16 {
        self.at += 1;
        self.rolls[self.at % self.rolls.len()] % limit
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.below(all.len() as u16))]
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flip().then(|| make(self))
    }

    /// Text with what TOML has to escape.
    fn text(&mut self) -> String {
        let pieces = ["a", "\"", "\\", "\n", "'", "\t", "é", "\u{7f}", "#", "=", "[", "]]", "\u{0}"];
        (0..=self.below(6)).map(|_| self.of(&pieces)).collect()
    }

    fn span(&mut self, least: u64) -> TimeSpan {
        TimeSpan::from_millis(least + u64::from(self.below(60_000)))
    }
}

fn address(v6: bool, low: u16) -> IpAddr {
    if v6 { format!("2001:db8:1::{low:x}") } else { format!("10.1.{}.{}", low >> 8, low & 255) }
        .parse()
        .unwrap()
}

fn runtime(dice: &mut Dice) -> Runtime {
    let first = 1024 + dice.below(1000);
    let metrics = dice.maybe(|dice| 1 + dice.below(60_000));
    Runtime {
        workers: (0..=dice.below(3)).collect(),
        control_cpus: (4..=4 + dice.below(3)).collect(),
        socket: "/run/sluice/a \"b\".sock".into(),
        socket_group: dice.maybe(|dice| dice.of(&["sluice", "4711", "net-ops"]).to_owned()),
        operators: dice
            .of(&[&[][..], &["alice"], &["@netops", "bob"]])
            .iter()
            .map(ToString::to_string)
            .collect(),
        hugepages: dice.flip(),
        memory: Size::from_bytes((64 << 20) + u64::from(dice.below(u16::MAX))),
        max_connections: 1 + u32::from(dice.below(u16::MAX)),
        poll: dice.of(Poll::ALL),
        steering: dice.of(Steering::ALL),
        local_ports: Ports::new(first, first + 5000).unwrap(),
        eal_args: (0..dice.below(3)).map(|n| format!("--x={n} \"y\"")).collect(),
        metrics: metrics.map(|port| format!("127.0.0.1:{port}").parse().unwrap()),
        status_page: metrics.is_some() && dice.flip(),
        maglev_table_size: dice.of(&[251, 65_537, 16_777_213]),
        maglev_seed: u64::from(dice.below(u16::MAX)) << 40,
    }
}

fn ports(dice: &mut Dice) -> Vec<Port> {
    let descriptors = |dice: &mut Dice| 32 + dice.below(32_000);
    let host_interface = dice.maybe(|dice| format!("wan{}", dice.below(100)));
    let device = Port {
        name: "lan".into(),
        device: "net_af_packet0,iface=\"eth 1\"".into(),
        parent: None,
        vlan: dice.maybe(|dice| 1 + dice.below(1000)),
        addresses: ["10.0.0.2/24", "2001:db8::2/64"]
            .map(|own| own.parse::<InterfaceAddress>().unwrap())
            .into(),
        mtu: 1280 + dice.below(8000),
        rx_descriptors: dice.maybe(descriptors),
        tx_descriptors: dice.maybe(descriptors),
        host_rate: dice
            .maybe(|dice| 100 + u32::from(dice.below(u16::MAX)))
            .filter(|_| host_interface.is_some()),
        host_interface,
    };
    let sub_interface = dice.maybe(|dice| Port {
        name: "lan.x".into(),
        device: String::new(),
        parent: Some("lan".into()),
        vlan: Some(1001 + dice.below(3094)),
        addresses: vec!["10.2.0.1/24".parse().unwrap()],
        mtu: device.mtu - dice.below(1000),
        rx_descriptors: None,
        tx_descriptors: None,
        host_interface: dice.maybe(|dice| format!("lan{}", dice.below(100))),
        host_rate: None,
    });
    std::iter::once(device).chain(sub_interface).collect()
}

fn health(dice: &mut Dice) -> Health {
    let kind = dice.of(HealthType::ALL);
    let web = matches!(kind, HealthType::Http | HealthType::Https);
    let transport = matches!(kind, HealthType::Tcp | HealthType::Udp);
    let tls_verify = dice.maybe(Dice::flip).filter(|_| kind == HealthType::Https);
    let payload = |dice: &mut Dice| {
        let bytes = (0..=dice.below(8)).map(|_| dice.below(256) as u8).collect();
        Payload::new(bytes).unwrap()
    };
    let timeout = dice.span(10);
    Health {
        kind,
        interval: TimeSpan::from_millis(timeout.as_millis() + u64::from(dice.below(1000))),
        timeout,
        rise: 1 + dice.below(9),
        fall: 1 + dice.below(9),
        jitter: dice.below(51) as u8,
        port: (kind != HealthType::Icmp).then(|| 1 + dice.below(60_000)),
        path: dice.maybe(|dice| format!("/a\"b\\{}", dice.below(9))).filter(|_| web),
        host: dice.maybe(|dice| format!("www{}.example.org", dice.below(9))).filter(|_| web),
        status: dice.maybe(|dice| dice.of(&["200", "200-299,301"]).parse().unwrap()).filter(|_| web),
        body: dice.maybe(Dice::text).filter(|_| web),
        payload: dice.maybe(payload).filter(|_| transport),
        expect: dice.maybe(payload).filter(|_| transport),
        tls_verify,
        tls_ca: dice.maybe(|_| "/etc/a \"b\"/ca.pem".into()).filter(|_| tls_verify == Some(true)),
        tls_name: dice.maybe(|_| "b.example.org".into()).filter(|_| kind == HealthType::Https),
        passive: dice.flip(),
        panic_threshold: dice.below(101) as u8,
    }
}

fn service(dice: &mut Dice, number: u16) -> Service {
    let v6 = dice.flip();
    let protocol = dice.of(Protocol::ALL);
    let mode = dice.of(Mode::ALL);
    let tunnel = if mode == Mode::Dsr { dice.of(Tunnel::ALL) } else { Tunnel::None };
    let gue = tunnel == Tunnel::Gue;
    let wraps = !matches!(tunnel, Tunnel::None | Tunnel::L3dsr);
    let vip: Prefix =
        if v6 { format!("2001:db8:f::{number}") } else { format!("192.0.2.{number}") }.parse().unwrap();
    let own_port = 1 + dice.below(60_000);
    let port = if mode == Mode::Dsr { None } else { Some(own_port) };
    let backends = (0..=dice.below(4)).map(|n| Backend {
        address: BackendAddress::new(address(v6, number * 16 + n + 1), port),
        weight: dice.below(u16::MAX),
        tier: dice.below(4) as u8,
    });
    let backends = backends.collect();
    let scheduler = dice.of(Scheduler::ALL);
    let affinity = dice.of(Affinity::ALL);
    let sticky = affinity == Affinity::SourceIp;
    let hashes = matches!(scheduler, Scheduler::Maglev | Scheduler::SourceHash) && !sticky;
    let fields = HashField::ALL.iter().copied().filter(|_| hashes && dice.flip()).collect();
    let sources = ["10.9.0.64/28", "2001:db8:9::100/124"].map(|source| source.parse().unwrap());
    Service {
        name: format!("s{number}"),
        vip,
        ports: dice.of(&["80", "100-200", "*"]).parse().unwrap(),
        protocol,
        mode,
        tunnel,
        tunnel_sources: if wraps && dice.flip() { sources.into() } else { Vec::new() },
        gue_port: dice.maybe(|dice| 1 + dice.below(60_000)).filter(|_| gue),
        gue_variant: dice.maybe(|dice| dice.below(2) as u8).filter(|_| gue),
        dscp: (tunnel == Tunnel::L3dsr).then(|| 1 + dice.below(63) as u8),
        mss: dice
            .maybe(|dice| if dice.flip() { Mss::Auto } else { Mss::Bytes(536 + dice.below(9000)) })
            .filter(|_| protocol == Protocol::Tcp),
        local_addresses: if mode == Mode::FullNat && dice.flip() {
            vec![address(false, 7), address(true, 7)]
        } else {
            Vec::new()
        },
        scheduler,
        hash_fields: fields,
        affinity,
        affinity_timeout: dice.maybe(|dice| dice.span(1000)).filter(|_| sticky),
        affinity_prefix_v4: dice.maybe(|dice| 1 + dice.below(32) as u8).filter(|_| sticky),
        affinity_prefix_v6: dice.maybe(|dice| 1 + dice.below(128) as u8).filter(|_| sticky),
        slow_start: dice.maybe(|dice| dice.span(0)),
        unknown_connections: dice
            .maybe(|dice| dice.of(UnknownConnections::ALL))
            .filter(|policy| mode != Mode::FullNat || *policy == UnknownConnections::Reset)
            .filter(|_| protocol == Protocol::Tcp),
        timeouts: Timeouts {
            syn: dice.span(1000),
            established: dice.span(1000),
            fin: dice.span(1000),
            udp: dice.span(1000),
        },
        health: dice.maybe(health),
        backends,
    }
}

fn config(rolls: Vec<u16>) -> Config {
    let mut dice = Dice { rolls, at: 0 };
    let routes = [("0.0.0.0/0", "10.0.0.1"), ("::/0", "2001:db8::1")]
        .map(|(to, via)| Route { to: to.parse().unwrap(), via: via.parse().unwrap() });
    let count = dice.below(4);
    Config {
        runtime: runtime(&mut dice),
        ports: ports(&mut dice),
        routes: routes.into(),
        services: (1..=count).map(|number| service(&mut dice, number)).collect(),
        origin: Origin::default(),
    }
}

proptest! {
    #[test]
    fn an_export_reads_back_as_the_same(rolls in proptest::collection::vec(any::<u16>(), 400)) {
        let config = config(rolls);
        let exported = config.to_toml();
        match Config::parse(&exported, "exported") {
            Ok(read) => prop_assert_eq!(read, config),
            Err(errors) => prop_assert!(false, "{}\n{exported}", super::list(&errors)),
        }
    }
}
