//! Routes: from a destination to the port and the neighbour that take it there.

use ctl::config::Prefix;
use std::net::IpAddr;

/// Number of a port: its position in the configuration.
pub type PortId = u8;

/// The neighbour that a packet is handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    pub port: PortId,
    pub address: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub to: Prefix,
    pub port: PortId,
    /// `None`: the destination is on the link.
    pub via: Option<IpAddr>,
}

/// All routes, longest prefix first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    v4: Vec<Masked<u32>>,
    v6: Vec<Masked<u128>>,
}

/// A route whose prefix is ready to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Masked<T> {
    network: T,
    mask: T,
    port: PortId,
    via: Option<IpAddr>,
}

impl RouteTable {
    pub fn new(mut routes: Vec<Route>) -> Self {
        // Stable: of equal prefixes the first wins, on-link ones before gateways.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.to.length()), route.via.is_some()));
        let mut table = Self::default();
        for Route { to, port, via } in routes {
            let length = u32::from(to.length());
            match to.address() {
                IpAddr::V4(network) => {
                    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                    table.v4.push(Masked { network: u32::from(network), mask, port, via });
                }
                IpAddr::V6(network) => {
                    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                    table.v6.push(Masked { network: u128::from(network), mask, port, via });
                }
            }
        }
        table
    }

    /// Port and gateway of the longest matching prefix for which `wanted` holds.
    #[inline]
    fn find(
        &self,
        destination: IpAddr,
        wanted: impl Fn(Option<IpAddr>) -> bool,
    ) -> Option<(PortId, Option<IpAddr>)> {
        fn search<T: Copy + PartialEq + std::ops::BitAnd<Output = T>>(
            routes: &[Masked<T>],
            address: T,
            wanted: impl Fn(Option<IpAddr>) -> bool,
        ) -> Option<(PortId, Option<IpAddr>)> {
            let route = routes.iter().find(|r| address & r.mask == r.network && wanted(r.via))?;
            Some((route.port, route.via))
        }
        match destination {
            IpAddr::V4(address) => search(&self.v4, u32::from(address), wanted),
            IpAddr::V6(address) => search(&self.v6, u128::from(address), wanted),
        }
    }

    /// The next hop towards `destination`.
    pub fn resolve(&self, destination: IpAddr) -> Option<NextHop> {
        let (port, via) = self.find(destination, |_| true)?;
        Some(NextHop { port, address: via.unwrap_or(destination) })
    }

    /// The port on whose link `address` is.
    pub fn on_link(&self, address: IpAddr) -> Option<PortId> {
        self.find(address, |via| via.is_none()).map(|(port, _)| port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_and_gateways() {
        let route = |to: &str, port, via: Option<&str>| Route {
            to: to.parse().unwrap(),
            port,
            via: via.map(|via| via.parse().unwrap()),
        };
        let table = RouteTable::new(vec![
            route("0.0.0.0/0", 0, Some("10.0.0.1")),
            route("10.0.0.0/24", 0, None),
            route("10.1.0.0/24", 1, None),
            route("10.1.0.128/25", 0, Some("10.0.0.9")),
        ]);
        let resolve =
            |to: &str| table.resolve(to.parse().unwrap()).map(|hop| (hop.port, hop.address.to_string()));
        assert_eq!(resolve("198.51.100.7"), Some((0, "10.0.0.1".into())));
        assert_eq!(resolve("10.1.0.11"), Some((1, "10.1.0.11".into())));
        assert_eq!(resolve("10.1.0.200"), Some((0, "10.0.0.9".into())));
        assert_eq!(resolve("2001:db8::1"), None);
        assert_eq!(table.on_link("10.0.0.77".parse().unwrap()), Some(0));
        assert_eq!(table.on_link("198.51.100.7".parse().unwrap()), None);
    }
}
