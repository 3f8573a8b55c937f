//! Configurations and completion.

use super::fake::{Fake, command, run};
use ctl::api::{ApiError, ConfigApply, ConfigCheck, ConfigExport};
use ctl::config::{Config, ConfigError, ConfigWarning};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

const GOOD: &str = include_str!("../fixtures/minimal.toml");
const NOWHERE: &str = "/nonexistent/sock";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn a_good_file_is_checked_without_a_daemon() {
    let file = file(GOOD);
    let ran = run(Path::new(NOWHERE), &["config", "check", path(&file)]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{}: ok\n", path(&file))));
}

#[test]
fn a_wrong_file_has_every_error_on_a_line_of_its_own() {
    let file = file(&GOOD.replace("mode", "mood").replace("tcp", "sctp"));
    let ran = run(Path::new(NOWHERE), &["config", "check", path(&file)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(
        lines[0].starts_with(&format!("{}:9: service.protocol: \"sctp\" is not known", path(&file))),
        "{ran:?}"
    );
    assert!(
        lines[1].ends_with(":10: service.mood: the key \"mood\" is not known; did you mean \"mode\"?"),
        "{ran:?}"
    );
    let json = run(Path::new(NOWHERE), &["-o", "json", "config", "check", path(&file)]);
    let check: ConfigCheck = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, check.ok, check.errors.len(), check.errors[0].line), (1, false, 2, Some(9)));
}

#[test]
fn warnings_do_not_fail_a_check() {
    let file = file(&format!("{GOOD}weight = 0\n"));
    let ran = run(Path::new(NOWHERE), &["config", "check", path(&file)]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("weight 0"), "{ran:?}");
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    for name in ["/nonexistent/file.toml", "/"] {
        for verb in ["check", "apply"] {
            let ran = run(Path::new(NOWHERE), &["config", verb, name]);
            assert_eq!(ran.code, 1, "{ran:?}");
            assert!(ran.stderr.starts_with(&format!("{name}: ")), "{ran:?}");
        }
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = command(Path::new(NOWHERE), &["config", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(GOOD.as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn without_a_file_the_daemon_checks_its_own() {
    let error = ConfigError::file("/etc/sluice.toml", "it is wrong", "correct it");
    let check =
        ConfigCheck { file: "/etc/sluice.toml".into(), ok: false, errors: vec![error], warnings: Vec::new() };
    let fake = Fake::start(move |_| (200, serde_json::to_string(&check).unwrap()));
    let ran = fake.run(&["config", "check"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "/etc/sluice.toml: it is wrong; correct it\n"));
    assert_eq!(
        (fake.requests()[0].line.as_str(), fake.requests()[0].body.as_str()),
        ("POST /v1/config/check", "")
    );
}

fn applied() -> ConfigApply {
    ConfigApply {
        file: "a.toml".into(),
        generation: 4,
        services: 1,
        backends: 2,
        changes: vec!["service web: backend 10.1.0.13:80 added".into()],
        warnings: vec![ConfigWarning(ConfigError::file("a.toml", "odd", "look at it"))],
    }
}

#[test]
fn apply_sends_the_text_and_the_name() {
    let fake = Fake::start(|_| (200, serde_json::to_string(&applied()).unwrap()));
    let file = file(GOOD);
    let ran = fake.run(&["config", "apply", path(&file)]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "a.toml: in force as generation 4 with 1 services and 2 backends\n  service web: backend 10.1.0.13:80 added\n"
    );
    assert_eq!(ran.stderr, "warning: a.toml: odd; look at it\n");
    let request = &fake.requests()[0];
    assert_eq!((request.line.as_str(), request.body.as_str()), ("POST /v1/config/apply", GOOD));
    let name = ctl::api::paths::encode(path(&file)).to_ascii_lowercase();
    assert!(request.headers.contains(&format!("sluice-config-file: {name}")), "{request:?}");
    assert!(request.headers.contains(&"content-type: application/toml".to_owned()), "{request:?}");
}

#[test]
fn apply_without_a_file_sends_nothing() {
    let fake = Fake::start(|_| (200, serde_json::to_string(&applied()).unwrap()));
    assert_eq!(fake.run(&["config", "apply"]).code, 0);
    assert_eq!(fake.requests()[0].body, "");
}

#[test]
fn an_empty_file_is_not_mistaken_for_no_file() {
    let fake = Fake::start(|_| (200, serde_json::to_string(&applied()).unwrap()));
    let ran = fake.run(&["config", "apply", path(&file(""))]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the configuration is empty"), "{ran:?}");
    assert_eq!(fake.requests(), []);
}

#[test]
fn a_refused_apply_tells_every_error() {
    let error = |problem: &str| ConfigError::file("a.toml", problem, "correct it");
    let refusal = ApiError::config(vec![error("one"), error("two")]);
    let fake = Fake::start(move |_| (422, serde_json::to_string(&refusal).unwrap()));
    let ran = fake.run(&["config", "apply", path(&file(GOOD))]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        "a.toml: one; correct it\na.toml: two; correct it\n\
         sluicectl: the configuration was refused and nothing was changed\n  \
         why: it has 2 errors\n  next: correct the file and try again\n"
    );
}

#[test]
fn export_prints_a_file() {
    let config = Config::parse(GOOD, "a.toml").unwrap();
    let export = ConfigExport { generation: 4, file: "a.toml".into(), config: config.clone() };
    let json = serde_json::to_value(&export).unwrap();
    let fake = Fake::start(move |_| (200, serde_json::to_string(&export).unwrap()));
    let ran = fake.run(&["config", "export"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(Config::parse(&ran.stdout, "exported").unwrap(), config);
    let ran = fake.run(&["config", "export", "-o", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap(), json);
    assert_eq!(fake.requests()[0].line, "GET /v1/config");
}

#[test]
fn completion_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(Path::new(NOWHERE), &["completion", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("sluicectl") && ran.stdout.contains("set-weight"), "{shell}");
    }
    assert_eq!(run(Path::new(NOWHERE), &["completion", "tcsh"]).code, 2);
}
