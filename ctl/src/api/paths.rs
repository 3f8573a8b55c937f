//! Where things are: paths, headers and limits of the API.

use super::{EventQuery, ExplainQuery, FlowQuery};
use std::fmt::Write;

pub const STATUS: &str = "/v1/status";
pub const STATS: &str = "/v1/stats";
pub const SERVICES: &str = "/v1/services";
/// Template for a router; [`service`] makes the path of one service.
pub const SERVICE: &str = "/v1/services/{name}";
pub const BACKENDS: &str = "/v1/backends";
/// Templates for a router; [`backend_action`] makes the path of one action.
pub const BACKEND_ENABLE: &str = "/v1/services/{name}/backends/{address}/enable";
pub const BACKEND_DISABLE: &str = "/v1/services/{name}/backends/{address}/disable";
pub const BACKEND_DRAIN: &str = "/v1/services/{name}/backends/{address}/drain";
pub const BACKEND_WEIGHT: &str = "/v1/services/{name}/backends/{address}/weight";
pub const FLOWS: &str = "/v1/flows";
pub const EXPLAIN: &str = "/v1/explain";
pub const EVENTS: &str = "/v1/events";
pub const WORKERS: &str = "/v1/workers";
pub const PORTS: &str = "/v1/ports";
pub const NEIGHBORS: &str = "/v1/neighbors";
pub const DOCTOR: &str = "/v1/doctor";
pub const CONFIG: &str = "/v1/config";
pub const CONFIG_CHECK: &str = "/v1/config/check";
pub const CONFIG_APPLY: &str = "/v1/config/apply";
pub const CONFIG_DIFF: &str = "/v1/config/diff";
pub const CONFIG_CONFIRM: &str = "/v1/config/confirm";
pub const CONFIG_ROLLBACK: &str = "/v1/config/rollback";
pub const METRICS: &str = "/metrics";
/// The status page and what it is made of, on the metrics listener.
pub const STATUS_PAGE: &str = "/status";
pub const STATUS_STYLE: &str = "/status.css";
pub const STATUS_SCRIPT: &str = "/status.js";
pub const STATUS_DATA: &str = "/status.json";

/// Names the file that a TOML body came from, for messages only; percent-encoded.
pub const CONFIG_FILE_HEADER: &str = "sluice-config-file";

/// The largest body of a request that carries no configuration, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// The path of one service.
pub fn service(name: &str) -> String {
    format!("{SERVICES}/{}", encode(name))
}

/// The path of an action (`enable`, `disable`, `drain`, `weight`) on a backend.
pub fn backend_action(service: &str, address: &str, action: &str) -> String {
    format!("{SERVICES}/{}/backends/{}/{action}", encode(service), encode(address))
}

/// The path of the backends of one service, or of all.
pub fn backends(service: Option<&str>) -> String {
    match service {
        Some(service) => format!("{BACKENDS}?service={}", encode(service)),
        None => BACKENDS.to_owned(),
    }
}

/// The path of the flows that a query asks for.
pub fn flows(query: &FlowQuery) -> String {
    let query = query.to_query_string();
    if query.is_empty() { FLOWS.to_owned() } else { format!("{FLOWS}?{query}") }
}

/// The path of the events that a query asks for.
pub fn events(query: EventQuery) -> String {
    format!("{EVENTS}?since={}&follow={}", query.since, query.follow)
}

/// The path of the explanation of a packet.
pub fn explain(query: &ExplainQuery) -> String {
    let ExplainQuery { protocol, source, destination } = query;
    let (source, destination) = (encode(&source.to_string()), encode(&destination.to_string()));
    format!("{EXPLAIN}?protocol={protocol}&source={source}&destination={destination}")
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes [`encode`]; `None` for a broken escape or bytes that are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_survive_a_path() {
        assert_eq!(
            backend_action("web", "[2001:db8::1]:80", "drain"),
            "/v1/services/web/backends/%5B2001%3Adb8%3A%3A1%5D%3A80/drain"
        );
        assert_eq!(service("a/../b?c"), "/v1/services/a%2F..%2Fb%3Fc");
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%ff"), None);
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn decode_never_panics(text in any::<String>()) {
            let _ = decode(&text);
        }
    }
}
