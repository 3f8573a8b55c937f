//! Configurations and completion.

use super::fake::{Fake, command, run};
use ctl::api::{ApiError, ConfigApply, ConfigCheck, ConfigConfirm, ConfigDiff, ConfigExport};
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
        kept: vec!["service \"web\": backend 10.1.0.11:80 is disabled (changed at run time)".into()],
        given_up: Vec::new(),
        confirm_seconds: None,
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
        "a.toml: in force as generation 4 with 1 services and 2 backends\n  service web: backend 10.1.0.13:80 added\n  \
         still so: service \"web\": backend 10.1.0.11:80 is disabled (changed at run time)\n"
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

#[test]
fn a_daemon_that_is_there_has_the_last_word() {
    let error = ConfigError::file("a.toml", "this cannot change while sluiced runs", "restart it");
    let verdict = ConfigCheck { file: "a.toml".into(), ok: false, errors: vec![error], warnings: Vec::new() };
    let fake = Fake::start(move |_| (200, serde_json::to_string(&verdict).unwrap()));
    let good = file(GOOD);
    let ran = fake.run(&["config", "check", path(&good)]);
    assert_eq!((ran.code, ran.stderr.contains("cannot change while")), (1, true), "{ran:?}");
    assert_eq!(fake.requests()[0].line, "POST /v1/config/check");
    // A file that is wrong by itself is not sent.
    let ran = fake.run(&["config", "check", path(&file("["))]);
    assert_eq!((ran.code, fake.requests().len()), (1, 1));
    // Nor does it matter that this user may not ask.
    let forbidden = ApiError::new("nothing was changed", "only root may", "be root");
    let fake = Fake::start(move |_| (403, serde_json::to_string(&forbidden).unwrap()));
    assert_eq!(fake.run(&["config", "check", path(&good)]).code, 0);
}

#[test]
fn a_difference_is_told_in_words() {
    let diff = ConfigDiff {
        file: "b.toml".into(),
        live: "a.toml".into(),
        changes: vec!["service \"web\": scheduler \"maglev\" to \"round-robin\"".into()],
        need_restart: vec![ConfigError::file("b.toml", "this cannot change", "restart")],
        at_run_time: vec!["service \"web\": backend 10.1.0.11:80 is disabled (changed at run time)".into()],
    };
    let fake = Fake::start(move |_| (200, serde_json::to_string(&diff).unwrap()));
    let ran = fake.run(&["config", "diff", path(&file(GOOD))]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in ["b.toml: differs from a.toml", "scheduler", "this cannot change", "is disabled"] {
        assert!(ran.stdout.contains(words), "{ran:?}");
    }
    assert_eq!(fake.requests()[0].line, "POST /v1/config/diff");
}

#[test]
fn a_trial_is_confirmed_or_rolled_back() {
    let tried = ConfigApply { confirm_seconds: Some(60.0), ..applied() };
    let fake = Fake::start(move |request| {
        let confirmed = ConfigConfirm { file: "a.toml".into(), generation: 5 };
        let confirm = request.line.ends_with("confirm");
        let body = if confirm { serde_json::to_string(&confirmed) } else { serde_json::to_string(&tried) };
        (200, body.unwrap())
    });
    let ran = fake.run(&["config", "apply", path(&file(GOOD)), "--confirm-timeout", "60s"]);
    assert!(ran.stdout.contains("rolled back in 60 s unless"), "{ran:?}");
    assert_eq!(fake.run(&["config", "confirm"]).stdout, "a.toml: confirmed, generation 5\n");
    assert_eq!(fake.run(&["config", "rollback"]).code, 0);
    let lines: Vec<_> = fake.requests().into_iter().map(|request| request.line).collect();
    let want =
        ["apply?confirm_seconds=60", "confirm", "rollback"].map(|end| format!("POST /v1/config/{end}"));
    assert_eq!(lines, want);
}
