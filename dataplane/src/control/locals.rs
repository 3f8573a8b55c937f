//! The addresses that backends of `full-nat` see in place of their clients': those that the service names, or those of the
//! port that leads to the backend.

use super::model::Model;
use crate::route::NextHop;
use crate::snapshot::{Parts, Port, Snapshot};
use crate::wire::ethernet::Mac;
use ctl::config::{Config, ConfigError, Mode, Service};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Finds the local addresses of backends, those that are alike once.
struct Finder<'a> {
    config: &'a Config,
    /// Ports and routes alone.
    network: Snapshot,
    named: HashMap<(*const Service, bool), Arc<[IpAddr]>>,
    of_hop: HashMap<NextHop, Arc<[IpAddr]>>,
}

impl<'a> Finder<'a> {
    fn new(config: &'a Config) -> Self {
        let port = |port: &ctl::config::Port| Port {
            mac: Mac::default(),
            mtu: port.mtu,
            addresses: port.addresses.clone(),
            host: None,
        };
        let network = Snapshot::new(Parts {
            ports: config.ports.iter().map(port).collect(),
            routes: config.routes.iter().map(|route| (route.to, route.via)).collect(),
            ..Parts::default()
        });
        Self { config, network, named: HashMap::new(), of_hop: HashMap::new() }
    }

    /// The local addresses towards `backend`, of its family. None: there is no way, or its port has no such address.
    fn find(&mut self, service: &'a Service, backend: IpAddr) -> Arc<[IpAddr]> {
        let alike = |address: &IpAddr| address.is_ipv6() == backend.is_ipv6();
        if !service.local_addresses.is_empty() {
            let list = self.named.entry((std::ptr::from_ref(service), backend.is_ipv6()));
            let named = || service.local_addresses.iter().copied().filter(alike).collect();
            return Arc::clone(list.or_insert_with(named));
        }
        let Some(hop) = self.network.next_hop(backend) else { return Arc::default() };
        let config = self.config;
        let of_hop = || {
            let own = config.ports.get(usize::from(hop.port)).map_or(&[][..], |port| &port.addresses);
            // On the link of the next hop, if there is a choice: that is where the answer comes to.
            let near: Arc<[IpAddr]> = own
                .iter()
                .filter(|own| own.subnet().contains(hop.address))
                .map(|own| own.address())
                .filter(alike)
                .collect();
            if near.is_empty() { own.iter().map(|own| own.address()).filter(alike).collect() } else { near }
        };
        Arc::clone(self.of_hop.entry(hop).or_insert_with(of_hop))
    }
}

/// The local addresses of every backend, by its slot. Backends that are going keep those that they had in the `former`
/// snapshot: their connections go on, so their answers have to find here.
pub(super) fn by_slot(model: &Model, config: &Config, former: &Snapshot) -> Vec<Arc<[IpAddr]>> {
    let mut lists = Vec::new();
    let former = former.local_address_lists();
    if former.is_empty() && config.services.iter().all(|service| service.mode != Mode::FullNat) {
        return lists;
    }
    lists.resize(model.slots.len(), Arc::default());
    for (slot, _) in model.slots.retired() {
        if let Some(list) = former.get(slot as usize) {
            lists[slot as usize] = Arc::clone(list);
        }
    }
    let mut finder = Finder::new(config);
    for service in &model.services {
        if service.config.mode != Mode::FullNat {
            continue;
        }
        // The model may hold the service as it was, the configuration holds it as it is.
        let Some(wanted) = config.services.iter().find(|one| one.name == service.config.name) else {
            continue;
        };
        for backend in &service.backends {
            lists[backend.slot as usize] = finder.find(wanted, backend.config.address.ip);
        }
    }
    lists
}

/// What `full-nat` cannot do with this configuration.
pub(super) fn refusals(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut finder = Finder::new(config);
    let mut refuse = |path: String, problem: String, remedy: &str| {
        errors.push(ConfigError::at(&config.origin, &path, problem, remedy));
    };
    for (index, service) in config.services.iter().enumerate().filter(|(_, one)| one.mode == Mode::FullNat) {
        let mut used: Vec<IpAddr> = Vec::new();
        for (backend_index, backend) in service.backends.iter().enumerate() {
            let (address, path) =
                (backend.address.ip, format!("service[{index}].backend[{backend_index}].address"));
            let locals = finder.find(service, address);
            if locals.is_empty() {
                let problem = format!("there is no local address from which {address} can be reached");
                let remedy = match (service.local_addresses.is_empty(), address.is_ipv6()) {
                    (true, _) => {
                        "give the port towards it an address of that family, or the service local_addresses"
                    }
                    (false, true) => "add an IPv6 address to local_addresses, or leave them out",
                    (false, false) => "add an IPv4 address to local_addresses, or leave them out",
                };
                refuse(path, problem, remedy);
            }
            used.extend(locals.iter().filter(|local| !used.contains(local)).copied().collect::<Vec<_>>());
        }
        // Answers of backends and packets of clients must not look alike.
        for (other_index, other) in config.services.iter().enumerate() {
            let Some(local) = used.iter().find(|&&local| other.vip.contains(local)) else { continue };
            if other.ports.intersects(config.runtime.local_ports) {
                let problem = format!(
                    "{local} is a local address of service {:?}, and its ports {} are used towards backends",
                    service.name, config.runtime.local_ports
                );
                let remedy = "give that service other local_addresses, or narrow runtime.local_ports";
                refuse(format!("service[{other_index}].ports"), problem, remedy);
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["10.0.0.2/24", "2001:db8::2/64"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.1.0.1/24", "10.2.0.1/24", "2001:db8:1::1/64"]
[[route]]
to = "10.9.0.0/16"
via = "10.2.0.254"
[[service]]
name = "web"
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "full-nat"
backend = [{ address = "10.1.0.11:8080" }, { address = "10.9.0.12:8080" }, { address = "10.0.0.13:8080" }]
"#;

    fn locals(text: &str) -> Vec<Vec<String>> {
        let config = Config::parse(text, "test").unwrap();
        assert_eq!(refusals(&config), []);
        let model = Model::default().with(&config.services, 1).unwrap();
        let by_slot = by_slot(&model, &config, &Snapshot::default());
        let of = |slot: u32| by_slot[slot as usize].iter().map(ToString::to_string).collect();
        model.services[0].backends.iter().map(|backend| of(backend.slot)).collect()
    }

    fn refused(text: &str) -> String {
        let errors = refusals(&Config::parse(text, "test").unwrap());
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_port_towards_a_backend_lends_its_address() {
        assert_eq!(locals(TEXT), [["10.1.0.1"], ["10.2.0.1"], ["10.0.0.2"]]);
        let config = Config::parse(&TEXT.replace("full-nat", "nat"), "test").unwrap();
        let model = Model::default().with(&config.services, 1).unwrap();
        assert!(by_slot(&model, &config, &Snapshot::default()).is_empty(), "nat needs none");
    }

    #[test]
    fn named_addresses_come_first() {
        let named = TEXT.replace(
            "\"full-nat\"",
            "\"full-nat\"\nlocal_addresses = [\"10.1.0.50\", \"10.1.0.51\", \"2001:db8:1::5\"]",
        );
        assert_eq!(locals(&named), [["10.1.0.50", "10.1.0.51"]; 3]);
        let foreign = TEXT.replace("\"full-nat\"", "\"full-nat\"\nlocal_addresses = [\"2001:db8:1::5\"]");
        assert!(
            refused(&foreign).contains("no local address from which 10.1.0.11 can be reached"),
            "{}",
            refused(&foreign)
        );
    }

    #[test]
    fn backends_that_go_keep_theirs() {
        let config = Config::parse(TEXT, "test").unwrap();
        let before = Model::default().with(&config.services, 1).unwrap();
        let local_addresses = by_slot(&before, &config, &Snapshot::default());
        let former = Snapshot::new(Parts { local_addresses, ..Parts::default() });
        let emptied = Config { services: Vec::new(), ..config };
        let after = before.with(&emptied.services, 2).unwrap();
        let kept = by_slot(&after, &emptied, &former);
        let slot = before.services[0].backends[1].slot;
        assert_eq!(*kept[slot as usize], [IpAddr::from([10, 2, 0, 1])]);
    }

    #[test]
    fn backends_of_either_family_find_an_address_of_theirs() {
        let mixed = TEXT.replace("10.1.0.11:8080", "[2001:db8:1::11]:8080");
        assert_eq!(locals(&mixed), [["2001:db8:1::1"], ["10.2.0.1"], ["10.0.0.2"]]);
        let named = mixed.replace(
            "\"full-nat\"",
            "\"full-nat\"\nlocal_addresses = [\"10.1.0.50\", \"2001:db8:1::5\", \"2001:db8:1::6\"]",
        );
        assert_eq!(locals(&named), [&["2001:db8:1::5", "2001:db8:1::6"][..], &["10.1.0.50"], &["10.1.0.50"]]);
        let without = mixed.replace(", \"2001:db8:1::1/64\"", "");
        assert_eq!(
            refused(&without.replace("[2001:db8:1::11]", "[2001:db8::11]")),
            "",
            "the other port has one"
        );
        let narrow = mixed.replace("\"full-nat\"", "\"full-nat\"\nlocal_addresses = [\"10.1.0.50\"]");
        let problem = refused(&narrow);
        assert!(problem.contains("no local address from which 2001:db8:1::11 can be reached"), "{problem}");
        assert!(problem.contains("add an IPv6 address to local_addresses"), "{problem}");
    }

    #[test]
    fn answers_do_not_look_like_requests() {
        let second = format!(
            "{TEXT}[[service]]\nname = \"dns\"\nvip = \"10.1.0.1\"\nports = \"5353\"\nprotocol = \"udp\"\nmode = \"nat\"\n\
             backend = [{{ address = \"10.1.0.11:53\" }}]\n"
        );
        assert!(
            refused(&second).contains("10.1.0.1 is a local address of service \"web\""),
            "{}",
            refused(&second)
        );
        assert_eq!(refused(&second.replace("5353", "53")), "");
    }
}
