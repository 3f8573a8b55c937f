//! The metrics page in the older of its two languages: for readers that do not ask for OpenMetrics.
//!
//! They differ in little: OpenMetrics names a counter without `_total` in its `# TYPE` and an info without `_info`, and ends
//! with `# EOF` (OpenMetrics 1.0, sections "Metric Types" and "Text format"; Prometheus text format 0.0.4).

use std::collections::HashMap;
use std::fmt::Write;

/// What the page is in this language.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a request's `Accept` asks for OpenMetrics.
pub(super) fn wants_open_metrics(accept: Option<&str>) -> bool {
    accept.is_none_or(|accept| accept.contains("application/openmetrics-text") || accept.trim() == "*/*")
}

/// An OpenMetrics page as Prometheus text.
pub(super) fn plain(page: &str) -> String {
    let types: HashMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut out = String::with_capacity(page.len() + 1024);
    for line in page.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        // Writing to a string does not fail.
        let _ = match comment {
            Some((word @ ("HELP" | "TYPE"), rest)) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let (suffix, kind) = match types.get(name) {
                    Some(&"counter") => ("_total", "counter"),
                    Some(&"info") => ("_info", "gauge"),
                    Some(&kind) => ("", kind),
                    None => ("", "untyped"),
                };
                writeln!(out, "# {word} {name}{suffix} {}", if word == "TYPE" { kind } else { text })
            }
            Some(_) => Ok(()),
            None if line == "# EOF" => Ok(()),
            None => writeln!(out, "{line}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_are_those_of_the_older_language() {
        let page = "# HELP x_build What.\n# TYPE x_build info\nx_build_info{version=\"1 2\"} 1\n\
                    # HELP x_drops Packets # here.\n# TYPE x_drops counter\n# UNIT x_drops packets\nx_drops_total{reason=\"a\"} 3\n\
                    # HELP x_up Up.\n# TYPE x_up gauge\nx_up 1\n# EOF\n";
        assert_eq!(
            plain(page),
            "# HELP x_build_info What.\n# TYPE x_build_info gauge\nx_build_info{version=\"1 2\"} 1\n\
             # HELP x_drops_total Packets # here.\n# TYPE x_drops_total counter\nx_drops_total{reason=\"a\"} 3\n\
             # HELP x_up Up.\n# TYPE x_up gauge\nx_up 1\n"
        );
    }

    #[test]
    fn who_says_nothing_gets_open_metrics() {
        assert!(wants_open_metrics(None) && wants_open_metrics(Some("*/*")));
        assert!(wants_open_metrics(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")));
        assert!(!wants_open_metrics(Some("text/plain")));
    }
}
