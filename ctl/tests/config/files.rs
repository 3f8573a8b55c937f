//! Files as a whole: many errors, broken syntax, not text, not files.

use super::{BASE, DESIGN, EVERYTHING, MINIMAL, errors, list, parse};
use ctl::config::Config;
use proptest::prelude::*;

#[test]
fn every_error_is_reported_at_once_in_the_order_of_the_file() {
    let text = BASE
        .replace("[1]", "[1, 1]")
        .replace("10.0.0.1\"", "10.9.0.1\"")
        .replace("mode = \"nat\"", "mode = \"nta\"\nschedular = 1")
        .replace("10.0.0.12:8080", "x");
    let lines: Vec<_> = errors(&text).iter().map(|error| error.line.unwrap()).collect();
    assert_eq!(lines, [3, 13, 20, 21, 25]);
}

#[test]
fn errors_are_bounded_and_the_rest_is_counted() {
    let junk = (0..500).map(|number| format!("junk{number} = 1\n")).collect::<Vec<_>>().concat();
    let errors = errors(&format!("{junk}{BASE}"));
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100].problem, "400 more errors are not shown");
}

#[test]
fn syntax_errors_have_lines_too() {
    let errors = errors("[runtime]\nworkers = [1\n\n[[service]]\nvip = 192.0.2.1\n");
    assert!(errors[0].line.is_some() && errors[0].key.is_empty(), "{}", list(&errors));
    assert!(errors.iter().any(|error| error.line == Some(5)), "{}", list(&errors));
    assert!(errors[0].remedy.contains("text stands in quotes"), "{}", list(&errors));
}

#[test]
fn a_key_written_twice_is_told_on_its_second_line() {
    let errors = errors("[runtime]\nhugepages = true\nhugepages = false\n");
    assert_eq!((errors[0].line, errors[0].problem.as_str()), (Some(3), "duplicate key"));
    assert!(errors[0].remedy.contains("once"));
}

#[test]
fn nothing_is_not_a_configuration() {
    for text in ["", "\n\n", "# only a comment\n"] {
        let errors = errors(text);
        assert_eq!(
            errors[0].to_string(),
            "test.toml: the configuration is empty; add a [[port]] and a [[service]] with a [[service.backend]]"
        );
    }
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    assert!(Config::parse(&format!("x = {}", "[".repeat(100_000)), "deep").is_err());
    assert!(Config::parse(&format!("{} = 1", vec!["a"; 50_000].join(".")), "deep").is_err());
}

#[test]
fn bytes_that_are_not_text() {
    let errors = Config::parse_bytes(b"[runtime]\n# \xff\n", "bytes").unwrap_err();
    assert_eq!(errors[0].to_string(), "bytes:2: this is not UTF-8 text; save the file as UTF-8");
    let with_mark = [b"\xef\xbb\xbf", MINIMAL.as_bytes()].concat();
    Config::parse_bytes(&with_mark, "mark").unwrap();
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| Config::load(&folder.path().join(name)).unwrap_err()[0].to_string();
    assert!(load("").ends_with("this is a directory; name the configuration file in it"));
    assert!(
        load("none.toml").contains("No such file or directory")
            && load("none.toml").ends_with("; check the path")
    );
    let large = folder.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    assert!(load("large.toml").contains("larger than 16 MiB"));
    std::fs::write(folder.path().join("good.toml"), DESIGN).unwrap();
    assert_eq!(Config::load(&folder.path().join("good.toml")).unwrap(), parse(DESIGN));
}

#[test]
fn an_endless_file_is_refused() {
    let error = ctl::config::read_file(std::path::Path::new("/dev/zero")).unwrap_err();
    assert!(error.problem.contains("larger than 16 MiB"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Config::parse(&text, "any");
    }

    /// Text that is nearly a configuration goes further than noise does.
    #[test]
    fn damaged_files_never_panic(at in 0..EVERYTHING.len(), length in 0..40usize, with in "[\\x20-\\x7e\n]{0,12}") {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        match Config::parse_bytes(&bytes, "damaged") {
            Ok(config) => prop_assert_eq!(&Config::parse(&config.to_toml(), "again").unwrap(), &config),
            Err(errors) => prop_assert!(errors.iter().all(|error| !error.problem.is_empty() && !error.remedy.is_empty())),
        }
    }
}
