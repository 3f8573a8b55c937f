//! Answers of a daemon, made from the API's own types.

use ctl::api::{
    AdminState, Backend, BackendStats, Delivery, Flow, FlowState, Flows, HealthState, Link, Neighbor,
    NeighborState, Offload, OwnerBy, Port, PortHost, PortQueues, PortSide, PortStats, PortSteering, Rss,
    RssKey, Service, ServiceStats, Stats, Status, Worker, WorkerStats,
};
use ctl::config::{Affinity, Mode, Ports, Protocol, Scheduler, Tunnel};
use std::collections::BTreeMap;

pub(crate) fn backend(address: &str, admin: AdminState, connections_active: u64) -> Backend {
    Backend {
        service: "web".into(),
        address: address.into(),
        admin,
        removed: false,
        health: HealthState::Up,
        health_checked: false,
        health_detail: "unchecked".into(),
        health_since_seconds: None,
        health_check_seconds: None,
        weight: 100,
        slow_start_weight: None,
        tier: 0,
        connections_active,
        connections_total: 12,
        packets_in: 120,
        bytes_in: 12_000,
        packets_out: 240,
        bytes_out: 240_000,
        drain_remaining_seconds: None,
    }
}

pub(crate) fn service() -> Service {
    let mut down = backend("[2001:db8::11]:8080", AdminState::Enabled, 0);
    down.health = HealthState::Down;
    down.health_checked = true;
    down.health_detail = "connection refused".into();
    Service {
        name: "web".into(),
        vip: "192.0.2.10".parse().unwrap(),
        ports: Ports::new(80, 80).unwrap(),
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
        tunnel: Tunnel::None,
        scheduler: Scheduler::Maglev,
        hash_fields: Vec::new(),
        affinity: Affinity::None,
        affinity_timeout_seconds: None,
        connections_active: 7,
        connections_total: 12,
        packets_in: 120,
        bytes_in: 12_000,
        packets_out: 240,
        bytes_out: 240_000,
        panic: false,
        backends: vec![backend("10.1.0.11:8080", AdminState::Enabled, 7), down],
    }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        dpdk_version: "DPDK 22.11.7".into(),
        pid: 4711,
        uptime_seconds: 93_784.5,
        generation: 3,
        config_file: "/etc/sluice/sluice.toml".into(),
        workers: 2,
        ports: 2,
        ports_up: 1,
        services: 1,
        services_down: 0,
        backends: 2,
        backends_up: 1,
        connections_active: 7,
        connections_max: 2_000_000,
        rx_packets: 360,
        tx_packets: 361,
        dropped_packets: 2,
        notices: vec!["port lan: no RSS, hand-off in software".into()],
    }
}

pub(crate) fn stats() -> Stats {
    Stats {
        generation: 3,
        uptime_seconds: 10.0,
        rx_packets: 370,
        tx_packets: 362,
        rx_bytes: 1,
        tx_bytes: 1,
        forwarded_packets: 360,
        consumed_packets: 8,
        punted_packets: 0,
        held_packets: 0,
        generated_packets: 2,
        icmp_error_packets: 0,
        out_of_window_packets: 0,
        drops: BTreeMap::from([("no_service".into(), 2), ("bad_checksum".into(), 0)]),
        services: vec![ServiceStats {
            name: "web".into(),
            vip: "192.0.2.10".parse().unwrap(),
            ports: Ports::new(80, 80).unwrap(),
            protocol: Protocol::Tcp,
            mode: Mode::Nat,
            scheduler: Scheduler::Maglev,
            connections_active: 7,
            connections_total: 12,
            packets_in: 120,
            bytes_in: 12_000,
            packets_out: 240,
            bytes_out: 240_000,
            backends: vec![BackendStats {
                address: "10.1.0.11:8080".into(),
                admin: AdminState::Enabled,
                health: HealthState::Up,
                health_checked: false,
                health_detail: "unchecked".into(),
                weight: 100,
                tier: 0,
                connections_active: 7,
                connections_total: 12,
                packets_in: 120,
                bytes_in: 12_000,
                packets_out: 240,
                bytes_out: 240_000,
            }],
        }],
        workers: vec![WorkerStats { cpu: 2, rx_packets: 370, busy_ratio: 0.125, ..WorkerStats::default() }],
        ports: vec![PortStats { name: "wan".into(), rx_packets: 370, ..PortStats::default() }],
    }
}

pub(crate) fn flows() -> Flows {
    let flow = |client: &str, packets| Flow {
        protocol: Protocol::Tcp,
        service: "web".into(),
        client: client.into(),
        vip: "192.0.2.10:80".into(),
        backend: "10.1.0.11:8080".into(),
        local: Some("10.1.0.1:2048".into()),
        state: FlowState::Established,
        worker: 2,
        age_seconds: 12.34,
        idle_seconds: 0.5,
        timeout_seconds: 7440.0,
        packets,
        bytes: None,
    };
    Flows {
        flows: vec![flow("198.51.100.7:40000", Some(9)), flow("198.51.100.8:40001", None)],
        truncated: true,
    }
}

pub(crate) fn workers() -> Vec<Worker> {
    vec![Worker {
        cpu: 2,
        generation: 3,
        busy_ratio: 0.875,
        connections_active: 7,
        connections_max: 1_000_000,
        table_load_ratio: 0.25,
        table_probe_mean: 1.015,
        table_probe_max: 3,
        memory_bytes: 128 << 20,
        ..Worker::default()
    }]
}

pub(crate) fn ports() -> Vec<Port> {
    let wan = Port {
        name: "wan".into(),
        device: "net_af_packet0,iface=eth1".into(),
        parent: None,
        vlan: None,
        driver: "net_af_packet".into(),
        mac: "02:00:00:00:00:01".into(),
        link: Link::Up,
        link_mbps: None,
        mtu_bytes: 1500,
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        numa_node: None,
        queues: PortQueues {
            rx_queues: 2,
            tx_queues: 2,
            rx_queues_max: 16,
            tx_queues_max: 16,
            ..Default::default()
        },
        rss: Rss {
            offered: true,
            in_use: true,
            fields: vec!["ipv4-tcp".into(), "l3-src-only".into()],
            key: Some(RssKey::Random),
            computable: true,
        },
        steering: PortSteering {
            side: PortSide::Clients,
            owner_by: OwnerBy::RssOneEnd,
            delivery: Delivery::Owner,
            rx_packets: 1000,
            handoff_packets: 5,
            handoff_ratio: 0.005,
            rx_packets_by_worker: vec![490, 510],
        },
        offloads: vec![
            Offload { name: "rx_ipv4_checksum".into(), in_use: true },
            Offload { name: "tx_tcp_checksum".into(), in_use: false },
        ],
        notices: vec!["checksums in software".into()],
        host: Some(PortHost {
            interface: "wan0".into(),
            present: true,
            rate: 10_000,
            punted_packets: 21,
            limited_packets: 3,
            refused_packets: 1,
            sent_packets: 17,
        }),
        counters: PortStats { name: "wan".into(), rx_packets: 370, ..PortStats::default() },
    };
    let name = || "wan.100".to_owned();
    let sub_interface = Port {
        name: name(),
        parent: Some("wan".into()),
        vlan: Some(100),
        counters: PortStats { name: name(), ..PortStats::default() },
        ..wan.clone()
    };
    vec![wan, sub_interface]
}

pub(crate) fn neighbors() -> Vec<Neighbor> {
    let neighbor = |address: &str, mac: Option<&str>, state| Neighbor {
        port: "wan".into(),
        address: address.parse().unwrap(),
        mac: mac.map(Into::into),
        state,
        age_seconds: 1.5,
    };
    vec![
        neighbor("10.0.0.1", Some("02:00:00:00:00:09"), NeighborState::Reachable),
        neighbor("2001:db8::99", None, NeighborState::Failed),
    ]
}
