//! Every finding, on machines made of files.

use super::*;
use crate::api::{Link, Port, PortQueues, PortStats, PortSteering, Rss};
use std::os::unix::fs::{PermissionsExt, symlink};

/// A machine in a folder.
struct Machine(tempfile::TempDir);

const V3: &str = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave";

impl Machine {
    /// One on which all is well for [`config`]: CPUs 0 to 3, a NIC on vfio-pci, an interface, pages.
    fn good() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine
            .put("/proc/cpuinfo", &format!("processor : 0\nflags\t\t: fpu constant_tsc nonstop_tsc {V3}\n"))
            .put("/proc/self/status", "Name:\tsluiced\nCpus_allowed_list:\t0-3\nHugetlbPages:\t       0 kB\n")
            .put("/proc/self/limits", &limits("unlimited", "65536"))
            .put("/proc/sys/vm/nr_hugepages", "1000\n")
            .put("/proc/net/fib_trie", FIB_TRIE)
            .put("/proc/net/if_inet6", "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n")
            .put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
            .put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
            .put("/sys/devices/system/cpu/online", "0-3\n")
            .put("/sys/devices/system/cpu/isolated", "2-3\n")
            .put("/sys/devices/system/cpu/nohz_full", "2-3\n")
            .put("/sys/class/net/eth1/flags", "0x1003\n")
            .put("/sys/class/net/eth1/carrier", "1\n")
            .put("/sys/class/net/eth1/mtu", "1500\n")
            .put("/sys/bus/pci/devices/0000:3b:00.0/numa_node", "0\n")
            .pages("/sys/kernel/mm", 1000, 1000)
            .driver("0000:3b:00.0", "vfio-pci")
            .group("0000:3b:00.0", "7");
        for cpu in 0..4 {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
            machine
                .put(&format!("{folder}/topology/thread_siblings_list"), &format!("{cpu}\n"))
                .put(&format!("{folder}/cpufreq/scaling_governor"), "performance\n")
                .put(&format!("{folder}/node0/cpulist"), "0-3\n");
        }
        machine.put("/etc/sluice/sluice.toml", "").mode("/etc/sluice/sluice.toml", 0o644);
        machine.put("/run/sluice/sluice.sock", "").mode("/run/sluice/sluice.sock", 0o660);
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Self {
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn pages(&self, folder: &str, reserved: u32, free: u32) -> &Self {
        let folder = format!("{folder}/hugepages/hugepages-2048kB");
        self.put(&format!("{folder}/nr_hugepages"), &reserved.to_string())
            .put(&format!("{folder}/free_hugepages"), &free.to_string())
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        symlink(target, path).unwrap();
        self
    }

    fn driver(&self, address: &str, driver: &str) -> &Self {
        self.link(&format!("/sys/bus/pci/devices/{address}/driver"), &format!("../../drivers/{driver}"))
    }

    fn group(&self, address: &str, group: &str) -> &Self {
        self.put(&format!("/sys/kernel/iommu_groups/{group}/devices/{address}"), "").link(
            &format!("/sys/bus/pci/devices/{address}/iommu_group"),
            &format!("../../kernel/iommu_groups/{group}"),
        )
    }

    fn remove(&self, path: &str) -> &Self {
        let path = self.at(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        self
    }

    fn examine(&self, config: &Config) -> Vec<Finding> {
        super::examine(&Host::below(self.0.path()), Some((config, Path::new("/etc/sluice/sluice.toml"))))
    }

    /// The only finding that is worse than a note has to be this one.
    #[track_caller]
    fn has_only(&self, config: &Config, level: Level, check: &str, words: &str) -> Finding {
        let all = self.examine(config);
        let bad: Vec<_> = all.iter().filter(|one| one.level >= level.min(Level::Warning)).collect();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        let one = bad[0];
        assert_eq!((one.level, one.check.as_str()), (level, check), "{one:#?}");
        assert!(one.to_string().contains(words), "{one:#?} lacks {words:?}");
        assert!(!one.why.is_empty() && !one.remedy.is_empty(), "{one:#?}");
        one.clone()
    }

    /// Likewise a note.
    #[track_caller]
    fn notes(&self, config: &Config, check: &str, words: &str) {
        self.has_only(config, Level::Note, check, words);
    }
}

fn limits(memlock: &str, files: &str) -> String {
    format!(
        "Limit  Soft  Hard  Units\nMax open files  {files}  {files}  files\nMax locked memory  {memlock}  {memlock}  bytes\n"
    )
}

const FIB_TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.0.0.2
        /32 link UNICAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
";

fn config() -> Config {
    with("")
}

/// The right file with more in `[runtime]`.
fn with(runtime: &str) -> Config {
    let cpus = if runtime.contains("workers") { "" } else { "workers = [2]\ncontrol_cpus = [0, 1]" };
    let text = format!(
        r#"
[runtime]
{cpus}
max_connections = 1000000
{runtime}
[[port]]
name = "wan"
device = "0000:3b:00.0"
addresses = ["10.0.0.2/24", "2001:db8::2/64"]
[[port]]
name = "lan"
device = "net_af_packet0,iface=eth1"
addresses = ["10.1.0.1/24"]
[[service]]
name = "web"
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
[[service.backend]]
address = "10.1.0.11:8080"
"#
    );
    Config::parse(&text, "test").unwrap()
}

#[test]
fn a_machine_that_is_prepared_has_nothing_to_be_told() {
    let findings = Machine::good().examine(&config());
    assert!(findings.iter().all(|one| one.level == Level::Ok), "{findings:#?}");
    for check in [
        "cpu_features",
        "clock",
        "hugepages",
        "driver",
        "iommu",
        "interface",
        "mtu",
        "addresses",
        "isolation",
        "smt",
    ] {
        assert!(findings.iter().any(|one| one.check == check), "{check} is missing in {findings:#?}");
    }
    // And without a configuration nothing is asked of it.
    let findings = super::examine(&Host::below(Machine::good().0.path()), None);
    assert!(findings.iter().all(|one| one.level <= Level::Note), "{findings:#?}");
}

#[test]
fn a_machine_of_which_nothing_is_known_is_no_panic() {
    let nothing = tempfile::tempdir().unwrap();
    let findings = super::examine(&Host::below(nothing.path()), Some((&config(), Path::new("/nowhere"))));
    assert!(findings.iter().any(|one| one.level == Level::Problem), "{findings:#?}");
}

#[test]
fn cpus() {
    let machine = Machine::good();
    machine.put("/proc/cpuinfo", "flags : constant_tsc nonstop_tsc avx avx2 bmi1 f16c fma abm movbe xsave\n");
    machine.has_only(&config(), Level::Problem, "cpu_features", "lacks bmi2");
    let machine = Machine::good();
    machine.put("/proc/cpuinfo", &format!("flags : constant_tsc {V3}\n"));
    machine.has_only(&config(), Level::Warning, "clock", "not invariant");
    let machine = Machine::good();
    machine.put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    machine.notes(&config(), "clock", "\"hpet\"");
}

#[test]
fn pages() {
    let machine = Machine::good();
    machine.pages("/sys/kernel/mm", 1000, 300);
    let found = machine.has_only(
        &config(),
        Level::Problem,
        "hugepages",
        "600 MiB of hugepages are free (of 2000 MiB",
    );
    // 512 pages for packets and 161 for tables, of which 300 are there.
    assert!(found.remedy.starts_with("sysctl -w vm.nr_hugepages=1373;"), "{found:#?}");
    machine.pages("/sys/kernel/mm", 1000, 600);
    machine.has_only(&config(), Level::Warning, "hugepages", "not 321 MiB of connection tables");
    // What a daemon that looks at itself has taken counts.
    machine.pages("/sys/kernel/mm", 1000, 100);
    machine.put("/proc/self/status", "Cpus_allowed_list:\t0-3\nHugetlbPages:\t 1433600 kB\n");
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok));
    Machine::good().notes(&with("hugepages = false"), "hugepages", "hugepages = false");
    let machine = Machine::good();
    machine.put("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    machine.notes(&config(), "transparent_hugepages", "always on");
}

#[test]
fn numa_nodes() {
    let machine = Machine::good();
    machine.pages("/sys/devices/system/node/node0", 1000, 1000).pages("/sys/devices/system/node/node1", 0, 0);
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok), "node 1 is not used");
    machine.pages("/sys/devices/system/node/node0", 0, 0).pages("/sys/devices/system/node/node1", 1000, 1000);
    let found = machine.has_only(&config(), Level::Problem, "hugepages_numa", "no hugepages");
    assert!(found.remedy.starts_with("echo 512 > /sys/devices/system/node/node0/"), "{found:#?}");
    let machine = Machine::good();
    machine.put("/sys/bus/pci/devices/0000:3b:00.0/numa_node", "1\n");
    let found =
        machine.has_only(&config(), Level::Warning, "numa", "on node 1, the workers on CPUs 2 are not");
    assert_eq!(found.subject, "port wan");
    machine.put("/sys/bus/pci/devices/0000:3b:00.0/numa_node", "-1\n");
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok), "the firmware does not say");
}

#[test]
fn drivers() {
    let machine = Machine::good();
    machine
        .driver("0000:3b:00.0", "ixgbe")
        .put("/sys/bus/pci/devices/0000:3b:00.0/net/enp59s0f0/mtu", "1500");
    let found =
        machine.has_only(&config(), Level::Problem, "driver", "the kernel's ixgbe (interface enp59s0f0)");
    assert!(found.remedy.contains("dpdk-devbind.py --bind=vfio-pci 0000:3b:00.0"), "{found:#?}");
    assert!(!found.remedy.contains("logged in"));
    machine.put("/sys/class/net/enp59s0f0/flags", "0x1003\n");
    let found = machine.has_only(&config(), Level::Problem, "driver", "ixgbe");
    assert!(
        found.remedy.starts_with("if nobody is logged in through it: ip link set enp59s0f0 down"),
        "{found:#?}"
    );
    machine.remove("/sys/bus/pci/devices/0000:3b:00.0/driver");
    machine.has_only(&config(), Level::Problem, "driver", "bound to no driver");
    machine.remove("/sys/bus/pci/devices/0000:3b:00.0");
    machine.has_only(&config(), Level::Problem, "driver", "no PCI device 0000:3b:00.0");
    let machine = Machine::good();
    machine.driver("0000:3b:00.0", "uio_pci_generic");
    machine.has_only(&config(), Level::Warning, "driver", "bound to uio_pci_generic");
    machine.driver("0000:3b:00.0", "mlx5_core");
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok));
}

#[test]
fn pci_addresses_are_told_from_names() {
    let mut short = config();
    short.ports[0].device = "3b:00.0,queues=4".into();
    let findings = Machine::good().examine(&short);
    assert!(findings.iter().any(|one| one.what == "0000:3b:00.0 is bound to vfio-pci"), "{findings:#?}");
    short.ports[0].device = "net_virtio_user0,path=/run/a.b:c:d".into();
    let findings = Machine::good().examine(&short);
    assert!(!findings.iter().any(|one| one.check == "driver"), "{findings:#?}");
}

#[test]
fn the_iommu() {
    let machine = Machine::good();
    machine.remove("/sys/bus/pci/devices/0000:3b:00.0/iommu_group");
    machine.has_only(&config(), Level::Problem, "iommu", "behind no IOMMU");
    machine.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    machine.has_only(&config(), Level::Warning, "iommu", "may write to all memory");
    let machine = Machine::good();
    machine.group("0000:3b:00.1", "7").driver("0000:3b:00.1", "ixgbe");
    let found = machine.has_only(&config(), Level::Problem, "iommu", "group 7 still belong to the kernel");
    assert!(found.remedy.ends_with("--bind=vfio-pci 0000:3b:00.1"), "{found:#?}");
    machine.driver("0000:3b:00.1", "pcieport");
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok), "a bridge may stay");
}

#[test]
fn interfaces() {
    let machine = Machine::good();
    machine.put("/sys/class/net/eth1/flags", "0x1002\n");
    machine.has_only(&config(), Level::Problem, "interface", "ip link set eth1 up");
    let machine = Machine::good();
    machine.put("/sys/class/net/eth1/carrier", "0\n");
    machine.has_only(&config(), Level::Problem, "interface", "no carrier");
    let machine = Machine::good();
    machine.put("/sys/class/net/eth1/mtu", "1400\n");
    machine.has_only(&config(), Level::Problem, "mtu", "takes 1400 bytes, the port's mtu is 1500");
    machine.remove("/sys/class/net/eth1");
    machine.has_only(&config(), Level::Problem, "interface", "no interface eth1");
}

#[test]
fn addresses_that_the_kernel_has_too() {
    let trie = |address: &str| format!("{FIB_TRIE}     |-- {address}\n        /32 host LOCAL\n");
    let machine = Machine::good();
    machine.put("/proc/net/fib_trie", &trie("10.1.0.1"));
    let found = machine.has_only(&config(), Level::Warning, "addresses", "the address 10.1.0.1 too");
    assert_eq!(found.subject, "port lan");
    let mut with_host = config();
    with_host.ports[1].host_interface = Some("lan0".into());
    assert!(machine.examine(&with_host).iter().all(|one| one.level < Level::Warning));
    machine.put("/proc/net/fib_trie", &trie("192.0.2.10"));
    let found = machine.has_only(&config(), Level::Warning, "addresses", "192.0.2.10");
    assert_eq!(found.subject, "service web");
    let machine = Machine::good();
    machine.put("/proc/net/if_inet6", "20010db8000000000000000000000002 04 40 00 80     eth0\n");
    machine.has_only(&config(), Level::Warning, "addresses", "2001:db8::2");
}

#[test]
fn who_else_runs_on_the_cores() {
    let machine = Machine::good();
    machine.put("/sys/devices/system/cpu/isolated", "\n");
    machine.has_only(&config(), Level::Warning, "isolation", "isolcpus=managed_irq,domain,2");
    let machine = Machine::good();
    machine.remove("/sys/devices/system/cpu/nohz_full");
    machine.notes(&config(), "isolation", "nohz_full=2");
    let siblings = "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list";
    machine.put("/sys/devices/system/cpu/nohz_full", "2-3").put(siblings, "2-3\n");
    machine.notes(&config(), "smt", "CPU 2 shares its core with CPU 3");
    machine.put(siblings, "0,2\n");
    machine.has_only(&config(), Level::Warning, "smt", "CPU 0 of control_cpus");
    machine.put(siblings, "2-3\n").put("/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "2-3\n");
    let two = with("workers = [2, 3]\ncontrol_cpus = [0]");
    machine.has_only(&two, Level::Warning, "smt", "the workers on CPUs 2 and 3");
    let machine = Machine::good();
    machine.put("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n");
    machine.has_only(&config(), Level::Warning, "governor", "\"powersave\"");
    let machine = Machine::good();
    machine.put("/proc/self/status", "Cpus_allowed_list:\t1,3\n");
    machine.has_only(&config(), Level::Problem, "cpuset", "may not run on CPU 2");
    // The daemon's control thread, which looks, is confined by the daemon itself.
    machine.put("/proc/self/status", "Cpus_allowed_list:\t0-1\n");
    assert!(machine.examine(&config()).iter().all(|one| one.level == Level::Ok));
    Machine::good().has_only(&with("workers = [9]"), Level::Problem, "cpuset", "not online");
}

#[test]
fn limits_of_the_process() {
    let machine = Machine::good();
    machine.put("/proc/self/limits", &limits("8388608", "65536"));
    machine.has_only(&config(), Level::Warning, "memlock", "LimitMEMLOCK=infinity");
    machine.put("/proc/self/limits", &limits("unlimited", "256"));
    machine.has_only(&config(), Level::Warning, "open_files", "may open 256 files");
}

#[test]
fn files_of_others() {
    let file = "/etc/sluice/sluice.toml";
    Machine::good().mode(file, 0o664).has_only(&config(), Level::Problem, "config_file", "chmod go-w");
    let mut secret = config();
    let health = Config::parse(
        "[[service]]\nvip = \"192.0.2.1\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\nhealth = { type = \"http\", path = \"/?token=x\" }\n[[service.backend]]\naddress = \"10.1.0.1:80\"\n[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.1.0.9/24\"]\n",
        "test",
    );
    secret.services[0].health = health.unwrap().services[0].health.clone();
    Machine::good().has_only(&secret, Level::Warning, "config_file", "tokens or passwords");
    let hidden = Machine::good();
    assert!(hidden.mode(file, 0o640).examine(&secret).iter().all(|one| one.level == Level::Ok));
    let open = Machine::good();
    open.mode("/run/sluice/sluice.sock", 0o666).has_only(&config(), Level::Warning, "socket", "mode 0666");
}

/// A port as it runs, with all that [`examine_ports`] looks for.
fn port() -> Port {
    Port {
        parent: None,
        vlan: None,
        host: None,
        name: "wan".into(),
        device: "0000:3b:00.0".into(),
        driver: "net_ixgbe".into(),
        mac: "02:00:00:00:00:01".into(),
        link: Link::Up,
        link_mbps: Some(10_000),
        mtu_bytes: 1500,
        addresses: Vec::new(),
        numa_node: Some(0),
        queues: PortQueues { rx_queues: 2, tx_queues: 2, ..PortQueues::default() },
        rss: Rss { offered: true, in_use: true, computable: true, ..Rss::default() },
        steering: PortSteering::default(),
        offloads: Vec::new(),
        notices: Vec::new(),
        counters: PortStats::default(),
    }
}

#[test]
fn ports_as_they_run() {
    let two = with("workers = [2, 3]\ncontrol_cpus = [0]");
    let worst = |change: &dyn Fn(&mut Port), config: &Config| {
        let mut port = port();
        change(&mut port);
        let findings = examine_ports(&[port], config);
        findings.into_iter().max_by_key(|one| one.level).map(|one| (one.level, one.check)).unwrap()
    };
    assert_eq!(worst(&|_| {}, &two).0, Level::Ok);
    assert_eq!(worst(&|port| port.link = Link::Down, &two), (Level::Problem, "link".to_owned()));
    assert_eq!(worst(&|port| port.mtu_bytes = 1280, &two), (Level::Problem, "port_mtu".to_owned()));
    assert_eq!(worst(&|port| port.queues.rx_queues = 1, &two), (Level::Warning, "queues".to_owned()));
    assert_eq!(worst(&|port| port.rss.in_use = false, &two), (Level::Note, "rss".to_owned()));
    assert_eq!(worst(&|port| port.rss.computable = false, &two), (Level::Note, "rss".to_owned()));
    assert_eq!(worst(&|port| port.rss.in_use = false, &config()).0, Level::Ok, "one worker needs none");
}
