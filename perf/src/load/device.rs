//! The device under test as a process: started when the link's end is there, watched, and ended.

use anyhow::{Context, bail};
use ctl::client::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the device may take to end by itself.
const END: Duration = Duration::from_secs(20);

/// The process, if the generator started it, and where it tells about itself.
#[derive(Debug)]
pub(crate) struct Device {
    child: Option<Child>,
    socket: Option<PathBuf>,
}

impl Device {
    /// Starts `command`, if there is one. Its standard input stays open: `testpmd` ends with it.
    pub(crate) fn start(command: &[String], socket: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self { child: None, socket });
        };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        Ok(Self { child: Some(child), socket })
    }

    /// Fails if it ended before it should.
    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => {
                bail!("the device under test ended early: {status}; its messages are above")
            }
            _ => Ok(()),
        }
    }

    /// What can be read about it from any thread.
    pub(crate) fn watch(&self) -> Watch {
        Watch { pid: self.child.as_ref().map(Child::id) }
    }

    /// The share of its time that its busiest worker spends on packets, if it is a `sluiced` that says so.
    pub(crate) fn busy_ratio(&self) -> Option<f64> {
        let client = Client::new(self.socket.clone()?).with_timeout(Duration::from_secs(2));
        let stats = client.stats().ok()?;
        stats.workers.iter().map(|worker| worker.busy_ratio).reduce(f64::max)
    }

    /// What its counters say of all packets, if it is a `sluiced`.
    pub(crate) fn counters(&self) -> Option<Value> {
        let stats = Client::new(self.socket.clone()?).stats().ok()?;
        let drops: BTreeMap<&String, &u64> = stats.drops.iter().filter(|(_, count)| **count > 0).collect();
        Some(json!({
            "rx_packets": stats.rx_packets, "tx_packets": stats.tx_packets,
            "forwarded_packets": stats.forwarded_packets, "consumed_packets": stats.consumed_packets,
            "generated_packets": stats.generated_packets, "drops": drops,
        }))
    }

    /// Ends it, politely at first.
    pub(crate) fn end(mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Reads what the kernel says about the device's threads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watch {
    pid: Option<u32>,
}

/// A thread's time on the CPU and in wait for it, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) ran: u64,
    pub(crate) waited: u64,
}

impl CpuTime {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().map(str::parse);
        Some(Self { ran: words.next()?.ok()?, waited: words.next()?.ok()? })
    }

    /// Of the calling thread.
    pub(crate) fn own() -> Self {
        fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }
}

impl Watch {
    /// By thread number, so that two readings can be compared.
    pub(crate) fn threads(self) -> Vec<(u32, CpuTime)> {
        let Some(pid) = self.pid else { return Vec::new() };
        let Ok(folder) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
        let time = |entry: fs::DirEntry| {
            let thread = entry.file_name().to_string_lossy().parse().ok()?;
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((thread, CpuTime::parse(&text)?))
        };
        folder.flatten().filter_map(time).collect()
    }

    /// Of the thread that ran most since `before`: the one that forwards.
    pub(crate) fn busiest_since(self, before: &[(u32, CpuTime)]) -> Option<CpuTime> {
        let difference = |(thread, time): (u32, CpuTime)| {
            let earlier = before.iter().find(|(number, _)| *number == thread).map(|(_, time)| *time);
            time.since(earlier.unwrap_or_default())
        };
        self.threads().into_iter().map(difference).max_by_key(|time| time.ran)
    }

    /// Resident memory, large pages included, in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let kib = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
        };
        Some((kib("VmRSS:") + kib("HugetlbPages:")) * 1024)
    }
}

/// Time that the machine below took from all CPUs, in hundredths of a second.
pub(crate) fn stolen() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    line.split_whitespace().nth(8).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_of_a_thread() {
        assert_eq!(
            CpuTime::parse("78439615 29301843 210\n"),
            Some(CpuTime { ran: 78_439_615, waited: 29_301_843 })
        );
        assert_eq!(CpuTime::parse(""), None);
    }

    #[test]
    fn a_process_is_watched_and_ended() {
        let mut device = Device::start(&["cat".into()], None).expect("cat runs");
        device.still_runs().expect("it waits for its input");
        assert!(device.watch().memory().is_some_and(|bytes| bytes > 0));
        assert_eq!(device.watch().threads().len(), 1);
        device.end();
        let mut gone = Device::start(&["false".into()], None).expect("false runs");
        let deadline = Instant::now() + END;
        while gone.still_runs().is_ok() {
            assert!(Instant::now() < deadline, "it ended at once");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
