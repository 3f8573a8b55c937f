//! DPDK's log: warnings are shown, everything recent is kept to explain an error.

use core::ffi::{c_char, c_int};
use std::collections::VecDeque;
use std::slice;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How grave a message is, as DPDK sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Normal, and significant.
    Notice,
    /// Everything else.
    Info,
}

/// Takes one line of DPDK's log; may be called on any thread, also one of DPDK's own.
pub type LogSink = fn(LogLevel, &str);

/// Lines kept.
const KEPT: usize = 128;
/// Lines of one explanation.
const QUOTED: usize = 4;

struct Recent {
    lines: VecDeque<(LogLevel, String)>,
    /// Lines ever seen.
    seen: u64,
}

static RECENT: Mutex<Recent> = Mutex::new(Recent { lines: VecDeque::new(), seen: 0 });
static SINK: OnceLock<(LogSink, LogLevel)> = OnceLock::new();

/// Sends DPDK's log here from now on; lines up to `shown` go on to `sink`.
pub(super) fn capture(sink: LogSink, shown: LogLevel) {
    // The EAL starts once, and so does its log.
    let _ = SINK.set((sink, shown));
    // SAFETY: `on_message` has the required signature, is valid for the whole process, and copies what it is given.
    let status: c_int = unsafe { dpdk_sys::sluice_log_to(Some(on_message)) };
    debug_assert_eq!(status, 0, "the log stream has no memory");
}

/// The sink used when the configuration names none.
pub(super) fn to_stderr(_level: LogLevel, line: &str) {
    eprintln!("dpdk: {line}");
}

/// A point in the log, for [`since`].
pub(super) fn mark() -> u64 {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).seen
}

/// The first warnings and errors since `mark`, joined; empty if there were none.
pub(super) fn since(mark: u64) -> String {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let new = usize::try_from(recent.seen - mark).unwrap_or(KEPT).min(recent.lines.len());
    // That something failed is known; these two say no more.
    let tells =
        |line: &str| !line.contains("Failed to attach device") && !line.contains("Driver cannot attach");
    let mut quoted: Vec<&str> = recent
        .lines
        .iter()
        .skip(recent.lines.len() - new)
        .filter(|(level, line)| *level <= LogLevel::Warning && tells(line))
        .map(|(_, line)| line.trim_end_matches('.'))
        .collect();
    quoted.dedup();
    quoted.truncate(QUOTED);
    quoted.join("; ")
}

unsafe extern "C" fn on_message(level: u32, text: *const c_char, length: usize) {
    // SAFETY: the shim passes the buffer of a stdio write, valid for `length` bytes during this call.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    let level = match level {
        0..=dpdk_sys::RTE_LOG_ERR => LogLevel::Error,
        dpdk_sys::RTE_LOG_WARNING => LogLevel::Warning,
        dpdk_sys::RTE_LOG_NOTICE => LogLevel::Notice,
        _ => LogLevel::Info,
    };
    for line in String::from_utf8_lossy(bytes).lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((sink, shown)) = SINK.get()
            && level <= *shown
        {
            sink(level, line);
        }
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.lines.len() == KEPT {
            recent.lines.pop_front();
        }
        recent.lines.push_back((level, line.to_string()));
        recent.seen += 1;
    }
}
