//! What becomes of a packet, in the words of the API.

use super::daemon::{DNS, Daemon, config, eventually};
use ctl::api::{ApiError, ExplainOutcome, Explanation, FlowState};
use dataplane::wire::ethernet::Mac;
use std::net::Ipv4Addr;

fn path(protocol: &str, source: &str, destination: &str) -> String {
    format!("/v1/explain?protocol={protocol}&source={source}&destination={destination}")
}

fn explain(daemon: &Daemon, protocol: &str, source: &str, destination: &str) -> Explanation {
    let answer = daemon.get(&path(protocol, source, destination));
    assert_eq!(answer.code, 200, "{}", answer.body);
    serde_json::from_value(answer.json()).unwrap()
}

fn refused(daemon: &Daemon, code: u16, protocol: &str, source: &str, destination: &str) -> String {
    let answer = daemon.get(&path(protocol, source, destination));
    assert_eq!(answer.code, code, "{}", answer.body);
    serde_json::from_value::<ApiError>(answer.json()).unwrap().reason
}

#[test]
fn a_connection_is_told_before_and_after_it_is_made() {
    let daemon = Daemon::start(&config(DNS));
    daemon.arp_reply([10, 1, 0, 11], Mac([2, 0, 0, 0, 0, 11]));
    eventually("the next hop is known", || daemon.get("/v1/neighbors").body.contains("reachable"));
    let told = explain(&daemon, "udp", "198.51.100.7:40000", "192.0.2.11:53");
    let (service, backend) = (told.service.unwrap(), told.backend.unwrap());
    assert_eq!((service.name.as_str(), service.candidates), ("dns", 1));
    assert_eq!((backend.address.as_str(), backend.stable), ("10.1.0.11:53", true));
    let packet = told.packet.unwrap();
    assert_eq!((told.outcome, told.connection), (ExplainOutcome::Forwarded, None));
    assert_eq!((packet.source.as_str(), packet.destination.as_str()), ("198.51.100.7:40000", "10.1.0.11:53"));
    assert_eq!(packet.destination_mac.as_deref(), Some("02:00:00:00:00:0b"));
    daemon.datagram(0, Ipv4Addr::new(198, 51, 100, 7), 40_000);
    eventually("it is made", || {
        explain(&daemon, "udp", "198.51.100.7:40000", "192.0.2.11:53").connection.is_some()
    });
    let made = explain(&daemon, "udp", "198.51.100.7:40000", "192.0.2.11:53");
    assert_eq!((made.worker.cpu, made.packet), (told.worker.cpu, Some(packet)));
    assert_eq!(made.connection.unwrap().state, FlowState::Udp);
    // The answer, which waits for the gateway.
    let answer = explain(&daemon, "udp", "10.1.0.11:53", "198.51.100.7:40000");
    assert!(answer.connection.unwrap().answer);
    let (packet, hop) = (answer.packet.unwrap(), answer.next_hop.unwrap());
    assert_eq!((answer.outcome, hop.address.as_str()), (ExplainOutcome::Held, "10.1.0.254"));
    assert_eq!(
        (packet.source.as_str(), packet.destination.as_str()),
        ("192.0.2.11:53", "198.51.100.7:40000")
    );
}

#[test]
fn what_is_not_forwarded_says_why() {
    let daemon = Daemon::start(&config(""));
    let told = explain(&daemon, "tcp", "198.51.100.7:40000", "192.0.2.10:80");
    assert!(!told.backend.unwrap().stable, "a round goes on");
    for address in ["10.1.0.11:8080", "10.1.0.12:8080"] {
        assert_eq!(daemon.post(&format!("/v1/services/web/backends/{address}/disable"), "", "").code, 200);
    }
    let told = explain(&daemon, "tcp", "198.51.100.7:40000", "192.0.2.10:80");
    assert_eq!((told.outcome, told.drop_reason.as_deref()), (ExplainOutcome::Dropped, Some("no_backend")));
    let told = explain(&daemon, "tcp", "10.1.0.1:40000", "192.0.2.10:80");
    assert_eq!(told.drop_reason.as_deref(), Some("ip_source"));
    let why = refused(&daemon, 404, "tcp", "198.51.100.7:40000", "192.0.2.10:81");
    assert_eq!(
        why,
        "VIP 192.0.2.10 exists, tcp port 81 is not served; served there: tcp 80 (service \"web\")"
    );
    let why = refused(&daemon, 404, "udp", "198.51.100.7:40000", "192.0.2.10:80");
    assert_eq!(
        why,
        "VIP 192.0.2.10 exists, udp port 80 is not served; served there: tcp 80 (service \"web\")"
    );
    let why = refused(&daemon, 404, "tcp", "198.51.100.7:40000", "192.0.2.99:80");
    assert_eq!(why, "no service has the address 192.0.2.99; tcp port 80 is served elsewhere, by web");
    let why = refused(&daemon, 404, "tcp", "198.51.100.7:40000", "10.1.0.1:80");
    assert!(why.starts_with("10.1.0.1 is an address of the balancer itself"), "{why}");
    refused(&daemon, 400, "tcp", "[2001:db8::7]:1", "192.0.2.10:80");
    refused(&daemon, 400, "sctp", "198.51.100.7:1", "192.0.2.10:80");
}

#[test]
fn a_tunnel_is_told_with_its_outer_header() {
    let text = "\n[[service]]\nname = \"far\"\nvip = \"192.0.2.20\"\nports = \"443\"\nprotocol = \"tcp\"\nmode = \"dsr\"\n\
                tunnel = \"gue\"\n[[service.backend]]\naddress = \"10.77.0.11\"\n";
    let daemon = Daemon::start(&config(text));
    let told = explain(&daemon, "tcp", "198.51.100.7:40000", "192.0.2.20:443");
    assert_eq!(told.next_hop.unwrap().address, "10.1.0.254");
    let packet = told.packet.unwrap();
    assert_eq!(
        (packet.source.as_str(), packet.destination.as_str()),
        ("198.51.100.7:40000", "192.0.2.20:443")
    );
    let tunnel = packet.tunnel.unwrap();
    assert!(tunnel.source.starts_with("10.1.0.1:"), "{tunnel:?}");
    assert_eq!((tunnel.destination.as_str(), tunnel.overhead_bytes), ("10.77.0.11:6080", 28));
}
