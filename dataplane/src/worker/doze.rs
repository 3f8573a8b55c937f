//! How a worker without work sleeps, and who wakes it.
//!
//! A worker whose queues all have descriptors that tell of packets (see [`crate::io::Queue::descriptors`]) sleeps until
//! one of them does, or until a thread that gave it something rings its [`Bell`]. Where a queue has none, it takes short
//! naps between looks. Giving costs nothing to speak of while the receiver is awake: a fence and a load for each burst.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_error;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// Longest sleep: until the next look at what falls due by time.
pub(super) const SLEEP: Duration = Duration::from_millis(5);

/// Wakes one thread, a worker or the control thread. Held by it, and by everyone who gives it something through a ring.
#[derive(Debug, Clone)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Written by the one who is woken alone.
    asleep: AtomicBool,
    /// A pipe, read and written; `None` if the kernel gave none: it naps then.
    pipe: Option<(OwnedFd, OwnedFd)>,
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

impl Bell {
    pub fn new() -> Self {
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok();
        Self(Arc::new(Inner { asleep: AtomicBool::new(false), pipe }))
    }

    /// Wakes who sleeps. Called after what it is woken for was put where it looks.
    #[inline]
    pub(super) fn ring(&self) {
        // With the fence in `lie_down`: either this sees it asleep, or its last look sees what it was given.
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some((_, write)) = &self.0.pipe {
            // It can only fail by being full: rung already.
            let _ = rustix::io::write(write, &[0]);
        }
    }

    /// From now on the caller wants to be woken. It looks once more at everything before it sleeps.
    pub fn lie_down(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The caller is awake.
    pub fn get_up(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
        if let Some((read, _)) = &self.0.pipe {
            // A ring or two; if there are more, the next sleep ends at once.
            let _ = rustix::io::read(read, &mut [0u8; 64]);
        }
    }

    /// Readable once it was rung for one who sleeps.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.pipe.as_ref().map(|(read, _)| read.as_fd())
    }
}

/// Sleeps until one of `descriptors` is readable, for `longest` at most.
pub(super) fn sleep(descriptors: &mut Vec<PollFd<'_>>, longest: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
    if !matches!(poll(descriptors, Some(&timeout)), Ok(1..)) {
        return;
    }
    for descriptor in descriptors {
        if descriptor.revents().contains(PollFlags::ERR) {
            // A socket whose interface went down tells of it until it was asked why.
            let _ = socket_error(descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn wait(bell: &Bell) -> Duration {
        let start = Instant::now();
        let fd = bell.descriptor().expect("a pipe");
        sleep(&mut vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)], Duration::from_millis(900));
        start.elapsed()
    }

    #[test]
    fn a_bell_is_heard_by_who_sleeps_and_only_then() {
        let bell = Bell::new();
        bell.ring();
        bell.lie_down();
        let heard = |bell: &Bell| wait(bell) < Duration::from_millis(900);
        assert!(!heard(&bell), "rung while awake");
        bell.ring();
        assert!(heard(&bell));
        bell.get_up();
        bell.lie_down();
        assert!(!heard(&bell), "rung before it lay down again");
    }
}
