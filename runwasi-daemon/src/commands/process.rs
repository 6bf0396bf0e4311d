//! Facts of a daemon's OS process, from `/proc`: known without an answer of the daemon.

use std::{fs, io, time::Duration};

/// Ticks per second of the times in `/proc/<pid>/stat`.
// `USER_HZ` of every architecture that Rust's standard library runs on.
const TICKS: u64 = 100;

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
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let uptime = fs::read_to_string("/proc/uptime")?;
    parse(&file("stat")?, &file("status")?, &uptime).ok_or(io::ErrorKind::InvalidData.into())
}

fn parse(stat: &str, status: &str, uptime: &str) -> Option<ProcessFacts> {
    // From the last parenthesis: the name before it may contain any character.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // The first of these is field 3 of proc(5).
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000 / TICKS));
    let up: f64 = uptime.split(' ').next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(up).ok()?;
    Some(ProcessFacts {
        age: up.saturating_sub(time(ticks(22)?)),
        cpu: time(ticks(14)?.saturating_add(ticks(15)?)),
        memory: resident(status).unwrap_or_default(),
        stopped: matches!(fields.first(), Some(&("T" | "t"))),
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
    fn facts_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) T 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 4000 0 0 0";
        let facts = parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\n", "100.50 10.0\n").unwrap();
        assert_eq!(facts.cpu, Duration::from_secs(3));
        assert_eq!(facts.age, Duration::from_millis(60_500));
        assert_eq!((facts.memory, facts.stopped), (2 << 20, true));
        assert_eq!(parse("7 (a) S 1", "", "1 1"), None);
    }

    #[test]
    fn this_process_has_facts() {
        let facts = read(std::process::id()).unwrap();
        assert!(facts.memory > 0 && !facts.stopped);
    }
}
