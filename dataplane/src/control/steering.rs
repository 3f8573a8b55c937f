//! Choosing at start how connections are steered: which ends of a packet each port should hash, and, once the drivers have
//! said what they do, whose hash names the owners.

use crate::flow::Secret;
use crate::io::{RssFields, RssState};
use crate::snapshot::{Parts, Port as SnapshotPort, Snapshot};
use crate::steering::deal::Dealt;
use crate::steering::toeplitz::{KEY, Toeplitz};
use crate::steering::{Spread, Steering};
use crate::vlan::Place;
use ctl::api::{Delivery, OwnerBy, PortSide, PortSteering};
use ctl::config::{Config, Steering as Wish};

/// Packets of a port after which its hand-off ratio says something.
const EVIDENCE: u64 = 10_000;
/// More hand-offs than this contradict a hash that was computed. Fragments, errors, and what came before a change of
/// configuration may be handed off with every right.
const MOST: f64 = 0.05;
/// A share of a port's packets that arrives on one of several queues and contradicts spreading.
const ALL: f64 = 0.999;

/// Where the packets of each port come from, as far as the configuration tells.
pub fn sides(config: &Config) -> Vec<PortSide> {
    let ports = config.ports.iter();
    let routes = config.routes.iter();
    let snapshot = Snapshot::new(Parts {
        ports: ports
            .map(|port| SnapshotPort {
                mac: crate::wire::ethernet::Mac([0; 6]),
                mtu: port.mtu,
                addresses: port.addresses.clone(),
                host: None,
            })
            .collect(),
        routes: routes.map(|route| (route.to, route.via)).collect(),
        ..Parts::default()
    });
    let backends: Vec<_> = config
        .services
        .iter()
        .flat_map(|service| &service.backends)
        .map(|backend| backend.address.ip)
        .collect();
    let (mut clients, mut servers) = (vec![false; config.ports.len()], vec![false; config.ports.len()]);
    let mark = |marks: &mut Vec<bool>, port| {
        if let Some(mark) = marks.get_mut(usize::from(port)) {
            *mark = true;
        }
    };
    for &backend in &backends {
        if let Some(hop) = snapshot.next_hop(backend) {
            mark(&mut servers, hop.port);
        }
    }
    // A route leads to clients, unless it is there for backends; and clients find a VIP on the link by its address.
    for route in &config.routes {
        let for_backends =
            route.to.length() > 0 && backends.iter().any(|&backend| route.to.contains(backend));
        if let (false, Some(port)) = (for_backends, snapshot.on_link(route.via)) {
            mark(&mut clients, port);
        }
    }
    for service in &config.services {
        if let Some(port) = snapshot.on_link(service.vip.address()) {
            mark(&mut clients, port);
        }
    }
    let nobody = !clients.contains(&true);
    clients
        .into_iter()
        .zip(servers)
        .map(|(clients, servers)| match (clients || nobody, servers) {
            (true, true) => PortSide::Both,
            (false, true) => PortSide::Backends,
            (_, false) => PortSide::Clients,
        })
        .collect()
}

/// The side of a device on which there are several ports: those of them that have addresses.
pub fn side_of_device(config: &Config, places: &[Place], sides: &[PortSide], device: usize) -> PortSide {
    let here =
        |id: &usize| usize::from(places[*id].device) == device && !config.ports[*id].addresses.is_empty();
    let mut sides = (0..places.len()).filter(here).map(|id| sides[id]);
    let first = sides.next().unwrap_or(PortSide::Clients);
    if sides.all(|side| side == first) { first } else { PortSide::Both }
}

/// What a port on that side should hash: the end that is the client's, or the balancer's own towards the backends. A port
/// with both kinds of packets hashes both ends, for the few addresses of the backends would fill few queues.
pub fn wanted_fields(wish: Wish, side: PortSide) -> RssFields {
    match side {
        _ if wish == Wish::Software => RssFields::FiveTuple,
        PortSide::Clients => RssFields::Source,
        PortSide::Backends => RssFields::Destination,
        PortSide::Both => RssFields::FiveTuple,
    }
}

/// A random key for all ports; `None` where the drivers' own will do.
pub fn rss_key(wish: Wish) -> std::io::Result<Option<Vec<u8>>> {
    /// As long as any driver's.
    const LENGTH: usize = 64;
    /// Redirection tables have up to 2^11 entries; eight of nine keys do.
    const BITS: u32 = 11;
    if wish == Wish::Software {
        return Ok(None);
    }
    let mut random = std::fs::File::open("/dev/urandom")?;
    loop {
        let mut key = vec![0; LENGTH];
        std::io::Read::read_exact(&mut random, &mut key)?;
        if Toeplitz::new(&key).is_some_and(|hash| hash.ports_reach_all(BITS)) {
            return Ok(Some(key));
        }
    }
}

/// An open port.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    pub side: PortSide,
    pub rss: Option<&'a RssState>,
    pub dealt: &'a Dealt,
}

impl Opened<'_> {
    /// What is known of its hash, if every worker is behind some value of it: one that is not would get no connection.
    fn known(&self, workers: u8) -> Option<Known<'_>> {
        let rss = self.rss.filter(|rss| rss.is_known())?;
        let receiver = |&queue: &u16| self.dealt.receivers.get(usize::from(queue)).copied();
        let table: Vec<u8> = rss.redirection.iter().map(receiver).collect::<Option<_>>()?;
        let all = (0..workers).all(|worker| table.contains(&worker));
        all.then_some(Known { key: rss.key.get(..KEY)?, workers: table })
    }

    fn ends(&self) -> Option<RssFields> {
        self.rss.map(|rss| rss.ends)
    }

    /// Whether it hashes the outer end: the client's, or that which the backends answer to.
    fn hashes_outer_end(&self) -> bool {
        matches!(
            (self.side, self.ends()),
            (PortSide::Clients, Some(RssFields::Source)) | (PortSide::Backends, Some(RssFields::Destination))
        )
    }
}

/// The hash of a port: its key, as far as packets use it, and the worker behind each value modulo their number.
#[derive(Debug, PartialEq, Eq)]
struct Known<'a> {
    key: &'a [u8],
    workers: Vec<u8>,
}

impl Known<'_> {
    fn spread(&self) -> Option<Spread> {
        Spread::new(self.key, self.workers.clone())
    }

    /// Whether a packet goes to the same worker by both, given that the same of it is hashed.
    fn is_alike(&self, other: &Self) -> bool {
        let length = self.workers.len().max(other.workers.len());
        let worker = |known: &Self, at: usize| known.workers[at % known.workers.len()];
        self.key == other.key && (0..length).all(|at| worker(self, at) == worker(other, at))
    }
}

/// Chooses the steering, and says by port what comes of it.
pub fn choose(
    wish: Wish,
    workers: u8,
    secret: Secret,
    ports: &[Opened<'_>],
) -> (Steering, Vec<PortSteering>) {
    let is_open = wish == Wish::Auto && workers > 1;
    let known: Vec<Option<Known<'_>>> =
        ports.iter().map(|port| port.known(workers).filter(|_| is_open)).collect();
    let first = |wanted: &dyn Fn(&Opened<'_>) -> bool| {
        let wanted = ports.iter().zip(&known).filter(|(port, _)| wanted(port));
        wanted.into_iter().find_map(|(_, known)| Some((known.as_ref()?, known.as_ref()?.spread()?)))
    };
    let outer = first(&|port| port.side == PortSide::Clients && port.hashes_outer_end());
    let both = first(&|port| port.ends() == Some(RssFields::FiveTuple));
    let (steering, owner_by, reference) = match (outer, both) {
        (Some((known, spread)), _) => {
            (Steering::one_end(workers, secret, spread), OwnerBy::RssOneEnd, Some(known))
        }
        (None, Some((known, spread))) => {
            (Steering::both_ends(workers, secret, spread), OwnerBy::RssBothEnds, Some(known))
        }
        (None, None) => (Steering::keyed(workers, secret), OwnerBy::Secret, None),
    };
    let delivery = |port: &Opened<'_>, known: Option<&Known<'_>>| {
        let alike = known.zip(reference).is_some_and(|(known, reference)| known.is_alike(reference));
        match owner_by {
            _ if workers == 1 => Delivery::Owner,
            OwnerBy::RssOneEnd if alike && port.hashes_outer_end() => Delivery::Owner,
            OwnerBy::RssBothEnds if alike && port.ends() == Some(RssFields::FiveTuple) => {
                Delivery::OwnerButNat
            }
            _ => Delivery::Any,
        }
    };
    let words = ports.iter().zip(&known).map(|(port, known)| PortSteering {
        side: port.side,
        owner_by,
        delivery: delivery(port, known.as_ref()),
        ..PortSteering::default()
    });
    let words = words.collect();
    (steering, words)
}

/// What arrived says otherwise than what the port is said to do.
pub fn contradiction(rss_in_use: bool, rx_queues: u16, steering: &PortSteering) -> Option<String> {
    if steering.rx_packets < EVIDENCE {
        return None;
    }
    let percent = 100.0 * steering.handoff_ratio;
    if steering.delivery == Delivery::Owner && steering.handoff_ratio > MOST {
        return Some(format!(
            "{percent:.0} % of what arrived had to be handed to another worker: the device hashes otherwise than RSS is \
             defined; steering = \"software\" is as good here"
        ));
    }
    let most = steering.rx_packets_by_worker.iter().max().copied().unwrap_or(0);
    if rss_in_use && rx_queues > 1 && most as f64 > ALL * steering.rx_packets as f64 {
        return Some(
            "RSS is in use, and one worker received everything: the device does not spread packets, or they are of one \
             flow"
                .into(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_ARM: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["10.0.0.2/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.1.0.1/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.1"
[[service]]
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
backend = [{ address = "10.1.0.11:80" }]
"#;

    fn sides_of(text: &str) -> Vec<PortSide> {
        sides(&Config::parse(text, "test").unwrap())
    }

    #[test]
    fn sides_follow_from_routes_backends_and_vips() {
        use PortSide::{Backends, Both, Clients};
        assert_eq!(sides_of(TWO_ARM), [Clients, Backends]);
        // Backends behind a router of their own.
        let far = TWO_ARM
            .replace("10.1.0.11:80", "10.9.0.11:80")
            .replace("[[service]]", "[[route]]\nto = \"10.9.0.0/16\"\nvia = \"10.1.0.254\"\n[[service]]");
        assert_eq!(sides_of(&far), [Clients, Backends]);
        // Backends that the default route leads to: one arm, however many ports there are.
        assert_eq!(sides_of(&TWO_ARM.replace("10.1.0.11:80", "203.0.113.7:80")), [Both, Clients]);
        // Clients on the link of the backends.
        assert_eq!(sides_of(&TWO_ARM.replace("192.0.2.10", "10.1.0.100")), [Clients, Both]);
        // No route at all: clients may be anywhere.
        let no_route = TWO_ARM.replace("[[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.0.0.1\"\n", "");
        assert_eq!(sides_of(&no_route), [Clients, Both]);
    }

    #[test]
    fn devices_are_on_the_sides_of_all_their_ports() {
        use PortSide::{Backends, Both, Clients};
        let stick = TWO_ARM
            .replace("device = \"net_null1\"", "parent = \"trunk\"\nvlan = 200")
            .replace("device = \"net_null0\"", "parent = \"trunk\"\nvlan = 100");
        let config =
            Config::parse(&format!("{stick}\n[[port]]\nname = \"trunk\"\ndevice = \"net_null0\"\n"), "test")
                .unwrap();
        let (sides, places) = (sides(&config), crate::vlan::places(&config));
        assert_eq!(sides, [Clients, Backends, Clients]);
        assert_eq!(side_of_device(&config, &places, &sides, 2), Both);
        // A port without addresses has no traffic of its own.
        assert_eq!(side_of_device(&config, &places, &[Backends, Backends, Clients], 2), Backends);
    }

    fn rss(ends: RssFields, queues: u16) -> RssState {
        // One key for all ports of a test.
        static KEY: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| rss_key(Wish::Auto).unwrap().unwrap());
        let redirection = (0..128).map(|n| n % queues).collect();
        RssState { ends, key: KEY.clone(), redirection, ..RssState::default() }
    }

    fn dealt(queues: u8) -> Dealt {
        Dealt {
            receivers: (0..queues).collect(),
            senders: (0..queues).collect(),
            sends_for: (0..queues).collect(),
        }
    }

    fn chosen(wish: Wish, workers: u8, ports: &[(PortSide, Option<RssState>)]) -> (OwnerBy, Vec<Delivery>) {
        let dealt = dealt(workers);
        let opened: Vec<_> = ports
            .iter()
            .map(|(side, rss)| Opened { side: *side, rss: rss.as_ref(), dealt: &dealt })
            .collect();
        let (steering, words) = choose(wish, workers, Secret::new([1; 48]), &opened);
        assert_eq!(steering.workers(), workers);
        (words[0].owner_by, words.iter().map(|port| port.delivery).collect())
    }

    #[test]
    fn the_hash_of_the_ports_names_owners_where_it_is_known() {
        use PortSide::{Backends, Both, Clients};
        let (source, destination) = (rss(RssFields::Source, 4), rss(RssFields::Destination, 4));
        let tuple = rss(RssFields::FiveTuple, 4);
        let two_arm = [(Clients, Some(source.clone())), (Backends, Some(destination.clone()))];
        assert_eq!(
            chosen(Wish::Auto, 4, &two_arm),
            (OwnerBy::RssOneEnd, vec![Delivery::Owner, Delivery::Owner])
        );
        assert_eq!(chosen(Wish::Software, 4, &two_arm).0, OwnerBy::Secret);
        assert_eq!(chosen(Wish::Auto, 1, &two_arm).0, OwnerBy::Secret);
        assert_eq!(
            chosen(Wish::Auto, 4, &[(Both, Some(tuple.clone()))]),
            (OwnerBy::RssBothEnds, vec![Delivery::OwnerButNat])
        );
        assert_eq!(chosen(Wish::Auto, 4, &[(Both, None)]), (OwnerBy::Secret, vec![Delivery::Any]));
        // The backends' port cannot: requests still arrive where they belong.
        assert_eq!(
            chosen(Wish::Auto, 4, &[(Clients, Some(source.clone())), (Backends, Some(tuple.clone()))]),
            (OwnerBy::RssOneEnd, vec![Delivery::Owner, Delivery::Any])
        );
        // Another key, or another table.
        let foreign = RssState { key: rss_key(Wish::Auto).unwrap().unwrap(), ..destination.clone() };
        let turned = RssState { redirection: (0..128).map(|n| (n + 1) % 4).collect(), ..destination };
        for other in [foreign, turned] {
            let ports = [(Clients, Some(source.clone())), (Backends, Some(other))];
            assert_eq!(chosen(Wish::Auto, 4, &ports).1, [Delivery::Owner, Delivery::Any]);
        }
        // Fewer queues than workers: somebody would stay idle.
        assert_eq!(chosen(Wish::Auto, 4, &[(Clients, Some(rss(RssFields::Source, 2)))]).0, OwnerBy::Secret);
    }

    #[test]
    fn what_arrives_may_contradict() {
        let port = |delivery, handoff_ratio, by_worker: &[u64]| PortSteering {
            delivery,
            rx_packets: by_worker.iter().sum(),
            handoff_ratio,
            rx_packets_by_worker: by_worker.to_vec(),
            ..PortSteering::default()
        };
        let said = |port: &PortSteering| contradiction(true, 2, port).unwrap_or_default();
        assert!(said(&port(Delivery::Owner, 0.5, &[50_000, 50_000])).starts_with("50 % of what arrived"));
        assert_eq!(said(&port(Delivery::Owner, 0.5, &[5_000, 1_000])), "");
        assert_eq!(said(&port(Delivery::Owner, 0.01, &[50_000, 50_000])), "");
        assert_eq!(said(&port(Delivery::Any, 0.5, &[50_000, 50_000])), "");
        assert!(said(&port(Delivery::Any, 0.5, &[50_000, 0])).contains("one worker received everything"));
        assert_eq!(contradiction(false, 2, &port(Delivery::Any, 0.5, &[50_000, 0])), None);
    }
}
