//! `parent` and `vlan` of a `[[port]]`

use super::{duplicates, on_line};
use crate::config::read::Reader;
use crate::config::{Config, Port};

/// IEEE 802.1Q table 9-2: 0 says "no VLAN", 4095 is reserved.
const IDS: std::ops::RangeInclusive<u16> = 1..=4094;

pub(super) fn check(reader: &mut Reader, config: &Config, ports_complete: bool) {
    for (index, port) in config.ports.iter().enumerate() {
        let path = format!("port[{index}]");
        if let Some(id) = port.vlan.filter(|id| !IDS.contains(id)) {
            let problem = format!("{id} is no VLAN");
            reader.error(&format!("{path}.vlan"), problem, format!("use {} to {}", IDS.start(), IDS.end()));
        }
        if let Some(parent) = &port.parent {
            check_sub_interface(reader, &path, (port, parent), config, ports_complete);
        }
    }
    // The device that a port is on, by the name of its port, and the VLAN there. Parents with a VLAN take part.
    let tagged: Vec<usize> =
        (0..config.ports.len()).filter(|&index| config.ports[index].vlan.is_some()).collect();
    let place = |&index: &usize| {
        let port = &config.ports[index];
        (port.parent.as_ref().unwrap_or(&port.name), port.vlan)
    };
    duplicates(tagged.iter().map(place), |first, index| {
        let (first, port) = (tagged[first], &config.ports[tagged[index]]);
        let line = on_line(reader, &format!("port[{first}].vlan"));
        let id = port.vlan.unwrap_or_default();
        let problem = format!("VLAN {id} there is port {:?} already{line}", config.ports[first].name);
        let remedy = "use each VLAN of a device for one port";
        reader.error(&format!("port[{}].vlan", tagged[index]), problem, remedy);
    });
}

fn check_sub_interface(
    reader: &mut Reader,
    path: &str,
    (port, parent): (&Port, &str),
    config: &Config,
    ports_complete: bool,
) {
    if !port.device.is_empty() {
        let remedy = "remove one: \"device\" for a sub-interface, \"parent\" for a port of its own";
        reader.error(
            &format!("{path}.parent"),
            "a port is on a device of its own, or on that of its parent",
            remedy,
        );
    }
    if port.vlan.is_none() {
        let problem = "\"vlan\" is missing: a sub-interface is a VLAN of its parent";
        reader.error(path, problem, format!("add vlan = {} to {}", IDS.start(), IDS.end()));
    }
    for (key, is_set) in
        [("rx_descriptors", port.rx_descriptors.is_some()), ("tx_descriptors", port.tx_descriptors.is_some())]
    {
        if is_set {
            let remedy = format!("set it at port {parent:?}");
            reader.error(&format!("{path}.{key}"), "a sub-interface has no queues of its own", remedy);
        }
    }
    let key = format!("{path}.parent");
    match config.ports.iter().find(|port| port.name == parent) {
        None if ports_complete => {
            let devices: Vec<&str> = config
                .ports
                .iter()
                .filter(|port| port.parent.is_none())
                .map(|port| port.name.as_str())
                .collect();
            let remedy = if devices.is_empty() {
                "add a [[port]] of that name with a device".to_owned()
            } else {
                format!("use one of {}", devices.join(", "))
            };
            reader.error(&key, format!("there is no port {parent:?}"), remedy);
        }
        Some(found) if found.name == port.name => {
            reader.error(&key, "a port cannot be its own parent", "name the port with the device");
        }
        Some(found) if found.parent.is_some() => {
            let above = found.parent.as_deref().unwrap_or_default();
            let problem = format!("{parent:?} is itself a sub-interface, and frames have one tag");
            reader.error(&key, problem, format!("use a port with a device, such as {above:?}"));
        }
        Some(found) if port.mtu > found.mtu => {
            let problem = format!("{} bytes are more than the {} of port {parent:?}", port.mtu, found.mtu);
            let remedy = format!("use at most {}, or raise that of port {parent:?}", found.mtu);
            reader.error(&format!("{path}.mtu"), problem, remedy);
        }
        Some(_) | None => {}
    }
}
