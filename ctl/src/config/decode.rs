//! From TOML tables to the model: which keys there are, which must be there, what the others default to.

use super::read::{Bad, Reader, Table};
use super::{Backend, Config, Health, Port, Route, Runtime, Service, Timeouts};
use std::ops::Range;
use toml::de::DeTable;

const ROOT: &[&str] = &["runtime", "port", "route", "service"];
const RUNTIME: &[&str] = &[
    "workers",
    "control_cpus",
    "socket",
    "socket_group",
    "operators",
    "hugepages",
    "memory",
    "max_connections",
    "poll",
    "steering",
    "local_ports",
    "eal_args",
    "metrics",
    "status_page",
    "maglev_table_size",
    "maglev_seed",
];
const PORT: &[&str] = &[
    "name",
    "device",
    "parent",
    "vlan",
    "addresses",
    "mtu",
    "rx_descriptors",
    "tx_descriptors",
    "host_interface",
    "host_rate",
];
const ROUTE: &[&str] = &["to", "via"];
const SERVICE: &[&str] = &[
    "name",
    "vip",
    "ports",
    "protocol",
    "mode",
    "tunnel",
    "tunnel_sources",
    "gue_port",
    "gue_variant",
    "dscp",
    "mss",
    "local_addresses",
    "scheduler",
    "hash_fields",
    "affinity",
    "affinity_timeout",
    "affinity_prefix_v4",
    "affinity_prefix_v6",
    "slow_start",
    "unknown_connections",
    "timeouts",
    "health",
    "backend",
];
const TIMEOUTS: &[&str] = &["syn", "established", "fin", "udp"];
const HEALTH: &[&str] = &[
    "type",
    "interval",
    "timeout",
    "rise",
    "fall",
    "jitter",
    "port",
    "path",
    "host",
    "status",
    "body",
    "payload",
    "expect",
    "tls_verify",
    "tls_ca",
    "tls_name",
    "passive",
    "panic_threshold",
];
const BACKEND: &[&str] = &["address", "weight", "tier"];

/// What could be read.
pub(super) struct Decoded {
    pub(super) config: Config,
    /// Whether every `[[port]]` is there. If not, nothing can be said about what lies behind them.
    pub(super) ports_complete: bool,
}

pub(super) fn document(reader: &mut Reader, document: &DeTable<'_>, span: Range<usize>) -> Decoded {
    let root = reader.open(String::new(), span, document, ROOT);
    let runtime = reader.section(&root, "runtime", RUNTIME, runtime);
    let (mut ports, ports_complete) = reader.sections(&root, "port", PORT, port);
    inherit_mtus(reader, &mut ports);
    let (routes, _) = reader.sections(&root, "route", ROUTE, route);
    let (services, _) = reader.sections(&root, "service", SERVICE, service);
    let runtime = runtime.unwrap_or_default().unwrap_or_default();
    Decoded {
        config: Config { runtime, ports, routes, services, origin: super::Origin::default() },
        ports_complete,
    }
}

fn runtime(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Runtime, Bad> {
    let default = Runtime::default();
    let workers = reader.list(table, "workers");
    let control_cpus = reader.list(table, "control_cpus");
    let socket = reader.or(table, "socket", default.socket);
    let socket_group = reader.maybe(table, "socket_group");
    let operators = reader.list(table, "operators");
    let hugepages = reader.or(table, "hugepages", default.hugepages);
    let memory = reader.or(table, "memory", default.memory);
    let max_connections = reader.or(table, "max_connections", default.max_connections);
    let poll = reader.or(table, "poll", default.poll);
    let steering = reader.or(table, "steering", default.steering);
    let local_ports = reader.or(table, "local_ports", default.local_ports);
    let eal_args = reader.list(table, "eal_args");
    let metrics = reader.maybe(table, "metrics");
    let status_page = reader.or(table, "status_page", default.status_page);
    let maglev_table_size = reader.or(table, "maglev_table_size", default.maglev_table_size);
    let maglev_seed = reader.or(table, "maglev_seed", default.maglev_seed);
    let (workers, control_cpus) = super::Machine::current().fill_cpus(workers?, control_cpus?);
    Ok(Runtime {
        workers,
        control_cpus,
        socket: socket?,
        socket_group: socket_group?,
        operators: operators?.unwrap_or_default(),
        hugepages: hugepages?,
        memory: memory?,
        max_connections: max_connections?,
        poll: poll?,
        steering: steering?,
        local_ports: local_ports?,
        eal_args: eal_args?.unwrap_or_default(),
        metrics: metrics?,
        status_page: status_page?,
        maglev_table_size: maglev_table_size?,
        maglev_seed: maglev_seed?,
    })
}

fn port(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Port, Bad> {
    let name = reader.required(table, "name", "\"wan\"");
    let parent: Result<Option<String>, Bad> = reader.maybe(table, "parent");
    let device = match &parent {
        Ok(None) => reader.required(table, "device", "\"0000:3b:00.0\", or a DPDK vdev"),
        _ => reader.or(table, "device", String::new()),
    };
    let vlan = reader.maybe(table, "vlan");
    let addresses = reader.list(table, "addresses");
    let mtu = reader.or(table, "mtu", Port::DEFAULT_MTU);
    let rx_descriptors = reader.maybe(table, "rx_descriptors");
    let tx_descriptors = reader.maybe(table, "tx_descriptors");
    let host_interface = reader.maybe(table, "host_interface");
    let host_rate = reader.maybe(table, "host_rate");
    Ok(Port {
        name: name?,
        device: device?,
        parent: parent?,
        vlan: vlan?,
        addresses: addresses?.unwrap_or_default(),
        mtu: mtu?,
        rx_descriptors: rx_descriptors?,
        tx_descriptors: tx_descriptors?,
        host_interface: host_interface?,
        host_rate: host_rate?,
    })
}

/// A sub-interface without an MTU of its own has that of its parent.
fn inherit_mtus(reader: &Reader, ports: &mut [Port]) {
    for index in 0..ports.len() {
        let parent = ports[index].parent.as_ref();
        let mtu =
            parent.and_then(|parent| ports.iter().find(|port| port.name == *parent)).map(|port| port.mtu);
        if let (Some(mtu), false) = (mtu, reader.origin.has(&format!("port[{index}].mtu"))) {
            ports[index].mtu = mtu;
        }
    }
}

fn route(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Route, Bad> {
    let to = reader.required(table, "to", "\"0.0.0.0/0\"");
    let via = reader.required(table, "via", "\"10.0.0.1\"");
    Ok(Route { to: to?, via: via? })
}

fn service(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Service, Bad> {
    let name = reader.maybe(table, "name");
    let vip = reader.required(table, "vip", "\"192.0.2.10\"");
    let ports = reader.required(table, "ports", "\"80\"");
    let protocol = reader.required(table, "protocol", "\"tcp\" or \"udp\"");
    let mode = reader.required(table, "mode", "\"nat\", \"full-nat\" or \"dsr\"");
    let tunnel = reader.or(table, "tunnel", Service::default_tunnel());
    let tunnel_sources = reader.list(table, "tunnel_sources");
    let gue_port = reader.maybe(table, "gue_port");
    let gue_variant = reader.maybe(table, "gue_variant");
    let dscp = reader.maybe(table, "dscp");
    let mss = reader.maybe(table, "mss");
    let local_addresses = reader.list(table, "local_addresses");
    let scheduler = reader.or(table, "scheduler", Service::default_scheduler());
    let hash_fields = reader.list(table, "hash_fields");
    let affinity = reader.or(table, "affinity", Service::default_affinity());
    let affinity_timeout = reader.maybe(table, "affinity_timeout");
    let affinity_prefix_v4 = reader.maybe(table, "affinity_prefix_v4");
    let affinity_prefix_v6 = reader.maybe(table, "affinity_prefix_v6");
    let slow_start = reader.maybe(table, "slow_start");
    let unknown_connections = reader.maybe(table, "unknown_connections");
    let timeouts = reader.section(table, "timeouts", TIMEOUTS, timeouts);
    let health = reader.section(table, "health", HEALTH, health);
    let (backends, backends_complete) = reader.sections(table, "backend", BACKEND, backend);
    if backends.is_empty() && backends_complete {
        reader.missing(table, "backend", "add a [[service.backend]] with an address");
    }
    let (vip, ports, protocol) = (vip?, ports?, protocol?);
    Ok(Service {
        name: name?.unwrap_or_else(|| Service::default_name(protocol, vip, ports)),
        vip,
        ports,
        protocol,
        mode: mode?,
        tunnel: tunnel?,
        tunnel_sources: tunnel_sources?.unwrap_or_default(),
        gue_port: gue_port?,
        gue_variant: gue_variant?,
        dscp: dscp?,
        mss: mss?,
        local_addresses: local_addresses?.unwrap_or_default(),
        scheduler: scheduler?,
        hash_fields: hash_fields?.unwrap_or_default(),
        affinity: affinity?,
        affinity_timeout: affinity_timeout?,
        affinity_prefix_v4: affinity_prefix_v4?,
        affinity_prefix_v6: affinity_prefix_v6?,
        slow_start: slow_start?,
        unknown_connections: unknown_connections?,
        timeouts: timeouts?.unwrap_or_default(),
        health: health?,
        backends,
    })
}

fn timeouts(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Timeouts, Bad> {
    let default = Timeouts::default();
    let syn = reader.or(table, "syn", default.syn);
    let established = reader.or(table, "established", default.established);
    let fin = reader.or(table, "fin", default.fin);
    let udp = reader.or(table, "udp", default.udp);
    Ok(Timeouts { syn: syn?, established: established?, fin: fin?, udp: udp? })
}

fn health(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Health, Bad> {
    let kind = reader.required(table, "type", "\"tcp\"");
    let interval = reader.or(table, "interval", Health::default_interval());
    let timeout = reader.or(table, "timeout", Health::default_timeout());
    let rise = reader.or(table, "rise", Health::default_rise());
    let fall = reader.or(table, "fall", Health::default_fall());
    let jitter = reader.or(table, "jitter", Health::default_jitter());
    let port = reader.maybe(table, "port");
    let path = reader.maybe(table, "path");
    let host = reader.maybe(table, "host");
    let status = reader.maybe(table, "status");
    let body = reader.maybe(table, "body");
    let payload = reader.maybe(table, "payload");
    let expect = reader.maybe(table, "expect");
    let tls_verify = reader.maybe(table, "tls_verify");
    let tls_ca = reader.maybe(table, "tls_ca");
    let tls_name = reader.maybe(table, "tls_name");
    let passive = reader.or(table, "passive", Health::default_passive());
    let panic_threshold = reader.or(table, "panic_threshold", Health::default_panic_threshold());
    Ok(Health {
        kind: kind?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        jitter: jitter?,
        port: port?,
        path: path?,
        host: host?,
        status: status?,
        body: body?,
        payload: payload?,
        expect: expect?,
        tls_verify: tls_verify?,
        tls_ca: tls_ca?,
        tls_name: tls_name?,
        passive: passive?,
        panic_threshold: panic_threshold?,
    })
}

fn backend(reader: &mut Reader, table: &Table<'_, '_>) -> Result<Backend, Bad> {
    let address = reader.required(table, "address", "\"10.1.0.11:8080\"");
    let weight = reader.or(table, "weight", Backend::DEFAULT_WEIGHT);
    let tier = reader.or(table, "tier", 0);
    Ok(Backend { address: address?, weight: weight?, tier: tier? })
}
