//! What is refused, and in which words.

use crate::bench::{isolated, open, pool, start, veth};
use dataplane::io::dpdk::{Eal, EalConfig, Error, Port, PortConfig, WorkerThread};

#[test]
fn a_second_start() {
    isolated("refusals::a_second_start", || {
        let eal = start(false);
        assert_eq!(Eal::init(&EalConfig::default()).expect_err("once"), Error::AlreadyStarted);
        drop(eal);
        assert_eq!(Eal::init(&EalConfig::default()).expect_err("still once"), Error::AlreadyStarted);
    });
}

#[test]
fn more_hugepages_than_there_are() {
    isolated("refusals::more_hugepages_than_there_are", || {
        let config = EalConfig { memory_mib: 1 << 30, ..EalConfig::default() };
        match Eal::init(&config).expect_err("a pebibyte") {
            Error::TooFewHugepages { wanted_mib, .. } => assert_eq!(wanted_mib, 1 << 30),
            Error::NoHugepages { .. } => {}
            other => panic!("{other}"),
        }
        // Nothing was touched: it can be tried again.
        start(false);
    });
}

#[test]
fn an_argument_that_dpdk_does_not_know() {
    isolated("refusals::an_argument_that_dpdk_does_not_know", || {
        let config =
            EalConfig { hugepages: false, args: vec!["--no-such-option".into()], ..EalConfig::default() };
        let error = Eal::init(&config).expect_err("no such option").to_string();
        assert!(error.contains("check `eal_args` (--no-such-option)"), "{error}");
    });
}

#[test]
fn devices_that_do_not_exist() {
    isolated("refusals::devices_that_do_not_exist", || {
        veth();
        let eal = start(false);
        let pool = pool(&eal);
        let refused = |device: &str| {
            let config = PortConfig { device: device.into(), ..PortConfig::default() };
            Port::open(&eal, &config, &pool).map(|_| ()).expect_err(device).to_string()
        };
        for (device, words) in [
            ("eth7", "neither a PCI address nor a software port"),
            ("0000:ff:1f.7", "no PCI device at this address"),
            ("net_no_such_driver0", "DPDK has no driver of this name"),
            ("net_af_packet0,iface=nowhere", "there is no network interface \"nowhere\""),
            ("net_af_packet0,iface=near,no_such_argument=1", "no_such_argument"),
            ("net_pcap0,rx_pcap=/no/such/file.pcap", "/no/such/file.pcap"),
            ("net_virtio_user0,path=/no/such/socket", "check that the other side listens"),
        ] {
            let error = refused(device);
            println!("{error}");
            assert!(error.contains(words) && error.contains(device), "{error}");
        }
        // A failed device leaves nothing behind: the same name can be used.
        open(&eal, &pool, "net_af_packet0,iface=near");
    });
}

#[test]
fn the_same_device_twice() {
    isolated("refusals::the_same_device_twice", || {
        let eal = start(false);
        let pool = pool(&eal);
        let first = open(&eal, &pool, "net_null0");
        let config = PortConfig { device: "net_null0".into(), ..PortConfig::default() };
        let error = Port::open(&eal, &config, &pool).map(|_| ()).expect_err("once");
        assert_eq!(error, Error::DeviceInUse { device: "net_null0".into() });
        drop(first);
        Port::open(&eal, &config, &pool).expect("free again");
    });
}

#[test]
fn a_worker_on_a_cpu_that_does_not_exist() {
    isolated("refusals::a_worker_on_a_cpu_that_does_not_exist", || {
        let eal = start(false);
        let error =
            WorkerThread::spawn(&eal, 4000, "worker", || ()).map(|_| ()).expect_err("no CPU").to_string();
        assert!(error.contains("CPU 4000 cannot be used: it does not exist or is offline"), "{error}");
    });
}
