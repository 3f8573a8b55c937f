//! `[service.health]`: which keys go with which type, and what they may hold.

use crate::config::read::Reader;
use crate::config::{Health, HealthType, Service};

/// Longest path, host, name and text of a body, in bytes.
const MOST: usize = 1024;

pub(super) fn check(reader: &mut Reader, path: &str, service: &Service, health: &Health) {
    let path = format!("{path}.health");
    fits_type(reader, &path, health);
    if health.jitter > 50 {
        let problem = format!("a jitter of {} % leaves no rhythm", health.jitter);
        reader.error(&format!("{path}.jitter"), problem, "use at most 50");
    }
    if health.panic_threshold > 100 {
        let problem = format!("{} % is more than all", health.panic_threshold);
        reader.error(&format!("{path}.panic_threshold"), problem, "use 0 to 100");
    }
    if health.port == Some(0) {
        reader.error(&format!("{path}.port"), "port 0 is nobody's", "use 1 to 65535, or leave it out");
    }
    if health.kind != HealthType::Icmp
        && let Some(backend) =
            service.backends.iter().find(|backend| health.port_on(service, backend).is_none())
    {
        let problem = format!(
            "which port of {} is to be asked? The service has many, and the backend names none",
            backend.address
        );
        reader.error(&path, problem, "add port = NUMBER to [service.health]");
    }
    texts(reader, &path, health);
    if health.tls_ca.is_some() && health.tls_verify != Some(true) {
        let remedy = "add tls_verify = true, or remove it";
        reader.error(&format!("{path}.tls_ca"), "without tls_verify nobody asks who signed", remedy);
    }
}

/// Keys that another type has.
fn fits_type(reader: &mut Reader, path: &str, health: &Health) {
    use HealthType::{Http, Https, Tcp, Udp};
    let web: &[HealthType] = &[Http, Https];
    let transport: &[HealthType] = &[Tcp, Udp];
    let keys = [
        ("port", health.port.is_some(), &[Tcp, Http, Https, Udp][..]),
        ("path", health.path.is_some(), web),
        ("host", health.host.is_some(), web),
        ("status", health.status.is_some(), web),
        ("body", health.body.is_some(), web),
        ("payload", health.payload.is_some(), transport),
        ("expect", health.expect.is_some(), transport),
        ("tls_verify", health.tls_verify.is_some(), &[Https]),
        ("tls_ca", health.tls_ca.is_some(), &[Https]),
        ("tls_name", health.tls_name.is_some(), &[Https]),
    ];
    for (key, present, types) in keys {
        if present && !types.contains(&health.kind) {
            let words: Vec<String> = types.iter().map(|one| format!("\"{one}\"")).collect();
            let problem = format!("{key} has no meaning with type = \"{}\"", health.kind);
            let remedy = format!("remove it, or use type = {}", words.join(" or "));
            reader.error(&format!("{path}.{key}"), problem, remedy);
        }
    }
}

fn texts(reader: &mut Reader, path: &str, health: &Health) {
    // RFC 9112 section 3.2.1: absolute path and query, without anything that ends the line or the word.
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(text) = &health.path
        && !(text.starts_with('/') && plain(text) && !text.contains('#') && text.len() <= MOST)
    {
        let remedy = "begin it with \"/\", and write blanks and letters beyond ASCII as %20";
        reader.error(&format!("{path}.path"), "this is not a path of a URL", remedy);
    }
    if let Some(host) = &health.host
        && (!plain(host) || host.is_empty() || host.contains(['/', '@', '?', '#']) || host.len() > 255)
    {
        let remedy = "write a name such as \"www.example.org\", with \":port\" if need be";
        reader.error(&format!("{path}.host"), "this is not a host", remedy);
    }
    if let Some(name) = &health.tls_name
        && !is_server_name(name)
    {
        let remedy = "write a name such as \"www.example.org\", or an address";
        reader.error(&format!("{path}.tls_name"), "this is not a server name", remedy);
    }
    if let Some(body) = &health.body
        && (body.is_empty() || body.len() > MOST)
    {
        let remedy = format!("use 1 to {MOST} bytes, or leave it out");
        reader.error(&format!("{path}.body"), format!("{} bytes cannot be looked for", body.len()), remedy);
    }
    if health.expect.as_ref().is_some_and(|expect| expect.as_bytes().is_empty()) {
        let remedy = "write what the answer contains, or leave it out";
        reader.error(&format!("{path}.expect"), "every answer contains nothing", remedy);
    }
}

/// RFC 1123 section 2.1 names, and addresses.
fn is_server_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}
