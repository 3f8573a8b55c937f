//! Taking privileges from every thread, those that DPDK made included.
//!
//! Linux keeps capabilities and `no_new_privs` by thread, and a thread changes only its own. DPDK's threads never ask, so
//! each thread is sent a signal whose handler gives them up; the C library does the same for setuid(2).

use core::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, mem, ptr, thread};

/// How long the threads have; each needs microseconds, unless something keeps its signals.
const PATIENCE: Duration = Duration::from_secs(2);

/// What every thread is to keep, bit by bit as in capability sets.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: sets of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: c_int,
}

/// Half a set of each kind.
#[repr(C)]
#[derive(Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What the kernel says of a thread's privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    permitted: u64,
    effective: u64,
    no_new_privs: bool,
}

impl Held {
    /// From `/proc/…/status` (proc(5)).
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let set = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        Some(Self {
            permitted: set("CapPrm:")?,
            effective: set("CapEff:")?,
            no_new_privs: field("NoNewPrivs:")? == "1",
        })
    }

    fn is_confined_to(self, kept: u64) -> bool {
        self.no_new_privs && (self.permitted | self.effective) & !kept == 0
    }
}

/// Takes all capabilities but those in `kept` (bit n is capability n) from every thread of the process, and the means to
/// gain any by executing a program. Threads made later inherit that. Returns what is left of the calling thread's.
///
/// # Errors
/// The threads that still have more, in words.
pub fn confine(kept: u64) -> Result<u64, String> {
    let held = |status: &str| fs::read_to_string(status).ok().as_deref().and_then(Held::parse);
    let own =
        held("/proc/thread-self/status").ok_or("/proc is not mounted, so nothing is known of threads")?;
    let kept = kept & own.permitted;
    KEPT.store(kept, Ordering::Release);
    let signal = libc::SIGRTMIN() + 5;
    install(signal).map_err(|error| format!("no handler for a signal: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Again and again, for a thread may make another one before its turn comes.
        let mut left = Vec::new();
        for thread in fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?.flatten() {
            let Ok(number) = thread.file_name().to_string_lossy().parse::<c_int>() else { continue };
            let folder = thread.path();
            // One that has ended in the meantime has no status.
            let status = held(&folder.join("status").to_string_lossy());
            if status.is_some_and(|held| !held.is_confined_to(kept)) {
                left.push(fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned());
                send(signal, number);
            }
        }
        if left.is_empty() {
            return Ok(kept);
        }
        if Instant::now() > deadline {
            return Err(format!("the threads {} keep privileges that they do not need", left.join(", ")));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The handler stays for good: a signal that comes late must not end the process.
fn install(signal: c_int) -> io::Result<()> {
    // SAFETY: an action of zeroes is a valid one: an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = give_up as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is whole, its handler lives as long as the process and does only what is allowed in one.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn send(signal: c_int, thread: c_int) {
    // SAFETY: numbers alone; the handler is installed. A thread that has ended is an error, which needs no answer.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

/// Runs in every thread, at any point of whatever it does: system calls, atomics, and nothing else.
extern "C" fn give_up(_: c_int) {
    let kept = KEPT.load(Ordering::Acquire);
    let header = Header { version: VERSION, pid: 0 };
    let half = |set: u64| Half { effective: set as u32, permitted: set as u32, inheritable: 0 };
    let sets = [half(kept), half(kept >> 32)];
    // SAFETY: returns where this thread's errno is; what was interrupted may be about to read it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: header and sets are as capset(2) wants them and live through the call; whether it worked is seen from outside.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    // SAFETY: numbers alone.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_kernels_words_are_understood() {
        let status = "Name:\tsluiced\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n\
                      NoNewPrivs:\t1\n";
        let held = Held::parse(status).unwrap();
        assert_eq!(held, Held { permitted: 0x1ff_ffff_ffff, effective: 1 << 12, no_new_privs: true });
        assert!(!held.is_confined_to(1 << 12), "it could raise the others again");
        assert!(held.is_confined_to(0x1ff_ffff_ffff));
        assert!(!Held { no_new_privs: false, ..held }.is_confined_to(u64::MAX));
        assert_eq!(Held::parse("Name:\tx\n"), None);
    }

    #[test]
    fn threads_that_are_there_and_those_that_come_lose_theirs() {
        let (go, wait) = mpsc::channel::<()>();
        let privileges = || Held::parse(&fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap();
        let waiting = thread::spawn(move || {
            wait.recv().unwrap();
            privileges()
        });
        let before = privileges();
        let kept = confine(1 << 12).unwrap();
        assert_eq!(kept, before.permitted & 1 << 12);
        go.send(()).unwrap();
        for held in [privileges(), waiting.join().unwrap(), thread::spawn(privileges).join().unwrap()] {
            assert_eq!(held, Held { permitted: kept, effective: kept, no_new_privs: true });
        }
        // What was given up does not come back.
        assert_eq!(confine(u64::MAX), Ok(kept));
    }
}
