//! Which NUMA node a CPU belongs to, and what is far from what.

use std::fs;

/// The node of a CPU; `None` if the system does not say.
pub(super) fn node_of_cpu(cpu: u16) -> Option<u32> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.into_iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// A line for each port with workers on other nodes than its own: their packets cross the link between the nodes twice.
pub(super) fn remote(workers: &[(u16, Option<u32>)], ports: &[(&str, Option<u32>)]) -> Vec<String> {
    let notice = |&(name, node): &(&str, Option<u32>)| {
        let node = node?;
        let far: Vec<String> = workers
            .iter()
            .filter(|(_, of_cpu)| of_cpu.is_some_and(|of_cpu| of_cpu != node))
            .map(|(cpu, _)| cpu.to_string())
            .collect();
        (!far.is_empty()).then(|| {
            format!(
                "port {name} is on NUMA node {node}, and the workers on CPUs {} are not: choose CPUs of that node",
                far.join(", ")
            )
        })
    };
    ports.iter().filter_map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_far_from_a_worker_is_told() {
        let ports = [("wan", Some(0)), ("lan", Some(1)), ("tap", None)];
        let notices = remote(&[(2, Some(0)), (3, Some(0)), (8, None)], &ports);
        assert_eq!(
            notices,
            ["port lan is on NUMA node 1, and the workers on CPUs 2, 3 are not: choose CPUs of that node"]
        );
        assert!(remote(&[(2, Some(0)), (9, Some(1))], &ports[2..]).is_empty());
    }
}
