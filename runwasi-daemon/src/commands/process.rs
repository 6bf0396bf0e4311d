//! Facts of a daemon's OS process, from `/proc`: known without an answer of the daemon.

use std::{fs, io, time::Duration};

use runwasi_core::sys::ProcessStat;

/// Facts of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessFacts {
    /// Time since its start.
    pub(super) age: Duration,
    /// CPU time of all its threads.
    pub(super) cpu: Duration,
    /// Memory in use.
    pub(super) memory: u64,
    /// True if it was stopped, by SIGSTOP for example.
    pub(super) stopped: bool,
}

/// Reads the facts of a process.
pub(super) fn read(pid: u32) -> io::Result<ProcessFacts> {
    let stat = ProcessStat::of(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    facts(&stat, &status, &uptime).ok_or(io::ErrorKind::InvalidData.into())
}

fn facts(stat: &ProcessStat, status: &str, uptime: &str) -> Option<ProcessFacts> {
    let up: f64 = uptime.split(' ').next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(up).ok()?;
    Some(ProcessFacts {
        age: up.saturating_sub(stat.boot_to_start()),
        cpu: stat.cpu,
        memory: resident(status).unwrap_or_default(),
        stopped: stat.is_stopped(),
    })
}

/// Resident memory, from `/proc/<pid>/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_the_time_since_the_start() {
        let cpu = Duration::from_secs(3);
        let stat = ProcessStat { state: 'T', cpu, started: 4000 };
        let facts = facts(&stat, "Name:\tx\nVmRSS:\t    2048 kB\n", "100.50 10.0\n").unwrap();
        assert_eq!((facts.age, facts.cpu), (Duration::from_millis(60_500), cpu));
        assert_eq!((facts.memory, facts.stopped), (2 << 20, true));
    }

    #[test]
    fn this_process_has_facts() {
        let facts = read(std::process::id()).unwrap();
        assert!(facts.memory > 0 && !facts.stopped);
    }
}
