//! Services: what clients connect to, and finding the one that a packet is for.

use crate::affinity::Affinity;
use crate::conn::Timeouts;
use crate::scheduler::{HashFields, Scheduler};
use crate::wire::protocol;
use ctl::config::{Mode, Mss, Ports, Prefix, Protocol};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// A service as the packet path sees it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Number that stays with the service through every change of configuration.
    pub id: u32,
    pub protocol: Protocol,
    pub vip: Prefix,
    pub ports: Ports,
    pub mode: Mode,
    pub timeouts: Timeouts,
    /// What of a flow a scheduler hashes; with affinity it is the client's prefix instead.
    pub hash_fields: HashFields,
    /// A client stays with its backend.
    pub affinity: Option<Affinity>,
    /// What the MSS option of SYNs is limited to.
    pub mss: Option<Mss>,
    /// TCP segments in mid-connection that no entry knows are answered by a reset.
    pub resets_unknown: bool,
    pub scheduler: Arc<dyn Scheduler>,
}

/// The IP protocol number of `protocol`.
pub fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
    }
}

/// Finds services: longest prefix first, then the narrowest range of ports. Cost depends on the number of different
/// prefix lengths, not on the number of services: a probe each, and where a prefix has services a binary search among its
/// ranges.
#[derive(Debug, Default)]
pub struct ServiceTable {
    /// The usual case in one probe: a single address and a single port.
    exact_v4: FastMap<u64, u32>,
    exact_v6: FastMap<(u128, u64), u32>,
    /// By prefix length, longest first, per family.
    v4: Vec<(u8, FastMap<IpAddr, PortMaps>)>,
    v6: Vec<(u8, FastMap<IpAddr, PortMaps>)>,
}

/// The services of one prefix, by protocol.
#[derive(Debug, Default)]
struct PortMaps {
    tcp: PortMap,
    udp: PortMap,
}

impl PortMaps {
    fn find(&self, protocol: u8, port: u16) -> Option<u32> {
        match protocol {
            protocol::TCP => self.tcp.find(port),
            protocol::UDP => self.udp.find(port),
            _ => None,
        }
    }
}

/// The services of one prefix and protocol: the port where each piece begins, and the service of the narrowest range there.
#[derive(Debug, Default)]
struct PortMap(Box<[(u16, Option<u32>)]>);

/// A range begins (or ended just before): how many ports it has, and its service.
type Bound = (bool, (u16, u32));

impl PortMap {
    fn new(ranges: &[(Ports, u32)]) -> Self {
        // By port: the ranges that begin there, and those that end before it.
        let mut bounds: BTreeMap<u32, Vec<Bound>> = BTreeMap::new();
        for &(ports, service) in ranges {
            let range = (ports.count(), service);
            bounds.entry(ports.first().into()).or_default().push((true, range));
            bounds.entry(u32::from(ports.last()) + 1).or_default().push((false, range));
        }
        let mut open = BTreeSet::new();
        let mut pieces = Vec::with_capacity(bounds.len());
        for (port, changes) in bounds {
            for (begins, range) in changes {
                if begins {
                    open.insert(range);
                } else {
                    open.remove(&range);
                }
            }
            // Beyond the last port nothing begins.
            pieces.extend(
                u16::try_from(port).ok().map(|port| (port, open.first().map(|&(_, service)| service))),
            );
        }
        Self(pieces.into())
    }

    fn find(&self, port: u16) -> Option<u32> {
        let after = self.0.partition_point(|&(begin, _)| begin <= port);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

impl ServiceTable {
    /// A table over `services`, each known by its position.
    pub fn new(services: &[Service]) -> Self {
        let mut table = Self::default();
        let mut ranges: HashMap<Prefix, [Vec<(Ports, u32)>; 2]> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            let number = protocol_number(service.protocol);
            if let (true, Some(port)) = (service.vip.is_host(), service.ports.single()) {
                let rest = u64::from(port) << 8 | u64::from(number);
                match service.vip.address() {
                    IpAddr::V4(vip) => {
                        table.exact_v4.insert(u64::from(u32::from(vip)) << 24 | rest, index as u32)
                    }
                    IpAddr::V6(vip) => table.exact_v6.insert((u128::from(vip), rest), index as u32),
                };
            }
            let [tcp, udp] = ranges.entry(service.vip).or_default();
            let list = if service.protocol == Protocol::Tcp { tcp } else { udp };
            list.push((service.ports, index as u32));
        }
        for (prefix, [tcp, udp]) in ranges {
            let lengths = if prefix.is_ipv6() { &mut table.v6 } else { &mut table.v4 };
            let at = lengths.iter().position(|(length, _)| *length == prefix.length()).unwrap_or_else(|| {
                lengths.push((prefix.length(), FastMap::default()));
                lengths.len() - 1
            });
            let maps = PortMaps { tcp: PortMap::new(&tcp), udp: PortMap::new(&udp) };
            lengths[at].1.insert(prefix.address(), maps);
        }
        for lengths in [&mut table.v4, &mut table.v6] {
            lengths.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        }
        table
    }

    /// Position of the service for packets to `address` and `port`.
    pub fn find(&self, protocol: u8, address: IpAddr, port: u16) -> Option<u32> {
        let rest = u64::from(port) << 8 | u64::from(protocol);
        let exact = match address {
            IpAddr::V4(vip) => self.exact_v4.get(&(u64::from(u32::from(vip)) << 24 | rest)),
            IpAddr::V6(vip) => self.exact_v6.get(&(u128::from(vip), rest)),
        };
        if let Some(&service) = exact {
            return Some(service);
        }
        self.prefixes(address).find_map(|maps| maps.find(protocol, port))
    }

    /// Whether some service has `address`.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.prefixes(address).next().is_some()
    }

    fn prefixes(&self, address: IpAddr) -> impl Iterator<Item = &PortMaps> {
        let lengths = if address.is_ipv6() { &self.v6 } else { &self.v4 };
        lengths
            .iter()
            .filter_map(move |(length, prefixes)| prefixes.get(&Prefix::new(address, *length)?.address()))
    }
}

/// A map with a cheap hash, for keys that come from the configuration: nobody outside chooses them.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FoldHasher>>;

/// Likewise a set.
pub(crate) type FastSet<K> = HashSet<K, BuildHasherDefault<FoldHasher>>;

/// Multiply and fold.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FoldHasher(u64);

impl FoldHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x2d35_8dcc_aa6c_78a5) * 0x8bb8_4b93_962e_acc9_u128;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::RoundRobin;
    use proptest::prelude::*;

    fn service(vip: &str, ports: &str, protocol: Protocol) -> Service {
        Service {
            id: 0,
            protocol,
            vip: vip.parse().unwrap(),
            ports: ports.parse().unwrap(),
            mode: Mode::Nat,
            timeouts: Timeouts::default(),
            hash_fields: HashFields::ALL,
            affinity: None,
            mss: None,
            resets_unknown: false,
            scheduler: Arc::new(RoundRobin::new(&[])),
        }
    }

    #[test]
    fn the_most_specific_wins() {
        let table = ServiceTable::new(&[
            service("192.0.2.0/24", "*", Protocol::Tcp),
            service("192.0.2.10", "100-200", Protocol::Tcp),
            service("192.0.2.10", "150", Protocol::Tcp),
            service("192.0.2.10", "150", Protocol::Udp),
            service("2001:db8::/32", "80", Protocol::Tcp),
        ]);
        let find = |protocol, ip: &str, port| table.find(protocol, ip.parse().unwrap(), port);
        assert_eq!(find(6, "192.0.2.10", 150), Some(2));
        assert_eq!(find(17, "192.0.2.10", 150), Some(3));
        assert_eq!(find(6, "192.0.2.10", 151), Some(1));
        // No range of the longer prefix has the port: the shorter one does.
        assert_eq!(find(6, "192.0.2.10", 99), Some(0));
        assert_eq!(find(17, "192.0.2.10", 99), None);
        assert_eq!(find(6, "192.0.3.10", 99), None);
        assert_eq!(find(6, "2001:db8:1::5", 80), Some(4));
        assert!(table.is_vip("192.0.2.77".parse().unwrap()));
        assert!(!table.is_vip("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn every_port_of_a_vip_with_thousands_of_services() {
        let vip = "192.0.2.10";
        let mut services = vec![service(vip, "*", Protocol::Tcp)];
        for n in 0..4000u16 {
            let first = 1000 + n * 10;
            services.push(service(vip, &format!("{first}-{}", first + 4), Protocol::Tcp));
        }
        let table = ServiceTable::new(&services);
        for port in 1..=u16::MAX {
            let (n, rest) = (port.saturating_sub(1000) / 10, port.saturating_sub(1000) % 10);
            let narrow = port >= 1000 && rest < 5 && n < 4000;
            let wanted = if narrow { u32::from(n) + 1 } else { 0 };
            assert_eq!(table.find(6, vip.parse().unwrap(), port), Some(wanted), "{port}");
        }
        assert_eq!(table.find(17, vip.parse().unwrap(), 80), None);
        assert_eq!(table.find(6, vip.parse().unwrap(), 0), None);
    }

    proptest! {
        /// Both families, nested prefixes and ranges, `*` among them, against a look at every service.
        #[test]
        fn any_services_agree_with_a_scan(
            list in proptest::collection::vec(
                (any::<bool>(), 0u8..=8, 0u8..8, 0u16..40, 0u16..40, any::<bool>(), any::<bool>()), 0..40,
            ),
            lows in proptest::collection::vec((any::<bool>(), 0u8..8, 0u16..50, any::<bool>()), 1..30),
        ) {
            let address = |v6: bool, low: u8| -> IpAddr {
                // Bits that prefixes of up to eight bits tell apart stand at the front.
                let first = low.reverse_bits();
                if v6 { IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]) } else { [first, 0, 0, 1].into() }
            };
            let services: Vec<Service> = list.iter().map(|&(v6, length, low, first, more, any, tcp)| Service {
                vip: Prefix::new(address(v6, low), length).unwrap(),
                ports: if any { Ports::ANY } else { Ports::new(1 + first, 1 + first + more).unwrap() },
                ..service("192.0.2.0", "1", if tcp { Protocol::Tcp } else { Protocol::Udp })
            }).collect();
            let table = ServiceTable::new(&services);
            for (v6, low, port, tcp) in lows {
                let (address, protocol) = (address(v6, low), if tcp { 6 } else { 17 });
                let best = services.iter().enumerate().filter(|(_, s)| {
                    protocol_number(s.protocol) == protocol && s.vip.contains(address) && s.ports.contains(port)
                }).map(|(i, s)| (std::cmp::Reverse(s.vip.length()), s.ports.count(), i as u32)).min();
                let rank = |i: u32| {
                    let s = &services[i as usize];
                    (std::cmp::Reverse(s.vip.length()), s.ports.count())
                };
                let found = table.find(protocol, address, port).map(rank);
                prop_assert_eq!(found, best.map(|(length, count, _)| (length, count)));
            }
        }

        #[test]
        fn agrees_with_a_scan(
            list in proptest::collection::vec((0u32..4, 28u8..=32, 1u16..10, 0u16..6, any::<bool>()), 0..12),
            low in 0u8..16, port in 1u16..12, udp: bool,
        ) {
            let services: Vec<Service> = list.iter().map(|&(a, length, first, more, tcp)| Service {
                vip: Prefix::new([192, 0, 2, (a * 5) as u8].into(), length).unwrap(),
                ports: Ports::new(first, first + more).unwrap(),
                ..service("192.0.2.0", "1", if tcp { Protocol::Tcp } else { Protocol::Udp })
            }).collect();
            let address: IpAddr = [192, 0, 2, low].into();
            let protocol = if udp { 17 } else { 6 };
            let best = services.iter().filter(|s| {
                protocol_number(s.protocol) == protocol && s.vip.contains(address) && s.ports.contains(port)
            }).map(|s| (std::cmp::Reverse(s.vip.length()), s.ports.count())).min();
            let found = ServiceTable::new(&services).find(protocol, address, port).map(|i| &services[i as usize]);
            prop_assert_eq!(found.map(|s| (std::cmp::Reverse(s.vip.length()), s.ports.count())), best);
        }
    }
}
