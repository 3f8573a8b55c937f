//! Every exit code but 0, and what is said.

use super::fake::{Fake, command, finish, run};
use super::samples;
use ctl::api::ApiError;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A daemon that refuses everything with this status.
fn refusing(status: u16) -> Fake {
    let error = ApiError::new("it was not done", "it may not be", "ask for something else");
    Fake::start(move |_| (status, serde_json::to_string(&error).unwrap()))
}

#[test]
fn refusals_are_told_in_three_parts() {
    for (status, code) in [(400, 1), (403, 1), (404, 4), (408, 5), (409, 1), (429, 1), (503, 1), (504, 5)] {
        let ran = refusing(status).run(&["backend", "enable", "web", "10.1.0.11:8080"]);
        assert_eq!(ran.code, code, "{status}: {ran:?}");
        assert_eq!(
            ran.stderr,
            "sluicectl: it was not done\n  why: it may not be\n  next: ask for something else\n"
        );
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn wrong_usage_is_2() {
    let nowhere = Path::new("/nonexistent/sock");
    for arguments in [
        &[][..],
        &["no-such-verb"],
        &["status", "-o", "xml"],
        &["backend", "enable", "web"],
        &["backend", "enable", "web", "not-an-address"],
        &["backend", "set-weight", "web", "10.1.0.11:80", "65536"],
        &["backend", "drain", "web", "10.1.0.11:80", "--deadline", "5"],
        &["flow", "--limit", "0"],
        &["flow", "--limit", "10001"],
        &["flow", "--client", "10.0.0.1/24"],
    ] {
        let ran = run(nowhere, arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
    }
    let ran = run(nowhere, &["backend", "drain", "web", "10.1.0.11:80", "--deadline", "5"]);
    assert!(ran.stderr.contains("\"5\" lacks a unit; write for example \"5s\""), "{ran:?}");
}

#[test]
fn help_is_no_failure() {
    let ran = run(Path::new("/nonexistent"), &["--help"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("3 daemon unreachable"), "{ran:?}");
    assert_eq!(run(Path::new("/nonexistent"), &["--version"]).code, 0);
}

#[test]
fn no_socket_is_3() {
    let ran = run(Path::new("/nonexistent/sluice.sock"), &["status"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("cannot reach the daemon at /nonexistent/sluice.sock"), "{ran:?}");
    assert!(ran.stderr.contains("is sluiced running?"), "{ran:?}");
}

#[test]
fn a_socket_that_nobody_listens_on_is_3() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("stale");
    drop(UnixListener::bind(&socket).unwrap());
    let ran = run(&socket, &["status"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("nobody listens on it"), "{ran:?}");
}

#[test]
fn a_file_that_is_no_socket_is_3() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(run(file.path(), &["status"]).code, 3);
    let long = format!("/{}", "x".repeat(200));
    assert_eq!(run(Path::new(&long), &["status"]).code, 3);
}

#[test]
fn garbage_is_3() {
    let answers: [&'static [u8]; 4] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ht>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{",
    ];
    for answer in answers {
        let fake = Fake::raw(move |_, stream| stream.write_all(answer).unwrap());
        let ran = fake.run(&["status"]);
        assert_eq!(ran.code, 3, "{answer:?}: {ran:?}");
        assert!(ran.stderr.contains("no usable answer from"), "{ran:?}");
    }
}

#[test]
fn another_shape_is_3() {
    let ran = Fake::start(|_| (200, "[1, 2]".into())).run(&["status"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("another shape"), "{ran:?}");
    let ran = Fake::start(|_| (500, "oops".into())).run(&["status"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("500"), "{ran:?}");
}

#[test]
fn silence_is_5() {
    let fake = Fake::raw(|_, stream| {
        // Until the client gives up.
        let _ = stream.read(&mut [0; 1]);
    });
    let started = Instant::now();
    let ran = fake.run(&["status", "--timeout", "200ms"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("it took longer than 0.2 s"), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn the_socket_may_come_from_the_environment() {
    let fake = Fake::start(|_| (200, serde_json::to_string(&samples::status()).unwrap()));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    let ran = finish(command.arg("status").env("SLUICE_SOCKET", fake.socket()));
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::start(|_| (200, serde_json::to_string(&samples::stats()).unwrap()));
    let mut child =
        command(&fake.socket(), &["stats"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
