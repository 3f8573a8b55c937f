//! What the configuration must know about the machine: its CPUs.

use std::fs;
use std::sync::LazyLock;

/// The CPUs of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Every CPU that is online.
    pub online: Vec<u16>,
    /// Those that this process may run on. Defaults are chosen from them.
    pub allowed: Vec<u16>,
}

impl Machine {
    /// This machine, as it was when first asked: a process that pins its threads later does not change
    /// the answer.
    pub fn current() -> &'static Self {
        static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::detect);
        &MACHINE
    }

    fn detect() -> Self {
        let online =
            fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|text| cpu_list(&text));
        let allowed = fs::read_to_string("/proc/self/status").ok().and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(cpu_list)
        });
        let count = std::thread::available_parallelism().map_or(1, |count| count.get().min(1024) as u16);
        let online = online.unwrap_or_else(|| (0..count).collect());
        let allowed = allowed.unwrap_or_else(|| online.clone());
        Self { online, allowed }
    }

    /// Workers and control CPUs of a configuration that names none: the last CPU, and the rest (the same
    /// CPU when there is but one).
    pub fn default_cpus(&self) -> (Vec<u16>, Vec<u16>) {
        self.fill_cpus(None, None)
    }

    /// Fills in what a configuration does not name: workers get the last CPU that control does not have,
    /// control gets every CPU that workers do not have. When nothing is left they share.
    pub fn fill_cpus(&self, workers: Option<Vec<u16>>, control: Option<Vec<u16>>) -> (Vec<u16>, Vec<u16>) {
        let last = self.allowed.last().copied().unwrap_or(0);
        let workers = workers.unwrap_or_else(|| {
            let taken = control.as_deref().unwrap_or_default();
            vec![self.allowed.iter().rev().copied().find(|cpu| !taken.contains(cpu)).unwrap_or(last)]
        });
        let control = control.unwrap_or_else(|| {
            let free: Vec<u16> = self.allowed.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
            if free.is_empty() { vec![self.allowed.first().copied().unwrap_or(0)] } else { free }
        });
        (workers, control)
    }
}

/// Reads the kernel's list format: `0-3,8,10-11`.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_format_is_read() {
        assert_eq!(cpu_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("\t5"), Some(vec![5]));
        assert_eq!(cpu_list("none"), None);
    }

    #[test]
    fn defaults_keep_workers_and_control_apart_where_they_can() {
        let machine = |allowed: &[u16]| Machine { online: allowed.to_vec(), allowed: allowed.to_vec() };
        assert_eq!(machine(&[0, 1, 2, 3]).default_cpus(), (vec![3], vec![0, 1, 2]));
        assert_eq!(machine(&[7]).default_cpus(), (vec![7], vec![7]));
        assert_eq!(machine(&[0, 1]).fill_cpus(Some(vec![0]), None), (vec![0], vec![1]));
        assert_eq!(machine(&[0, 1]).fill_cpus(None, Some(vec![1])), (vec![0], vec![1]));
        assert_eq!(machine(&[0, 1]).fill_cpus(Some(vec![0, 1]), None), (vec![0, 1], vec![0]));
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(!Machine::current().allowed.is_empty());
    }
}
