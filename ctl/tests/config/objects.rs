//! Objects that are wrong in themselves or next to others.

use super::{BASE, DSR, parse, second, wrong, wrong_end, wrong_runtime, wrong_service, wrong_text};

#[test]
fn health_that_cannot_work() {
    wrong_end(
        "[service.health]\ntype = \"tcp\"\ninterval = \"1s\"\ntimeout = \"2s\" #!",
        "service.health.timeout",
        "2s is longer than the interval of 1s",
        "at most the interval",
    );
    wrong_end(
        "[service.health]\ntype = \"tcp\"\ninterval = \"500ms\" #!",
        "service.health.interval",
        "1s is longer than the interval of 500ms",
        "at most the interval",
    );
    wrong_end(
        "[service.health]\ntype = \"tcp\"\nrise = 0 #!",
        "service.health.rise",
        "0 checks",
        "at least 1",
    );
    wrong_end("[service.health] #!\nfall = 1", "service.health.type", "missing", "add type");
}

#[test]
fn health_keys_that_do_not_fit() {
    for (kind, line, key, problem, remedy) in [
        ("tcp", "path = \"/\"", "path", "no meaning with type = \"tcp\"", "\"http\" or \"https\""),
        ("icmp", "port = 7", "port", "no meaning with type = \"icmp\"", "remove it"),
        ("icmp", "expect = \"x\"", "expect", "no meaning", "\"tcp\" or \"udp\""),
        ("http", "payload = \"x\"", "payload", "no meaning", "\"tcp\" or \"udp\""),
        ("http", "tls_verify = true", "tls_verify", "no meaning", "\"https\""),
        ("tcp", "port = 0", "port", "nobody's", "1 to 65535"),
        ("tcp", "port = \"80\"", "port", "text where a whole number", "take away the quotes"),
        ("tcp", "jitter = 51", "jitter", "no rhythm", "at most 50"),
        ("tcp", "panic_threshold = 101", "panic_threshold", "more than all", "0 to 100"),
        ("tcp", "expect = \"\"", "expect", "contains nothing", "leave it out"),
        ("udp", "payload = \"hex:0\"", "payload", "not hexadecimal", "two digits"),
        ("http", "path = \"status\"", "path", "not a path", "begin it with"),
        ("http", "path = \"/a b\"", "path", "not a path", "%20"),
        ("http", "host = \"a\\r\\nX: y\"", "host", "not a host", "a name"),
        ("http", "status = \"2xx\"", "status", "\"2xx\" is not a status code", "\"200-399\""),
        ("http", "status = 1000", "status", "\"1000\" is not a status code", "\"200-399\""),
        ("http", "body = \"\"", "body", "0 bytes cannot be looked for", "1 to 1024"),
        ("https", "tls_name = \"-a\"", "tls_name", "not a server name", "a name"),
        ("https", "tls_ca = \"/ca.pem\"", "tls_ca", "without tls_verify", "tls_verify = true"),
    ] {
        let section = format!("[service.health]\ntype = \"{kind}\"\n{line} #!");
        wrong_end(&section, &format!("service.health.{key}"), problem, remedy);
    }
    wrong_text(
        &BASE
            .replace("ports = \"80\"", "ports = \"*\"")
            .replace("address = \"10.0.0.11:8080\"", "address = \"10.0.0.11\"")
            .replacen("[[service.backend]]", "[service.health] #!\ntype = \"tcp\"\n[[service.backend]]", 1),
        "service.health",
        "which port of 10.0.0.11 is to be asked",
        "add port = NUMBER",
    );
    wrong_service("slow_start = \"25h\" #!", "service.slow_start", "for ever", "at most 24h");
}

#[test]
fn bad_runtime() {
    wrong(
        "workers = [1]",
        "workers = [1, 2, 1] #!",
        "runtime.workers",
        "CPU 1 is named twice",
        "name each CPU once",
    );
    wrong(
        "control_cpus = [0]",
        "control_cpus = [0, 0] #!",
        "runtime.control_cpus",
        "CPU 0 is named twice",
        "once",
    );
    wrong("workers = [1]", "workers = [] #!", "runtime.workers", "the list is empty", "at least one CPU");
    wrong(
        "workers = [1]",
        "workers = [1, \"2\"] #!",
        "runtime.workers",
        "text where a whole number",
        "take away the quotes: 2",
    );
    wrong_runtime("memory = \"63M\" #!", "runtime.memory", "63M is too little", "at least 64M");
    wrong_runtime("memory = \"1 GB\" #!", "runtime.memory", "\"1 GB\" is not a size", "\"1G\"");
    wrong_runtime("max_connections = 0 #!", "runtime.max_connections", "0 connections", "1 to 67108864");
    wrong_runtime("max_connections = 67108865 #!", "runtime.max_connections", "67108865", "1 to 67108864");
    wrong_runtime(
        "maglev_table_size = 65536 #!",
        "runtime.maglev_table_size",
        "65536 is not a prime",
        "65537",
    );
    wrong_runtime(
        "maglev_table_size = 7 #!",
        "runtime.maglev_table_size",
        "out of range",
        "a prime from 251",
    );
    wrong_runtime(
        "maglev_seed = -1 #!",
        "runtime.maglev_seed",
        "-1 is out of range",
        "from 0 to 9223372036854775807",
    );
    wrong_runtime("socket = \"\" #!", "runtime.socket", "the path is empty", "sluice.sock");
    let long = format!("socket = \"/{}\" #!", "x".repeat(107));
    wrong_runtime(&long, "runtime.socket", "108 bytes", "at most 107");
    wrong_runtime("eal_args = [\"\"] #!", "runtime.eal_args", "empty", "remove it");
}

#[test]
fn bad_host_interfaces() {
    let port = |lines: &str, key: &str, problem: &str, remedy: &str| {
        let device = "device = \"0000:3b:00.0\"";
        wrong(device, &format!("{device}\n{lines} #!"), &format!("port.{key}"), problem, remedy);
    };
    for (name, problem) in [
        ("", "empty"),
        ("a234567890123456", "longer than 15"),
        ("wan 0", "no interface"),
        ("wan/0", "no interface"),
        ("wan%d", "no interface"),
        ("wan0:1", "no interface"),
        ("..", "no interface"),
        ("lo", "no interface"),
        ("wän", "no interface"),
    ] {
        port(&format!("host_interface = \"{name}\""), "host_interface", problem, "\"wan0\"");
    }
    port("host_rate = 5", "host_rate", "without host_interface", "add host_interface");
    for rate in ["99", "1000001"] {
        let lines = format!("host_interface = \"wan0\"\nhost_rate = {rate}");
        port(&lines, "host_rate", "out of range", "100 to 1000000");
    }
    let second = "\n[[port]]\nname = \"lan\"\ndevice = \"net_af_packet0,iface=eth1\"\n";
    let first = BASE.replacen("name = \"wan\"", "name = \"wan\"\nhost_interface = \"wan0\"", 1);
    wrong_text(
        &format!("{first}{second}host_interface = \"wan0\" #!\n"),
        "port.host_interface",
        "port \"wan\" is called so on line 8",
        "of its own",
    );
    wrong_text(
        &format!("{BASE}{second}host_interface = \"eth1\" #!\n"),
        "port.host_interface",
        "\"eth1\" is there already: port \"lan\"",
        "another name",
    );
}

#[test]
fn bad_network() {
    let port = |name: &str, device: &str, rest: &str| {
        format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n{rest}")
    };
    wrong_end(
        &port("wan\" #!", "net_null0", "").replace("#!\"", "#!"),
        "port.name",
        "\"wan\" exists already on line 7",
        "its own name",
    );
    wrong_end(
        &port("lan", "0000:3B:00.0,x=1\" #!", "").replace("#!\"", "#!"),
        "port.device",
        "is that of port \"wan\" on line 8",
        "for one port",
    );
    wrong_end(
        &port("lan", " \" #!", "").replace("#!\"", "#!"),
        "port.device",
        "names no device",
        "a PCI address",
    );
    wrong_end(
        &port("l n\" #!", "x", "").replace("#!\"", "#!"),
        "port.name",
        "other characters",
        "a short name",
    );
    let rest = |rest: &str| port("lan", "net_null0", rest);
    wrong_end(
        &rest("addresses = [\"10.0.0.2/16\"] #!"),
        "port.addresses",
        "10.0.0.2 is already an address of port \"wan\" on line 9",
        "its own addresses",
    );
    wrong_end(&rest("addresses = [\"10.9.0.0/24\"] #!"), "port.addresses", "the network", "between the two");
    wrong_end(
        &rest("addresses = [\"10.9.0.255/24\"] #!"),
        "port.addresses",
        "the broadcast address",
        "between the two",
    );
    wrong_end(&rest("addresses = [\"10.9.0.1/0\"] #!"), "port.addresses", "every address", "the length");
    wrong_end(
        &rest("addresses = [\"ff02::1/64\"] #!"),
        "port.addresses",
        "a multicast address",
        "the port's network",
    );
    wrong_end(&rest("mtu = 60 #!"), "port.mtu", "60 bytes are out of range", "68 to 9728");
    wrong_end(
        &rest("mtu = 1000\naddresses = [\"2001:db8:9::1/64\"]").replace("1000", "1000 #!"),
        "port.mtu",
        "too few for IPv6",
        "at least 1280",
    );
    wrong_end(&rest("rx_descriptors = 8 #!"), "port.rx_descriptors", "8 is out of range", "32 to 32768");
    wrong_end(
        &rest("tx_descriptors = 65535 #!"),
        "port.tx_descriptors",
        "65535 is out of range",
        "32 to 32768",
    );
}

#[test]
fn bad_vlans() {
    let sub = |rest: &str| format!("[[port]]\nname = \"wan.100\"\n{rest}");
    let on_wan = |rest: &str| sub(&format!("parent = \"wan\"\n{rest}"));
    for id in [0, 4095] {
        let problem = format!("{id} is no VLAN");
        wrong_end(&on_wan(&format!("vlan = {id} #!")), "port.vlan", &problem, "1 to 4094");
    }
    wrong_end(&on_wan("vlan = 70000 #!"), "port.vlan", "70000 is out of range", "0 to 65535");
    wrong_end(&sub("parent = \"lan\" #!\nvlan = 1"), "port.parent", "no port \"lan\"", "use one of wan");
    wrong_end(&sub("parent = \"wan.100\" #!\nvlan = 1"), "port.parent", "its own parent", "with the device");
    let both = sub("parent = \"wan\" #!\ndevice = \"net_null0\"\nvlan = 1");
    wrong_end(&both, "port.parent", "a device of its own, or", "remove one");
    let no_vlan = "[[port]] #!\nname = \"wan.100\"\nparent = \"wan\"";
    wrong_end(no_vlan, "port", "\"vlan\" is missing", "add vlan = 1 to 4094");
    wrong_end(
        &on_wan("vlan = 1\nmtu = 1501 #!"),
        "port.mtu",
        "more than the 1500 of port \"wan\"",
        "at most 1500",
    );
    for key in ["rx_descriptors", "tx_descriptors"] {
        let line = format!("vlan = 1\n{key} = 512 #!");
        wrong_end(&on_wan(&line), &format!("port.{key}"), "no queues of its own", "at port \"wan\"");
    }
    let twice = format!("{}\n[[port]]\nname = \"b\"\nparent = \"wan\"\nvlan = 5 #!", on_wan("vlan = 5"));
    wrong_end(&twice, "port.vlan", "VLAN 5 there is port \"wan.100\" already on line 28", "for one port");
    let nested = format!("{}\n[[port]]\nname = \"b\"\nparent = \"wan.100\" #!\nvlan = 5", on_wan("vlan = 6"));
    wrong_end(&nested, "port.parent", "itself a sub-interface", "such as \"wan\"");
    // The tag of the port itself counts too.
    wrong_text(
        &format!("{}{}", BASE.replacen("[[route]]", "vlan = 5\n[[route]]", 1), on_wan("vlan = 5 #!")),
        "port.vlan",
        "VLAN 5 there is port \"wan\" already",
        "for one port",
    );
}

#[test]
fn bad_routes() {
    let route = |to: &str, via: &str| format!("[[route]]\nto = \"{to}\"\nvia = \"{via}\" #!");
    wrong_end(
        &route("10.5.0.0/16", "10.9.0.1"),
        "route.via",
        "10.9.0.1 is on no port's subnet",
        "use a router on one of 10.0.0.0/24,",
    );
    wrong_end(&route("10.5.0.0/16", "2001:db8::1"), "route.via", "the other family", "same family");
    wrong_end(&route("10.5.0.0/16", "10.0.0.2"), "route.via", "own address on port \"wan\"", "a router");
    wrong_end(&route("10.5.0.0/16", "0.0.0.0"), "route.via", "the unspecified address", "a router");
    wrong_end(
        "[[route]]\nto = \"0.0.0.0/0\" #!\nvia = \"10.0.0.9\"",
        "route.to",
        "already on line 12",
        "remove one",
    );
    wrong_end(
        "[[route]]\nto = \"10.5.0.1/16\" #!\nvia = \"10.0.0.9\"",
        "route.to",
        "host bits",
        "\"10.5.0.0/16\"",
    );
}

#[test]
fn a_port_that_cannot_be_read_does_not_make_its_routes_wrong() {
    wrong(
        "device = \"0000:3b:00.0\"",
        "device = 5 #!",
        "port.device",
        "a number where text",
        "in quotes: \"5\"",
    );
}

#[test]
fn bad_backends() {
    let backend = |address: &str| format!("[[service.backend]]\naddress = \"{address}\" #!");
    wrong_end(
        &backend("10.0.0.11:8080"),
        "service.backend.address",
        "has the backend 10.0.0.11:8080 already on line 22",
        "weight",
    );
    wrong_end(
        &backend("[2001:db8::11]:80"),
        "service.backend.address",
        "different families",
        "use an IPv4 address, or mode = \"full-nat\"; nat keeps",
    );
    wrong_end(
        &backend("192.0.2.10:8080"),
        "service.backend.address",
        "is the VIP of service \"web\"",
        "own address",
    );
}

#[test]
fn the_same_place_written_in_two_ways_is_a_duplicate() {
    let end =
        "[[service.backend]]\naddress = \"10.0.0.13\"\n[[service.backend]]\naddress = \"10.0.0.13:80\" #!";
    wrong_end(end, "service.backend.address", "already on line 26", "remove one");
}

#[test]
fn the_third_services_second_backend_has_its_line() {
    let service = |vip: &str, second: &str| {
        format!(
            "[[service]]\nvip = \"{vip}\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.backend]]\naddress = \"10.0.0.21\"\n[[service.backend]]\naddress = {second}\n"
        )
    };
    let end = service("192.0.2.11", "\"10.0.0.22\"") + &service("192.0.2.12", "\"10.0.0.21\" #!");
    wrong_end(&end, "service.backend.address", "service \"tcp-192.0.2.12-80\" has the backend", "remove one");
}

#[test]
fn bad_dsr() {
    let dsr = |address: &str| format!("{DSR}[[service.backend]]\naddress = \"{address}\" #!");
    wrong_end(
        &dsr("10.0.0.11:8080"),
        "service.backend.address",
        "dsr cannot translate ports 80 to 8080",
        "write \"10.0.0.11\"",
    );
    wrong_end(&dsr("[2001:db8::11]:80"), "service.backend.address", "different families", "dsr keeps");
    wrong_end(&dsr("192.0.2.20"), "service.backend.address", "is the VIP", "holds the VIP besides");
    let range = dsr("10.0.0.11:80").replace("\"80\"", "\"80-81\"");
    wrong_end(&range, "service.backend.address", "ports 80-81 to 80", "write \"10.0.0.11\"");
    parse(&format!("{BASE}{}", dsr("10.0.0.11:80")));
}

#[test]
fn keys_that_need_another_mode() {
    wrong_service(
        "tunnel = \"ipip\" #!",
        "service.tunnel",
        "no meaning with mode = \"nat\"",
        "use mode = \"dsr\"",
    );
    wrong_service(
        "local_addresses = [\"10.0.0.9\"] #!",
        "service.local_addresses",
        "no meaning with mode = \"nat\"",
        "full-nat",
    );
    let full_nat = |list: &str| {
        BASE.replace("mode = \"nat\"", &format!("mode = \"full-nat\"\nlocal_addresses = [{list}] #!"))
    };
    wrong_text(&full_nat("\"10.0.0.9\", \"10.0.0.9\""), "service.local_addresses", "named twice", "once");
    wrong_text(&full_nat("\"224.0.0.9\""), "service.local_addresses", "multicast", "answer to");
    parse(&full_nat("\"10.0.0.9\""));
    parse(&BASE.replace("mode = \"nat\"", "mode = \"nat\"\ntunnel = \"none\""));
}

#[test]
fn segment_sizes_are_for_tcp() {
    wrong_service("mss = 200 #!", "service.mss", "\"200\" is no segment size", "from 536");
    wrong_text(
        &BASE.replace("\"tcp\"", "\"udp\"\nmss = 1400 #!"),
        "service.mss",
        "no meaning with protocol = \"udp\"",
        "remove it",
    );
    let mss = |value: &str| parse(&BASE.replace("mode", &format!("mss = {value}\nmode"))).services[0].mss;
    assert_eq!(mss("1400"), mss("\"1400\""));
    assert_eq!(mss("\"auto\"").map(|mss| mss.to_string()), Some("auto".into()));
}

#[test]
fn unknown_connections_are_of_tcp_and_not_adopted_by_full_nat() {
    let with = |mode: &str, policy: &str| {
        BASE.replace("mode = \"nat\"", &format!("mode = \"{mode}\"\nunknown_connections = \"{policy}\" #!"))
    };
    let key = "service.unknown_connections";
    wrong_text(&with("nat", "ignore"), key, "\"ignore\" is not known", "use \"adopt\" or \"reset\"");
    wrong_text(&with("full-nat", "adopt"), key, "full-nat cannot adopt", "use \"reset\"");
    let udp = with("nat", "reset").replace("\"tcp\"", "\"udp\"");
    wrong_text(&udp, key, "no meaning with protocol = \"udp\"", "remove it");
    let policy = |text: &str| parse(text).services[0].on_unknown().to_string();
    assert_eq!((policy(BASE), policy(&with("nat", "reset"))), ("adopt".into(), "reset".into()));
    assert_eq!(policy(&BASE.replace("\"nat\"", "\"full-nat\"")), "reset");
    assert_eq!(policy(&with("full-nat", "reset")), "reset");
}

#[test]
fn tunnels_have_keys_of_their_own() {
    let dsr =
        |keys: &str| BASE.replace("mode = \"nat\"", &format!("mode = \"dsr\"\n{keys}")).replace(":8080", "");
    let at = |key: &str| format!("service.{key}");
    for (keys, key, problem, remedy) in [
        ("tunnel_sources = [\"10.0.0.9\"] #!", "tunnel_sources", "without a tunnel", "set tunnel"),
        ("gue_port = 6080 #!", "gue_port", "no meaning with tunnel = \"none\"", "use tunnel = \"gue\""),
        (
            "tunnel = \"gre\"\ngue_variant = 0 #!",
            "gue_variant",
            "no meaning with tunnel = \"gre\"",
            "\"gue\"",
        ),
        ("tunnel = \"gue\"\ngue_variant = 2 #!", "gue_variant", "no variant 2", "0 for a header"),
        ("tunnel = \"gue\"\ngue_port = 0 #!", "gue_port", "0 is no port", "usually 6080"),
        ("tunnel = \"gre\"\ntunnel_sources = [\"127.0.0.1\"] #!", "tunnel_sources", "loopback", "belong to"),
        (
            "tunnel = \"gre\"\ntunnel_sources = [\"192.0.2.10\"] #!",
            "tunnel_sources",
            "overlaps the VIP",
            "their own",
        ),
        (
            "tunnel = \"gre\"\ntunnel_sources = [\"10.9.0.0/23\"] #!",
            "tunnel_sources",
            "512 tunnel sources",
            "at most 256",
        ),
        ("dscp = 5 #!", "dscp", "no meaning with tunnel = \"none\"", "use tunnel = \"l3dsr\""),
        ("tunnel = \"gre\"\ndscp = 5 #!", "dscp", "no meaning with tunnel = \"gre\"", "\"l3dsr\""),
        ("tunnel = \"l3dsr\" #!", "tunnel", "needs a DSCP", "add dscp = 1 to 63"),
        ("tunnel = \"l3dsr\"\ndscp = 0 #!", "dscp", "0 is no DSCP", "use 1 to 63"),
        ("tunnel = \"l3dsr\"\ndscp = 64 #!", "dscp", "64 is no DSCP", "use 1 to 63"),
        (
            "tunnel = \"l3dsr\"\ndscp = 5\ntunnel_sources = [\"10.0.0.9\"] #!",
            "tunnel_sources",
            "no meaning with tunnel = \"l3dsr\"",
            "remove them",
        ),
    ] {
        wrong_text(&dsr(keys), &at(key), problem, remedy);
    }
    // Either family over either, and far away.
    let config = parse(
        &dsr("tunnel = \"ipip\"\ntunnel_sources = [\"10.0.0.64/30\"]").replace("10.0.0.11", "2001:db8::9"),
    );
    assert_eq!(config.services[0].tunnel_sources[0].count(), 4);
}

#[test]
fn a_dscp_stands_for_one_vip() {
    let service = |vip: &str, ports: u16, dscp: u8, backend: &str| {
        format!(
            "[[service]]\nvip = \"{vip}\"\nports = \"{ports}\"\nprotocol = \"tcp\"\nmode = \"dsr\"\n\
             tunnel = \"l3dsr\"\ndscp = {dscp} #!\n[[service.backend]]\naddress = \"{backend}\"\n"
        )
    };
    let first = service("192.0.2.50", 80, 5, "10.0.0.11").replace(" #!", "");
    wrong_end(
        &format!("{first}{}", service("192.0.2.51", 80, 5, "10.0.0.11")),
        "service.dscp",
        "DSCP 5 already stands for the VIP 192.0.2.50 of service \"tcp-192.0.2.50-80\" at the backend 10.0.0.11",
        "its own DSCP",
    );
    // Another backend, another DSCP, another port of the same VIP.
    for second in [
        service("192.0.2.51", 80, 5, "10.0.0.12"),
        service("192.0.2.51", 80, 6, "10.0.0.11"),
        service("192.0.2.50", 81, 5, "10.0.0.11"),
    ] {
        let config = parse(&format!("{BASE}{first}{second}"));
        assert_eq!(config.services[1].dscp, Some(5));
    }
    let subnet = service("192.0.2.64/28", 80, 5, "10.0.0.11").replace(" #!", "");
    let subnet = subnet.replace("/28\"", "/28\" #!");
    wrong_end(
        &subnet,
        "service.vip",
        "a DSCP names one address, and 192.0.2.64/28 is 16",
        "a single address",
    );
    let other =
        service("192.0.2.50", 80, 5, "2001:db8::11").replace(" #!", "").replace("::11\"", "::11\" #!");
    wrong_end(&other, "service.backend.address", "different families", "dsr keeps");
}

#[test]
fn services_that_overlap_name_both() {
    wrong_end(
        &second("b", "192.0.2.10", "80"),
        "service.ports",
        "service \"b\" on line 28 and service \"web\" on line 18 are both tcp 192.0.2.10 ports 80",
        "remove one",
    );
    let base = BASE.replace("\"80\"", "\"80-90\"");
    let crossing = format!("{base}{}", second("b", "192.0.2.10", "85-95"));
    wrong_text(
        &crossing,
        "service.ports",
        "service \"b\" on line 28 and service \"web\" on line 18 overlap: tcp 192.0.2.10 ports 85-95 and 80-90",
        "let one range contain the other",
    );
    let before = format!("{base}{}", second("b", "192.0.2.10", "70-80"));
    wrong_text(&before, "service.ports", "overlap", "keep them apart");
}

#[test]
fn the_same_service_twice_without_names_is_one_error() {
    let text = format!("{BASE}{}", second("b", "192.0.2.10", "80"))
        .replace("name = \"web\"\n", "")
        .replace("name = \"b\"\n", "");
    wrong_text(&text, "service.ports", "are both", "remove one");
}

#[test]
fn bad_names() {
    wrong_end(
        &second("web\" #!", "192.0.2.11", "80").replace("#!\"\n", "#!\n").replacen("\"80\" #!", "\"80\"", 1),
        "service.name",
        "the service \"web\" exists already on line 16",
        "its own name",
    );
    wrong("name = \"web\"", "name = \"\" #!", "service.name", "the name is empty", "a short name");
    wrong("name = \"web\"", "name = \"a/b\" #!", "service.name", "other characters", "a short name");
    wrong(
        "name = \"web\"",
        &format!("name = \"{}\" #!", "x".repeat(65)),
        "service.name",
        "longer than 64",
        "a short name",
    );
}
