//! Services that want the same packets.
//!
//! Of several services that match a packet the most specific wins: first the longer prefix, then the
//! narrower ports. That leaves one case without an answer: the same prefix, and ports of which neither
//! range strictly contains the other.

use super::on_line;
use crate::config::read::Reader;
use crate::config::{Config, Prefix, Protocol};
use std::cmp::Reverse;
use std::collections::BTreeMap;

pub(super) fn check(reader: &mut Reader, config: &Config) {
    let mut groups: BTreeMap<(Protocol, Prefix), Vec<usize>> = BTreeMap::new();
    for (index, service) in config.services.iter().enumerate() {
        groups.entry((service.protocol, service.vip)).or_default().push(index);
    }
    for group in groups.into_values() {
        check_group(reader, config, group);
    }
}

/// Services of one protocol and prefix: their ranges must be apart or nested.
fn check_group(reader: &mut Reader, config: &Config, mut group: Vec<usize>) {
    let ports = |index: usize| config.services[index].ports;
    // Sorted like this, a range follows those that contain it; `open` holds these, the innermost last.
    group.sort_by_key(|&index| (ports(index).first(), Reverse(ports(index).last()), index));
    let mut open: Vec<usize> = Vec::new();
    for index in group {
        while open.last().is_some_and(|&outer| ports(outer).last() < ports(index).first()) {
            open.pop();
        }
        if let Some(&outer) = open.last()
            && (ports(outer) == ports(index) || !ports(outer).covers(ports(index)))
        {
            overlap(reader, config, outer.min(index), outer.max(index));
        }
        open.push(index);
    }
}

/// Reported on the line of the later one.
fn overlap(reader: &mut Reader, config: &Config, earlier: usize, later: usize) {
    let (first, second) = (&config.services[earlier], &config.services[later]);
    let line = on_line(reader, &format!("service[{earlier}].ports"));
    let here = on_line(reader, &format!("service[{later}].ports"));
    let (problem, remedy) = if first.ports == second.ports {
        let what = format!("{} {} ports {}", first.protocol, first.vip, first.ports);
        let problem =
            format!("service {:?}{here} and service {:?}{line} are both {what}", second.name, first.name);
        (problem, "remove one, or change its vip, ports or protocol")
    } else {
        let problem = format!(
            "service {:?}{here} and service {:?}{line} overlap: {} {} ports {} and {}",
            second.name, first.name, first.protocol, first.vip, second.ports, first.ports
        );
        (problem, "let one range contain the other, which then wins inside, or keep them apart")
    };
    reader.error(&format!("service[{later}].ports"), problem, remedy);
}
