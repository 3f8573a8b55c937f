//! Single keys and values that are wrong.

use super::{wrong, wrong_end, wrong_runtime, wrong_service, wrong_text};

#[test]
fn unknown_keys() {
    wrong_service(
        "schedular = \"maglev\" #!",
        "service.schedular",
        "\"schedular\" is not known",
        "did you mean \"scheduler\"?",
    );
    wrong_service("colour = 1 #!", "service.colour", "not known", "remove it; the keys here are name, vip");
    wrong_runtime("max-connections = 5 #!", "runtime.max-connections", "not known", "\"max_connections\"");
    wrong_end("wieght = 5 #!", "service.backend.wieght", "not known", "\"weight\"");
    wrong(
        "[[route]]",
        "[[routes]] #!",
        "routes",
        "the section \"routes\" is not known",
        "did you mean \"route\"?",
    );
    wrong_end("[general] #!\nx = 1", "general", "section", "the keys here are runtime, port, route, service");
}

#[test]
fn a_typo_is_not_also_missing() {
    wrong("vip = \"192.0.2.10\"", "vpi = \"192.0.2.10\" #!", "service.vpi", "not known", "\"vip\"");
}

#[test]
fn unknown_words() {
    wrong(
        "mode = \"nat\"",
        "mode = \"ntaa\" #!",
        "service.mode",
        "\"ntaa\" is not known",
        "did you mean \"nat\"?",
    );
    wrong(
        "protocol = \"tcp\"",
        "protocol = \"sctp\" #!",
        "service.protocol",
        "\"sctp\"",
        "\"tcp\" or \"udp\"",
    );
    wrong_service("scheduler = \"rr\" #!", "service.scheduler", "\"rr\"", "round-robin");
    wrong_service("affinity = \"source\" #!", "service.affinity", "\"source\"", "\"source-ip\"");
    wrong_service(
        "scheduler = \"sourcehash\" #!",
        "service.scheduler",
        "\"sourcehash\"",
        "did you mean \"source-hash\"",
    );
    wrong_service("hash_feilds = [] #!", "service.hash_feilds", "not known", "did you mean \"hash_fields\"?");
    wrong_service("hash_fields = [] #!", "service.hash_fields", "all flows are one", "name fields");
    wrong_service(
        "hash_fields = [\"source-adress\"] #!",
        "service.hash_fields",
        "\"source-adress\"",
        "did you mean \"source-address\"?",
    );
    wrong_service(
        "hash_fields = [\"source-port\", \"source-port\"] #!",
        "service.hash_fields",
        "named twice",
        "once",
    );
    wrong_service(
        "scheduler = \"round-robin\"\nhash_fields = [\"source-port\"] #!",
        "service.hash_fields",
        "no meaning with scheduler = \"round-robin\"",
        "use scheduler = \"maglev\"",
    );
    wrong_service(
        "affinity = \"source-ip\"\nhash_fields = [\"source-port\"] #!",
        "service.hash_fields",
        "no meaning with affinity",
        "remove one of both",
    );
    wrong_service(
        "affinity_timeout = \"5m\" #!",
        "service.affinity_timeout",
        "no meaning with affinity = \"none\"",
        "use affinity = \"source-ip\"",
    );
    wrong_service(
        "affinity = \"source-ip\"\naffinity_timeout = \"10ms\" #!",
        "service.affinity_timeout",
        "10ms is too short",
        "at least 1s",
    );
    wrong_service(
        "affinity = \"source-ip\"\naffinity_prefix_v4 = 33 #!",
        "service.affinity_prefix_v4",
        "33 is no prefix length",
        "from 1 to 32",
    );
    wrong_service("tunnel = \"vxlan\" #!", "service.tunnel", "\"vxlan\"", "\"gre\"");
    wrong_runtime(
        "local_ports = \"*\" #!",
        "runtime.local_ports",
        "health checks speak from ports above 64511",
        "end at 64511",
    );
    wrong_runtime(
        "steering = \"hardware\" #!",
        "runtime.steering",
        "\"hardware\"",
        "use \"auto\" or \"software\"",
    );
    wrong_runtime("socket_group = \"\" #!", "runtime.socket_group", "the name is empty", "\"sluice\"");
    wrong_runtime("socket_group = \"a:b\" #!", "runtime.socket_group", "\"a:b\" is not a name", "\"sluice\"");
    wrong_runtime("operators = [\"@\"] #!", "runtime.operators", "the name is empty", "\"@netops\"");
    wrong_runtime("operators = [\"a b\"] #!", "runtime.operators", "\"a b\" is not a name", "\"alice\"");
    wrong_runtime("operators = [\"eve\", \"eve\"] #!", "runtime.operators", "\"eve\" is named twice", "once");
    wrong_runtime("poll = \"Busy\" #!", "runtime.poll", "\"Busy\"", "did you mean \"busy\"?");
    wrong_service("health.type = \"ping\" #!", "service.health.type", "\"ping\"", "\"icmp\"");
}

#[test]
fn missing_keys_are_told_on_the_line_of_their_section() {
    wrong(
        "[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"",
        "[[service]] #!",
        "service.vip",
        "\"vip\" is missing",
        "add vip = \"192.0.2.10\"",
    );
    wrong(
        "[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\nports = \"80\"",
        "[[service]] #!\nvip = \"192.0.2.10\"",
        "service.ports",
        "missing",
        "ports = \"80\"",
    );
    wrong("[[port]]\nname = \"wan\"", "[[port]] #!", "port.name", "missing", "add name = \"wan\"");
    wrong("[[route]]\nto = \"0.0.0.0/0\"", "[[route]] #!", "route.to", "missing", "add to =");
    wrong_end("[[service.backend]] #!\nweight = 1", "service.backend.address", "missing", "add address =");
    wrong_end(
        "[[service]] #!\nvip = \"192.0.2.11\"\nports = \"80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n",
        "service.backend",
        "missing",
        "add a [[service.backend]]",
    );
    wrong_text("#!\n[runtime]\nhugepages = false", "port", "no [[port]]", "add one with a name");
}

#[test]
fn values_of_the_wrong_kind() {
    wrong(
        "ports = \"80\"",
        "ports = true #!",
        "service.ports",
        "true or false where text is wanted",
        "in quotes",
    );
    wrong_runtime("hugepages = \"no\" #!", "runtime.hugepages", "text where true or false", "without quotes");
    wrong_runtime(
        "max_connections = \"100\" #!",
        "runtime.max_connections",
        "text where a whole number",
        "take away the quotes: 100",
    );
    wrong_runtime(
        "max_connections = 1.5 #!",
        "runtime.max_connections",
        "a number with a point",
        "from 0 to",
    );
    wrong_runtime("memory = 1024 #!", "runtime.memory", "a number where text", "put it in quotes: \"1024\"");
    wrong("workers = [1]", "workers = 1 #!", "runtime.workers", "a list is wanted", "workers = [ … ]");
    wrong("[[port]]", "[port] #!", "port", "this section is a list", "[[port]] with two brackets");
    wrong_end(
        "[[service.timeouts]] #!",
        "service.timeouts",
        "a section is wanted",
        "write [service.timeouts]",
    );
    wrong_service("health = \"tcp\" #!", "service.health", "a section is wanted", "write [service.health]");
    wrong_end("weight = 70000 #!", "service.backend.weight", "70000 is out of range", "from 0 to 65535");
    wrong_end("weight = -1 #!", "service.backend.weight", "-1 is out of range", "from 0 to 65535");
    wrong_end("tier = 256 #!", "service.backend.tier", "256", "from 0 to 255");
}

#[test]
fn bad_addresses() {
    wrong(
        "\"192.0.2.10\"",
        "\"192.0.2.300\" #!",
        "service.vip",
        "\"192.0.2.300\" is not an IP address",
        "192.0.2.10",
    );
    wrong("\"192.0.2.10\"", "\"192.0.2.10/24\" #!", "service.vip", "host bits", "write \"192.0.2.0/24\"");
    wrong(
        "\"192.0.2.10\"",
        "\"192.0.2.10/33\" #!",
        "service.vip",
        "\"33\" is not a prefix length",
        "from 0 to 32",
    );
    wrong("\"192.0.2.10\"", "\"224.0.0.1\" #!", "service.vip", "a multicast address", "clients can reach");
    wrong("\"192.0.2.10\"", "\"127.0.0.1\" #!", "service.vip", "a loopback address", "clients can reach");
    wrong(
        "\"10.0.0.11:8080\"",
        "\"10.0.0.11:http\" #!",
        "service.backend.address",
        "\"http\" is not a port number",
        "1 to 65535",
    );
    wrong(
        "\"10.0.0.11:8080\"",
        "\"10.0.0.11:0\" #!",
        "service.backend.address",
        "\"0\" is not a port number",
        "leave the port out",
    );
    wrong(
        "\"10.0.0.11:8080\"",
        "\"web1.example\" #!",
        "service.backend.address",
        "not a backend address",
        "10.1.0.11:8080",
    );
    wrong(
        "\"10.0.0.11:8080\"",
        "\"127.0.0.1:80\" #!",
        "service.backend.address",
        "a loopback address",
        "address of a server",
    );
    wrong(
        "via = \"10.0.0.1\"",
        "via = \"10.0.0.1/24\" #!",
        "route.via",
        "not an IP address",
        "without the prefix length: \"10.0.0.1\"",
    );
    wrong_runtime(
        "metrics = \"localhost\" #!",
        "runtime.metrics",
        "not an address with a port",
        "127.0.0.1:9108",
    );
    wrong_runtime(
        "metrics = \"127.0.0.1:0\" #!",
        "runtime.metrics",
        "not an address with a port",
        "127.0.0.1:9108",
    );
    wrong_runtime(
        "status_page = true #!",
        "runtime.status_page",
        "no listener that could show the page",
        "set runtime.metrics, for example to \"127.0.0.1:9108\"",
    );
}

#[test]
fn bad_ports_of_a_service() {
    for (ports, problem, remedy) in [
        ("0", "\"0\" is not a port number", "from 1 to 65535"),
        ("65536", "\"65536\" is not a port number", "from 1 to 65535"),
        ("200-100", "ends before it begins", "write \"100-200\""),
        ("80,443", "a list of ports", "one [[service]] for each range"),
        ("http", "\"http\" is not a port number", "\"*\" for all"),
        ("+80", "\"+80\" is not a port number", "from 1 to 65535"),
    ] {
        wrong("ports = \"80\"", &format!("ports = \"{ports}\" #!"), "service.ports", problem, remedy);
    }
}

#[test]
fn bad_times_and_sizes() {
    wrong_service("timeouts.udp = \"5\" #!", "service.timeouts.udp", "lacks a unit", "\"5s\"");
    wrong_service("timeouts.udp = \"5d\" #!", "service.timeouts.udp", "\"d\" is not a unit", "ms, s, m or h");
    wrong_service("timeouts.syn = \"10ms\" #!", "service.timeouts.syn", "10ms is too short", "at least 1s");
    wrong_service("timeouts.fin = \"9999h\" #!", "service.timeouts.fin", "too long", "8784h");
    wrong_service(
        "health = { type = \"tcp\", timeout = \"1ms\" } #!",
        "service.health.timeout",
        "1ms is too short",
        "10ms",
    );
}

#[test]
fn elements_of_lists_have_their_own_lines() {
    wrong(
        "addresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]",
        "addresses = [\n\"10.0.0.2/24\",\n\"2001:db8::2\" #!\n]",
        "port.addresses",
        "lacks the length of its subnet",
        "\"2001:db8::2/64\"",
    );
}
