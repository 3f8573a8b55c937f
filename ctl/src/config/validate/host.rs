//! `host_interface` and `host_rate` of a `[[port]]`.

use super::{duplicates, on_line};
use crate::config::read::Reader;
use crate::config::{Config, Port};

/// The kernel's IFNAMSIZ, without the byte that ends a name.
const LONGEST_NAME: usize = 15;
/// Below, a TCP handshake is a matter of luck; above, a limit is none.
const RATE: std::ops::RangeInclusive<u32> = 100..=1_000_000;

pub(super) fn check(reader: &mut Reader, config: &Config) {
    let ports = &config.ports;
    for (index, port) in ports.iter().enumerate() {
        check_port(reader, index, port, ports);
    }
    let named =
        || ports.iter().enumerate().filter_map(|(at, port)| Some((at, port.host_interface.as_ref()?)));
    let places: Vec<usize> = named().map(|(at, _)| at).collect();
    duplicates(named().map(|(_, name)| name), |first, index| {
        let (first, index) = (places[first], places[index]);
        let line = on_line(reader, &format!("port[{first}].host_interface"));
        let problem = format!("the interface of port {:?} is called so{line}", ports[first].name);
        let remedy = "give each port an interface of its own";
        reader.error(&format!("port[{index}].host_interface"), problem, remedy);
    });
}

fn check_port(reader: &mut Reader, index: usize, port: &Port, ports: &[Port]) {
    if let Some(rate) = port.host_rate {
        let path = format!("port[{index}].host_rate");
        if port.host_interface.is_none() {
            let problem = "without host_interface the host gets no packets from this port";
            reader.error(&path, problem, "add host_interface, or remove it");
        } else if !RATE.contains(&rate) {
            let remedy = format!("use {} to {}", RATE.start(), RATE.end());
            reader.error(&path, format!("{rate} packets a second are out of range"), remedy);
        }
    }
    let Some(name) = &port.host_interface else { return };
    let path = format!("port[{index}].host_interface");
    if let Some(problem) = bad_interface_name(name) {
        reader.error(&path, problem, "use a short name such as \"wan0\"");
    } else if let Some(other) = ports.iter().find(|other| kernel_interface(&other.device) == Some(name)) {
        let problem = format!("the interface {name:?} is there already: port {:?} works on it", other.name);
        reader.error(&path, problem, "use another name: sluiced makes the interface");
    }
}

/// What the kernel would not take as the name of a new interface (or `%`, what it would take for a pattern).
fn bad_interface_name(name: &str) -> Option<&'static str> {
    let odd = |byte: u8| !byte.is_ascii_graphic() || b"/:%\"\\".contains(&byte);
    if name.is_empty() {
        Some("the name is empty")
    } else if name.len() > LONGEST_NAME {
        Some("the name is longer than 15 bytes")
    } else if matches!(name, "." | ".." | "lo" | "all" | "default") || name.bytes().any(odd) {
        Some("no interface can be called so")
    } else {
        None
    }
}

/// The kernel's interface below a software port: `eth1` of `net_af_packet0,iface=eth1`.
fn kernel_interface(device: &str) -> Option<&str> {
    device.split(',').find_map(|argument| argument.strip_prefix("iface="))
}
