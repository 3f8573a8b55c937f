//! The configuration file: whatever its bytes are, it is either a configuration that its export reads back as, or errors
//! that say where, what and what to do.
#![allow(unreachable_pub, reason = "for whoever includes it")]

use ctl::config::Config;

pub fn check(bytes: &[u8]) {
    match Config::parse_bytes(bytes, "fuzz.toml") {
        Ok(config) => {
            let text = config.to_toml();
            let again = match Config::parse(&text, "export.toml") {
                Ok(again) => again,
                Err(errors) => panic!("the export is refused: {errors:?}\n{text}"),
            };
            assert_eq!(text, again.to_toml(), "an export of an export is the same");
            let json = serde_json::to_string(&config).expect("JSON");
            let back: Config = serde_json::from_str(&json).expect("its own JSON");
            assert_eq!(text, back.to_toml(), "JSON keeps all");
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a word");
            let lines = bytes.split(|&byte| byte == b'\n').count();
            for error in errors {
                assert!(!error.to_string().is_empty());
                assert!(error.line.is_none_or(|line| (1..=lines).contains(&(line as usize))), "{error}");
            }
        }
    }
}
