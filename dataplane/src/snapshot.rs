//! The immutable forwarding state that workers read.
//!
//! The control thread builds a new snapshot for every change; workers pick it up between bursts. What did not change
//! (schedulers, above all) is shared with the one before.

use crate::conn::Timeouts;
use crate::locality::Locality;
use crate::route::{NextHop, PortId, Route, RouteTable};
use crate::service::{FastMap, FastSet, Service, ServiceTable};
use crate::tunnel::{self, TunnelEnd, Way};
use crate::wire::ethernet::Mac;
use ctl::config::{InterfaceAddress, Mode, Prefix};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// All that workers know of the configuration.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u32,
    services: Vec<Service>,
    table: ServiceTable,
    backends: Vec<Option<Backend>>,
    /// By slot of the backend; shorter if the last ones have none.
    tunnels: Vec<Option<Way>>,
    /// The far ends of all tunnels.
    tunnel_ends: FastSet<TunnelEnd>,
    /// What packets with a DSCP for a backend came to, with L3DSR.
    readdressed: FastMap<(IpAddr, u8), IpAddr>,
    ports: Vec<Port>,
    routes: RouteTable,
    locals: FastMap<IpAddr, PortId>,
    /// The addresses that the host's kernel has too, and the ports that its interfaces stand for.
    hosts: FastMap<IpAddr, PortId>,
    /// Of `locals` and the VIPs.
    locality: Locality,
    /// Addresses of backends on a link, and the port that leads there.
    neighbors: FastMap<IpAddr, PortId>,
    /// By backend slot.
    local_addresses: Vec<Arc<[IpAddr]>>,
    resetting: Vec<u32>,
    crossings: Vec<(u32, Prefix)>,
    /// Where IPv4 packets of connections between address families go to.
    crossed: Locality,
}

/// A backend, by its slot. Slots stay with a backend for as long as any worker holds a connection to it, so that a
/// connection's slot always means the backend that it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    pub address: IpAddr,
    /// `None`: the port that the client asked for.
    pub port: Option<u16>,
    /// Position of its service; meaningless once removed.
    pub service: u32,
    pub timeouts: Timeouts,
    /// No longer in the configuration. TCP connections go on to their end; datagrams go elsewhere.
    pub removed: bool,
    /// Takes new connections right now.
    pub serving: bool,
}

/// A port as the packet path sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub mac: Mac,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    pub addresses: Vec<InterfaceAddress>,
    /// Packets a second for the host's kernel; `None`: it has no interface for this port.
    pub host: Option<u32>,
}

impl Port {
    /// The address that every IPv6 interface has (RFC 4291 section 2.5.6, with the identifier of appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// What a snapshot is built from.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    pub generation: u32,
    pub services: Vec<Service>,
    /// By slot.
    pub backends: Vec<Option<Backend>>,
    /// Tunnels to backends, by slot; shorter if the last ones have none.
    pub tunnels: Vec<Option<Arc<tunnel::Options>>>,
    pub ports: Vec<Port>,
    /// Beside those that follow from the ports' addresses.
    pub routes: Vec<(Prefix, IpAddr)>,
    /// By slot: the addresses that backends of `full-nat` see in place of the clients'. Backends beyond the end have none.
    pub local_addresses: Vec<Arc<[IpAddr]>>,
    /// Slots of backends whose connections are to be reset, in order.
    pub resetting: Vec<u32>,
    /// Slots of backends that connections between address families may be left of, and the VIP of these.
    pub crossings: Vec<(u32, Prefix)>,
}

/// Stands for no port: nobody on any link is told about an address of it.
const NO_PORT: PortId = PortId::MAX;

impl Snapshot {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            generation,
            services,
            backends,
            tunnels,
            ports,
            routes,
            local_addresses,
            resetting,
            mut crossings,
        } = parts;
        let mut locals = FastMap::default();
        let mut hosts = FastMap::default();
        let mut list = Vec::new();
        for (id, port) in ports.iter().enumerate() {
            let id = id as PortId;
            for address in &port.addresses {
                locals.insert(address.address(), id);
                list.push(Route { to: address.subnet(), port: id, via: None });
            }
            locals.entry(port.link_local().into()).or_insert(id);
            if port.host.is_some() {
                let all = port.addresses.iter().map(|own| own.address());
                hosts.extend(all.chain([port.link_local().into()]).map(|address| (address, id)));
            }
        }
        let on_link = RouteTable::new(list.clone());
        for (to, via) in routes {
            if let Some(port) = on_link.on_link(via) {
                list.push(Route { to, port, via: Some(via) });
            }
        }
        for &address in local_addresses.iter().flat_map(|list| &**list) {
            let link = on_link.on_link(address).unwrap_or(NO_PORT);
            locals.entry(address).or_insert(link);
        }
        let routes = RouteTable::new(list);
        let mut ways = Vec::with_capacity(tunnels.len());
        for (options, backend) in tunnels.iter().zip(&backends) {
            ways.push(options.as_ref().zip(backend.as_ref()).and_then(|(options, backend)| {
                Way::new(options, backend.address, own_towards(&routes, &ports, backend.address))
            }));
        }
        // Routers complain about what comes from these addresses to these addresses.
        for source in tunnels.iter().flatten().flat_map(|options| options.sources()) {
            if let Some(port) = on_link.on_link(source) {
                locals.entry(source).or_insert(port);
            }
        }
        let mut locality = Locality::default();
        for service in &services {
            locality.add(service.vip);
        }
        for &address in locals.keys() {
            locality.add_host(address);
        }
        let crossed = cross(&services, &backends, &local_addresses, &mut crossings);
        let near = |address| on_link.on_link(address).map(|port| (address, port));
        let neighbors = backends
            .iter()
            .flatten()
            .filter(|one| !one.removed)
            .filter_map(|one| near(one.address))
            .collect();
        Self {
            neighbors,
            generation,
            table: ServiceTable::new(&services),
            services,
            backends,
            tunnel_ends: ways.iter().flatten().filter_map(Way::end).collect(),
            readdressed: ways.iter().flatten().filter_map(Way::readdressing).map(named).collect(),
            tunnels: ways,
            ports,
            routes,
            locals,
            hosts,
            locality,
            local_addresses,
            resetting,
            crossings,
            crossed,
        }
    }

    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Position in [`Snapshot::services`] of the service for packets to `address` and `port`.
    pub fn find_service(&self, protocol: u8, address: IpAddr, port: u16) -> Option<usize> {
        self.table.find(protocol, address, port).map(|index| index as usize)
    }

    #[inline]
    pub fn backend(&self, slot: u32) -> Option<&Backend> {
        self.backends.get(slot as usize)?.as_ref()
    }

    /// Whether the connections of the backend in `slot` have to end.
    #[inline]
    pub fn is_resetting(&self, slot: u32) -> bool {
        !self.resetting.is_empty() && self.resetting.binary_search(&slot).is_ok()
    }

    /// Slots of the backends whose connections have to end, in order.
    pub fn resetting(&self) -> &[u32] {
        &self.resetting
    }

    /// By slot.
    pub fn backends(&self) -> &[Option<Backend>] {
        &self.backends
    }

    /// The tunnel to the backend in `slot`, if there is one.
    pub fn tunnel(&self, slot: u32) -> Option<&Way> {
        self.tunnels.get(slot as usize)?.as_ref()
    }

    /// Whether some tunnel leads to `end`.
    pub fn is_tunnel_end(&self, end: TunnelEnd) -> bool {
        self.tunnel_ends.contains(&end)
    }

    /// The VIP that packets to `address` with this DSCP were for before L3DSR sent them there.
    pub fn before_l3dsr(&self, address: IpAddr, dscp: u8) -> Option<IpAddr> {
        self.readdressed.get(&(address, dscp)).copied()
    }

    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The addresses that the backend in `slot` may see in place of its clients'; none if it is not one of `full-nat`.
    #[inline]
    pub fn local_addresses(&self, slot: u32) -> &[IpAddr] {
        self.local_addresses.get(slot as usize).map_or(&[], |list| list)
    }

    /// By slot, as in [`Parts::local_addresses`].
    pub fn local_address_lists(&self) -> &[Arc<[IpAddr]>] {
        &self.local_addresses
    }

    /// The next hop towards `destination`.
    pub fn next_hop(&self, destination: IpAddr) -> Option<NextHop> {
        self.routes.resolve(destination)
    }

    /// The port on whose link `address` is.
    pub fn on_link(&self, address: IpAddr) -> Option<PortId> {
        self.routes.on_link(address)
    }

    /// The address of its own that the balancer has to speak from, where the answers would go past it: `client` is itself a
    /// backend, on the same link as the backend at `address`.
    pub fn hairpin(&self, client: IpAddr, address: IpAddr) -> Option<IpAddr> {
        let port = self.neighbors.get(&client)?;
        if self.neighbors.get(&address) != Some(port) {
            return None;
        }
        own_towards(&self.routes, &self.ports, address)
    }

    /// Whether `address` is that of a backend on a link.
    pub fn is_near_backend(&self, address: IpAddr) -> bool {
        self.neighbors.contains_key(&address)
    }

    /// Whether there are connections between address families, or may be.
    #[inline]
    pub fn translates(&self) -> bool {
        !self.crossings.is_empty()
    }

    /// Backends of connections between address families, by slot and VIP.
    pub fn crossings(&self) -> &[(u32, Prefix)] {
        &self.crossings
    }

    /// Whether IPv4 packets to `address` may belong to such a connection. A coarse question, with a quick no.
    #[inline]
    pub fn crosses(&self, address: IpAddr) -> bool {
        self.translates() && self.crossed.may_hold(address)
    }

    /// Whether the balancer answers for `address` on `port`: an address of that port, or a VIP.
    pub fn answers_for(&self, address: IpAddr, port: PortId) -> bool {
        match self.locals.get(&address) {
            Some(&owner) if owner == port => true,
            // Sub-interfaces have the hardware address of their device, so they share the link-local address.
            Some(_) => self.ports.get(usize::from(port)).is_some_and(|port| address == port.link_local()),
            None => self.table.is_vip(address),
        }
    }

    /// Whether `address` is one of a port's own.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.locals.contains_key(&address)
    }

    /// Whether the host's kernel has an interface for `port`.
    #[inline]
    pub fn has_host(&self, port: PortId) -> bool {
        !self.hosts.is_empty() && self.ports.get(usize::from(port)).is_some_and(|port| port.host.is_some())
    }

    /// The port whose interface on the host has `address`.
    pub fn host_of(&self, address: IpAddr) -> Option<PortId> {
        self.hosts.get(&address).copied()
    }

    /// Whether `address` is one of the balancer's own, on whatever port, or a VIP.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.locality.may_hold(address) && (self.locals.contains_key(&address) || self.table.is_vip(address))
    }
}

/// How a backend knows the VIP of a packet.
fn named(way: &tunnel::Readdressing) -> ((IpAddr, u8), IpAddr) {
    ((way.backend(), way.mark().dscp), way.mark().vip)
}

/// Adds to `crossings` the backends of another family than their VIP; where IPv4 packets of their connections go to.
fn cross(
    services: &[Service],
    backends: &[Option<Backend>],
    local_addresses: &[Arc<[IpAddr]>],
    crossings: &mut Vec<(u32, Prefix)>,
) -> Locality {
    let known: FastSet<(u32, Prefix)> = crossings.iter().copied().collect();
    for (slot, backend) in backends.iter().enumerate() {
        let Some(backend) = backend.filter(|backend| !backend.removed) else { continue };
        let Some(service) = services.get(backend.service as usize) else { continue };
        let crossing = (slot as u32, service.vip);
        if service.mode == Mode::FullNat
            && service.vip.is_ipv6() != backend.address.is_ipv6()
            && !known.contains(&crossing)
        {
            crossings.push(crossing);
        }
    }
    let mut crossed = Locality::default();
    for &(slot, vip) in &*crossings {
        // On whichever side it is IPv4.
        crossed.add(vip);
        for &local in local_addresses.get(slot as usize).into_iter().flat_map(|list| &**list) {
            crossed.add_host(local);
        }
    }
    crossed
}

/// The balancer's own address for packets to `destination`: of the port that leads there, on the next hop's subnet.
fn own_towards(routes: &RouteTable, ports: &[Port], destination: IpAddr) -> Option<IpAddr> {
    let hop = routes.resolve(destination)?;
    let addresses = &ports.get(usize::from(hop.port))?.addresses;
    let near = addresses.iter().find(|own| own.subnet().contains(hop.address));
    let any = || addresses.iter().find(|own| own.address().is_ipv6() == destination.is_ipv6());
    near.or_else(any).map(|own| own.address())
}
