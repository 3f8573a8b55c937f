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
pub struct RouteTable(Vec<Route>);

impl RouteTable {
    pub fn new(mut routes: Vec<Route>) -> Self {
        // Stable: of equal prefixes the first wins, on-link ones before gateways.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.to.length()), route.via.is_some()));
        Self(routes)
    }

    /// The next hop towards `destination`.
    pub fn resolve(&self, destination: IpAddr) -> Option<NextHop> {
        let route = self.0.iter().find(|route| route.to.contains(destination))?;
        Some(NextHop { port: route.port, address: route.via.unwrap_or(destination) })
    }

    /// The port on whose link `address` is.
    pub fn on_link(&self, address: IpAddr) -> Option<PortId> {
        self.0.iter().find(|route| route.via.is_none() && route.to.contains(address)).map(|route| route.port)
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
