//! Configuration files: those that are good read back as they were written, and each that is wrong gets
//! its line, its key and its remedy.

mod files;
mod good;
mod machine;
mod objects;
mod round_trip;
mod values;

use ctl::config::{Config, ConfigError};

const DESIGN: &str = include_str!("../fixtures/design.toml");

const MINIMAL: &str = include_str!("../fixtures/minimal.toml");

const EVERYTHING: &str = include_str!("../fixtures/everything.toml");

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{}", list(&errors)))
}

fn errors(text: &str) -> Vec<ConfigError> {
    Config::parse(text, "test.toml").expect_err("the file is wrong")
}

fn list(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect::<Vec<_>>().concat()
}

/// A file that is right, to which the cases below add or change something.
const BASE: &str = r#"
[runtime]
workers = [1]
control_cpus = [0]

[[port]]
name = "wan"
device = "0000:3b:00.0"
addresses = ["10.0.0.2/24", "2001:db8::2/64"]

[[route]]
to = "0.0.0.0/0"
via = "10.0.0.1"

[[service]]
name = "web"
vip = "192.0.2.10"
ports = "80"
protocol = "tcp"
mode = "nat"
[[service.backend]]
address = "10.0.0.11:8080"
[[service.backend]]
address = "10.0.0.12:8080"
"#;

/// Replaces the first occurrence of `from` in [`BASE`] and checks that there is one error: on the line
/// that ends in `#!`, with this key, and these words in the reason and in the remedy.
#[track_caller]
fn wrong(from: &str, to: &str, key: &str, problem: &str, remedy: &str) {
    assert!(BASE.contains(from), "{from:?} is not in the file");
    wrong_text(&BASE.replacen(from, to, 1), key, problem, remedy);
}

#[track_caller]
fn wrong_text(text: &str, key: &str, problem: &str, remedy: &str) {
    let line = text.lines().position(|line| line.ends_with("#!")).expect("a marked line") as u32 + 1;
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{}", list(&errors));
    let error = &errors[0];
    assert_eq!((error.line, error.key.as_str()), (Some(line), key), "{error}");
    assert!(error.problem.contains(problem), "{error}\nlacks {problem:?}");
    assert!(error.remedy.contains(remedy), "{error}\nlacks {remedy:?}");
    assert_eq!(error.to_string(), format!("test.toml:{line}: {key}: {}; {}", error.problem, error.remedy));
}

/// The same with something added at the end of [`BASE`].
#[track_caller]
fn wrong_end(end: &str, key: &str, problem: &str, remedy: &str) {
    wrong_text(&format!("{BASE}{end}"), key, problem, remedy);
}

/// A line before the first backend of the service.
#[track_caller]
fn wrong_service(line: &str, key: &str, problem: &str, remedy: &str) {
    wrong("mode = \"nat\"", &format!("mode = \"nat\"\n{line}"), key, problem, remedy);
}

#[track_caller]
fn wrong_runtime(line: &str, key: &str, problem: &str, remedy: &str) {
    wrong("control_cpus = [0]", &format!("control_cpus = [0]\n{line}"), key, problem, remedy);
}

#[test]
fn the_base_is_right() {
    parse(BASE);
}

const DSR: &str = "
[[service]]
vip = \"192.0.2.20\"
ports = \"80\"
protocol = \"tcp\"
mode = \"dsr\"
";

/// A second service on `ports` of `vip`; the line of `ports` is marked.
fn second(name: &str, vip: &str, ports: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nports = \"{ports}\" #!\nprotocol = \"tcp\"\nmode = \"nat\"\n[[service.backend]]\naddress = \"10.0.0.31\"\n"
    )
}
