//! sluice.toml(5), out of the comments of the model.

use crate::config::{
    Affinity, Config, HashField, HealthType, Mode, Poll, Protocol, Scheduler, Service, Steering, Tunnel,
};
use clap_mangen::roff::{Roff, bold, roman};
use std::fmt::Display;

const MODEL: &str = include_str!("../../config/model.rs");

/// Every section once, and what must be written. What its export has beyond that are the defaults.
const SAMPLE: &str = r#"[[port]]
name = "wan"
device = "0000:3b:00.0"
addresses = ["10.0.0.2/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.1"
[[service]]
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
[service.health]
type = "tcp"
[[service.backend]]
address = "10.1.0.11:8080"
"#;

/// A section of the file, as the model describes it.
struct Section {
    /// `[service.health]`
    header: String,
    about: String,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    kind: String,
    about: String,
}

/// What stands in backquotes at the beginning, and the rest.
fn header(about: &str) -> Option<(&str, &str)> {
    let (header, rest) = about.strip_prefix('`')?.split_once('`')?;
    header.starts_with('[').then(|| (header, rest.trim_start_matches([':', ' '])))
}

/// The structures of the model that are sections, in its order.
fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut about, mut renamed, mut inside) = (String::new(), None, false);
    for line in MODEL.lines() {
        let text = line.trim();
        if let Some(more) = text.strip_prefix("///") {
            if !about.is_empty() {
                about.push(' ');
            }
            about.push_str(more.trim());
        } else if let Some((_, name)) = text.split_once("rename = \"") {
            renamed = name.split('"').next().map(str::to_owned);
        } else if text.starts_with("#[") {
            // Nothing about the meaning.
        } else {
            if text.starts_with("pub struct") {
                let found = header(&about);
                inside = found.is_some();
                sections.extend(found.map(|(header, about)| Section {
                    header: header.to_owned(),
                    about: about.to_owned(),
                    keys: Vec::new(),
                }));
            } else if text == "}" {
                inside = false;
            } else if let (true, Some(field), Some(section)) = (
                inside,
                text.strip_prefix("pub ").and_then(|field| field.split_once(": ")),
                sections.last_mut(),
            ) {
                let (name, kind) = field;
                section.keys.push(Key {
                    name: renamed.take().unwrap_or_else(|| name.to_owned()),
                    kind: kind.trim_end_matches(',').to_owned(),
                    about: about.clone(),
                });
            }
            (about, renamed) = (String::new(), None);
        }
    }
    sections
}

/// What a value may be, where it is one of a few words.
fn words(kind: &str) -> Option<String> {
    fn list<T: Display>(all: &[T]) -> String {
        all.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
    }
    let kind = kind.trim_start_matches("Option<").trim_start_matches("Vec<").trim_end_matches('>');
    Some(match kind {
        "bool" => "true, false".to_owned(),
        "Affinity" => list(Affinity::ALL),
        "HashField" => list(HashField::ALL),
        "HealthType" => list(HealthType::ALL),
        "Mode" => list(Mode::ALL),
        "Poll" => list(Poll::ALL),
        "Protocol" => list(Protocol::ALL),
        "Scheduler" => list(Scheduler::ALL),
        "Steering" => list(Steering::ALL),
        "Tunnel" => list(Tunnel::ALL),
        _ => return None,
    })
}

/// The comments are written for readers of the code, who find out what is behind a name.
fn resolve(about: &str) -> String {
    let mut about = about.replace("`None`: ", "Default: ");
    for (name, value) in [
        ("[`Service::default_name`]", "\"tcp-192.0.2.10-80\"".to_owned()),
        ("[`Service::DEFAULT_GUE_PORT`]", Service::DEFAULT_GUE_PORT.to_string()),
        ("[`Service::DEFAULT_AFFINITY_TIMEOUT`]", Service::DEFAULT_AFFINITY_TIMEOUT.to_string()),
    ] {
        about = about.replace(name, &value);
    }
    about.replace('`', "")
}

/// What the export of `section` says of `key`, unless that follows from the machine.
fn default_of(exported: &toml::Table, section: &str, key: &str) -> Option<String> {
    if ["workers", "control_cpus"].contains(&key) {
        return None;
    }
    let mut table = exported;
    for part in section.trim_matches(['[', ']']).split('.') {
        table = match table.get(part)? {
            toml::Value::Array(items) => items.first()?.as_table()?,
            one => one.as_table()?,
        };
    }
    let value = table.get(key)?;
    (!value.is_table()
        && !matches!(value, toml::Value::Array(items) if items.iter().any(toml::Value::is_table)))
    .then(|| value.to_string())
}

pub(super) fn page() -> Roff {
    let exported: toml::Table = Config::parse(SAMPLE, "sample")
        .map(|config| config.to_toml().parse().unwrap_or_default())
        .unwrap_or_default();
    let required: toml::Table = SAMPLE.parse().unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("TH", ["sluice.toml", "5", "", concat!("sluice ", env!("CARGO_PKG_VERSION")), "Sluice"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("sluice.toml - configuration of the load balancer sluiced")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "TOML. Unknown keys, double names, overlapping services and bad addresses are errors, each told with its line and \
         what to do; a file that is wrong changes nothing. \"sluicectl config check\" tries a file, \"sluicectl config \
         export\" prints what is in force with every default.",
    )]);
    for section in sections() {
        roff.control("SH", [section.header.as_str()]);
        roff.text([roman(resolve(&section.about))]);
        for key in section.keys {
            // A section of its own.
            if header(&key.about).is_some() || ["Timeouts", "Option<Health>"].contains(&key.kind.as_str()) {
                continue;
            }
            roff.control("TP", []);
            roff.text([bold(key.name.as_str())]);
            let mut about = vec![resolve(&key.about)];
            about.extend(words(&key.kind).map(|words| format!("One of {words}.")));
            // The sample has addresses for the sake of its route.
            if key.name != "addresses" && default_of(&required, &section.header, &key.name).is_some() {
                about.push("Required.".to_owned());
            } else if !about[0].contains("Default") {
                let default = default_of(&exported, &section.header, &key.name);
                about.extend(default.map(|default| format!("Default: {default}.")));
            }
            about.retain(|part| !part.is_empty());
            roff.text([roman(about.join(" "))]);
        }
    }
    roff.control("SH", ["EXAMPLE"]);
    roff.control("EX", []);
    for line in SAMPLE.lines() {
        roff.text([roman(line)]);
        roff.control("br", []);
    }
    roff.control("EE", []);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("sluiced(8), sluicectl(1)")]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(header: &str) -> Vec<String> {
        let section = sections().into_iter().find(|section| section.header == header);
        section.expect("a section").keys.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn the_page_has_every_section_and_key_that_an_export_has() {
        let exported: toml::Table = Config::parse(SAMPLE, "sample").unwrap().to_toml().parse().unwrap();
        let headers: Vec<_> = sections().into_iter().map(|section| section.header).collect();
        assert_eq!(
            headers,
            [
                "[runtime]",
                "[[port]]",
                "[[route]]",
                "[[service]]",
                "[service.timeouts]",
                "[service.health]",
                "[[service.backend]]"
            ]
        );
        let runtime = keys_of("[runtime]");
        for key in exported["runtime"].as_table().unwrap().keys() {
            assert!(runtime.contains(key), "{key} is missing in {runtime:?}");
        }
        assert!(keys_of("[service.health]").contains(&"type".to_owned()), "renamed");
        assert!(keys_of("[[service]]").contains(&"backend".to_owned()));
    }

    #[test]
    fn it_is_written_for_operators() {
        let page = page().render();
        for internal in ["[`", "::", "`None`", "Option<"] {
            let line = page.lines().find(|line| line.contains(internal) && !line.contains("::/0"));
            assert!(line.is_none(), "{internal} in {line:?}");
        }
        assert!(page.contains("One of \"adaptive\", \"busy\"."), "{page}");
        assert!(page.contains("Default: 65537."), "{page}");
        assert!(page.contains("Required."));
    }
}
