//! CPUs: what they can do, who else runs there, how fast they go.

use super::{Findings, Host, MACHINE};
use crate::api::Level;
use crate::config::Config;

/// What x86-64-v3 has beyond v2 (x86-64 psABI), by the kernel's names.
const X86_64_V3: [&str; 9] = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"];

fn flags(host: &Host) -> Vec<String> {
    let text = host.text("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    line.map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

pub(super) fn features(host: &Host, findings: &mut Findings) {
    let flags = flags(host);
    let missing: Vec<_> =
        X86_64_V3.iter().filter(|wanted| !flags.iter().any(|flag| flag == *wanted)).copied().collect();
    if missing.is_empty() {
        findings.ok("cpu_features", MACHINE, "the CPU is an x86-64-v3");
    } else {
        let what = format!("the CPU lacks {}", missing.join(", "));
        let why = "programs that are built for x86-64-v3 do not run here";
        let remedy = "build here: RUSTFLAGS=-Ctarget-cpu=native cargo build --release";
        findings.add(Level::Problem, "cpu_features", MACHINE, what, why, remedy);
    }
}

pub(super) fn clock(host: &Host, findings: &mut Findings) {
    let flags = flags(host);
    let steady = ["constant_tsc", "nonstop_tsc"].iter().all(|wanted| flags.iter().any(|flag| flag == wanted));
    let source =
        host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    if !steady {
        let why = "workers tell time by the cycle counter: their timeouts follow the CPU's frequency";
        let remedy = "run on a CPU, or a hypervisor, that offers constant_tsc and nonstop_tsc";
        findings.add(Level::Warning, "clock", MACHINE, "the cycle counter is not invariant", why, remedy);
    } else if source == "tsc" || source.is_empty() {
        findings.ok("clock", MACHINE, "the cycle counter is invariant");
    } else {
        let what = format!("the cycle counter is invariant, and the kernel keeps time by {source:?}");
        let why = "it may have found the counters of the CPUs apart";
        findings.add(Level::Note, "clock", MACHINE, what, why, "dmesg | grep -i tsc");
    }
}

/// The node of a CPU; `None` if the system does not say.
pub(super) fn node(host: &Host, cpu: u16) -> Option<u32> {
    let names = host.names(&format!("/sys/devices/system/cpu/cpu{cpu}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

pub(super) fn workers(host: &Host, config: &Config, findings: &mut Findings) {
    let runtime = &config.runtime;
    let online = host.cpus("/sys/devices/system/cpu/online");
    let allowed = host.field("/proc/self/status", "Cpus_allowed_list");
    let allowed = allowed.as_deref().and_then(crate::config::cpu_list).unwrap_or_default();
    let isolated = host.cpus("/sys/devices/system/cpu/isolated");
    let nohz = host.cpus("/sys/devices/system/cpu/nohz_full");
    for &cpu in &runtime.workers {
        let subject = format!("CPU {cpu}");
        if !online.is_empty() && !online.contains(&cpu) {
            let what = format!("CPU {cpu} is named in workers and not online");
            let why = "its worker cannot start";
            findings.add(
                Level::Problem,
                "cpuset",
                &subject,
                what,
                why,
                "name another in runtime.workers: lscpu",
            );
            continue;
        }
        // Threads of the daemon are confined to the control CPUs; a worker's own tells nothing new.
        let confined_to_control = allowed.iter().all(|cpu| runtime.control_cpus.contains(cpu));
        if !allowed.is_empty() && !allowed.contains(&cpu) && !confined_to_control {
            findings.add(
                Level::Problem,
                "cpuset",
                &subject,
                format!("this process may not run on CPU {cpu}"),
                "its worker cannot start there",
                "add it to the unit's CPUAffinity and AllowedCPUs, or to the container's cpuset",
            );
        }
        if !isolated.contains(&cpu) {
            findings.add(
                Level::Warning,
                "isolation",
                &subject,
                format!("the scheduler may place anything on CPU {cpu}"),
                "whatever runs there holds packets up for whole time slices, while the NIC's ring fills",
                format!("boot with isolcpus=managed_irq,domain,{cpu} (all workers' CPUs), or keep the rest off by cgroups"),
            );
        } else if nohz.contains(&cpu) {
            findings.ok("isolation", &subject, format!("CPU {cpu} is isolated and has no tick"));
        } else {
            findings.add(
                Level::Note,
                "isolation",
                &subject,
                format!("CPU {cpu} is isolated, and the timer still interrupts it"),
                "each tick costs the worker some microseconds",
                format!("boot with nohz_full={cpu} rcu_nocbs={cpu} (all workers' CPUs)"),
            );
        }
        siblings(host, config, cpu, findings);
        frequency(host, cpu, findings);
    }
}

/// Two hyper-threads of one core share its execution units.
fn siblings(host: &Host, config: &Config, cpu: u16, findings: &mut Findings) {
    let all = host.cpus(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let others: Vec<u16> = all.into_iter().filter(|&other| other != cpu).collect();
    let subject = format!("CPU {cpu}");
    let why = "they share the core's execution units and caches, so each has about half";
    let busy = |list: &[u16]| others.iter().find(|other| list.contains(other)).copied();
    if let Some(other) = busy(&config.runtime.workers) {
        // Told once for the pair.
        if cpu < other {
            let what = format!("the workers on CPUs {cpu} and {other} are hyper-threads of one core");
            findings.add(Level::Warning, "smt", &subject, what, why, "give each worker a core: lscpu -e");
        }
    } else if let Some(other) = busy(&config.runtime.control_cpus) {
        let what = format!("the worker's CPU {cpu} shares its core with CPU {other} of control_cpus");
        findings.add(Level::Warning, "smt", &subject, what, why, "name other control_cpus: lscpu -e");
    } else if let Some(other) = others.first() {
        let what = format!("CPU {cpu} shares its core with CPU {other}, which others may use");
        let remedy = format!("echo 0 > /sys/devices/system/cpu/cpu{other}/online, or isolate it too");
        findings.add(Level::Note, "smt", &subject, what, why, remedy);
    } else {
        findings.ok("smt", &subject, format!("CPU {cpu} has its core to itself"));
    }
}

fn frequency(host: &Host, cpu: u16, findings: &mut Findings) {
    let subject = format!("CPU {cpu}");
    match host.text(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")) {
        Some(governor) if governor != "performance" => findings.add(
            Level::Warning,
            "governor",
            &subject,
            format!("CPU {cpu} goes by the frequency governor {governor:?}"),
            "it slows down between bursts, and the next one waits for it",
            "cpupower frequency-set -g performance",
        ),
        Some(_) => findings.ok("governor", &subject, format!("CPU {cpu} keeps its full frequency")),
        None => findings.ok(
            "governor",
            &subject,
            format!("the kernel does not change the frequency of CPU {cpu}"),
        ),
    }
}
