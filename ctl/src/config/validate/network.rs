//! `[[port]]` and `[[route]]`

use super::{bad_name, duplicates, not_a_host, on_line};
use crate::config::read::Reader;
use crate::config::{Config, InterfaceAddress, Port};
use std::net::IpAddr;

/// RFC 791: every host takes 68 bytes; more than 9728 is beyond what Ethernet devices carry.
const MTU: std::ops::RangeInclusive<u16> = 68..=9728;
/// RFC 8200, section 5.
const MIN_IPV6_MTU: u16 = 1280;
const DESCRIPTORS: std::ops::RangeInclusive<u16> = 32..=32_768;

pub(super) fn check_ports(reader: &mut Reader, config: &Config) {
    for (index, port) in config.ports.iter().enumerate() {
        check_port(reader, &format!("port[{index}]"), port);
    }
    let ports = &config.ports;
    duplicates(ports.iter().map(|port| &port.name), |first, index| {
        let line = on_line(reader, &format!("port[{first}].name"));
        let problem = format!("the port {:?} exists already{line}", ports[index].name);
        reader.error(&format!("port[{index}].name"), problem, "give each port its own name");
    });
    let devices: Vec<usize> = (0..ports.len()).filter(|&index| ports[index].parent.is_none()).collect();
    duplicates(devices.iter().map(|&index| device_identity(&ports[index].device)), |first, index| {
        let (first, index) = (devices[first], devices[index]);
        let line = on_line(reader, &format!("port[{first}].device"));
        let problem =
            format!("the device {:?} is that of port {:?}{line}", ports[index].device, ports[first].name);
        reader.error(&format!("port[{index}].device"), problem, "use each device for one port");
    });
    let addresses: Vec<_> = ports
        .iter()
        .enumerate()
        .flat_map(|(port, it)| {
            it.addresses.iter().enumerate().map(move |(item, address)| (port, item, *address))
        })
        .collect();
    let path = |at: usize| format!("port[{}].addresses[{}]", addresses[at].0, addresses[at].1);
    duplicates(addresses.iter().map(|(_, _, address)| address.address()), |first, index| {
        let line = on_line(reader, &path(first));
        let name = &ports[addresses[first].0].name;
        let problem =
            format!("{} is already an address of port {name:?}{line}", addresses[index].2.address());
        reader.error(&path(index), problem, "give each port its own addresses");
    });
}

/// What makes two devices the same: a vdev's name, or a PCI address without arguments and domain.
fn device_identity(device: &str) -> String {
    let name = device.split(',').next().unwrap_or(device).trim().to_ascii_lowercase();
    name.strip_prefix("0000:").map_or(name.clone(), str::to_owned)
}

fn check_port(reader: &mut Reader, path: &str, port: &Port) {
    if let Some(problem) = bad_name(&port.name) {
        reader.error(&format!("{path}.name"), problem, "use a short name such as \"wan\"");
    }
    if port.parent.is_none() && (port.device.trim().is_empty() || port.device.contains('\0')) {
        let remedy = "write a PCI address such as \"0000:3b:00.0\", or a DPDK vdev such as \"net_af_packet0,iface=eth1\"";
        reader.error(&format!("{path}.device"), "this names no device", remedy);
    }
    if !MTU.contains(&port.mtu) {
        let problem = format!("{} bytes are out of range", port.mtu);
        reader.error(&format!("{path}.mtu"), problem, format!("use {} to {}", MTU.start(), MTU.end()));
    } else if port.mtu < MIN_IPV6_MTU && port.addresses.iter().any(|address| address.address().is_ipv6()) {
        let problem = format!("{} bytes are too few for IPv6", port.mtu);
        reader.error(&format!("{path}.mtu"), problem, format!("use at least {MIN_IPV6_MTU}"));
    }
    for (key, descriptors) in
        [("rx_descriptors", port.rx_descriptors), ("tx_descriptors", port.tx_descriptors)]
    {
        if let Some(count) = descriptors.filter(|count| !DESCRIPTORS.contains(count)) {
            let remedy = format!("use {} to {}", DESCRIPTORS.start(), DESCRIPTORS.end());
            reader.error(&format!("{path}.{key}"), format!("{count} is out of range"), remedy);
        }
    }
    for (index, address) in port.addresses.iter().enumerate() {
        if let Some((problem, remedy)) = bad_interface_address(*address) {
            reader.error(&format!("{path}.addresses[{index}]"), problem, remedy);
        }
    }
}

fn bad_interface_address(interface: InterfaceAddress) -> Option<(String, &'static str)> {
    let address = interface.address();
    if let Some(what) = not_a_host(address) {
        return Some((format!("{address} is {what}"), "use an address of the port's network"));
    }
    if interface.length() == 0 {
        return Some((
            format!("{interface} puts every address on this link"),
            "write the length of the subnet, such as /24",
        ));
    }
    // RFC 3021: with 31 bits both addresses are hosts. IPv6 has no broadcast.
    let IpAddr::V4(v4) = address else { return None };
    if interface.length() < 31 {
        let host_mask = u32::MAX >> interface.length();
        let host = v4.to_bits() & host_mask;
        if host == 0 || host == host_mask {
            let what = if host == 0 { "the network" } else { "the broadcast address" };
            return Some((format!("{address} is {what} of its subnet"), "use an address between the two"));
        }
    }
    None
}

pub(super) fn check_routes(reader: &mut Reader, config: &Config, ports_complete: bool) {
    let addresses = || config.ports.iter().flat_map(|port| &port.addresses);
    for (index, route) in config.routes.iter().enumerate() {
        let path = format!("route[{index}].via");
        if route.via.is_ipv6() != route.to.is_ipv6() {
            let problem = format!("{} leads to {}, which is of the other family", route.via, route.to);
            reader.error(&path, problem, "use a router of the same family");
        } else if let Some(what) = not_a_host(route.via) {
            reader.error(&path, format!("{} is {what}", route.via), "use the address of a router");
        } else if let Some(port) =
            config.ports.iter().find(|port| port.addresses.iter().any(|own| own.address() == route.via))
        {
            let problem = format!("{} is the balancer's own address on port {:?}", route.via, port.name);
            reader.error(&path, problem, "use the address of a router");
        } else if ports_complete
            && !config.ports.is_empty()
            && !addresses().any(|own| own.subnet().contains(route.via))
        {
            let subnets: Vec<String> = addresses()
                .filter(|own| own.address().is_ipv6() == route.via.is_ipv6())
                .map(|own| own.subnet().to_string())
                .collect();
            let remedy = if subnets.is_empty() {
                format!("add an address on the router's subnet to a [[port]], such as \"{}/…\"", route.via)
            } else {
                format!(
                    "use a router on one of {}, or add an address on its subnet to a [[port]]",
                    subnets.join(", ")
                )
            };
            reader.error(&path, format!("{} is on no port's subnet", route.via), remedy);
        }
    }
    duplicates(config.routes.iter().map(|route| route.to), |first, index| {
        let line = on_line(reader, &format!("route[{first}].to"));
        let problem = format!("there is a route to {} already{line}", config.routes[index].to);
        reader.error(&format!("route[{index}].to"), problem, "remove one");
    });
}
