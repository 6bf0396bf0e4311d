//! State and times of processes and threads: the one reader of `/proc/<pid>/stat`.

use std::{fs, io, path::Path, time::Duration};

/// Ticks per second of the times in `stat`.
// `USER_HZ` of every architecture that Rust's standard library runs on.
const TICKS: u64 = 100;

/// Fields of `stat`, see proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// State: `R` for running, `S` for sleeping, `Z` for a zombie, …
    pub state: char,
    /// CPU time, that of ended threads included.
    pub cpu: Duration,
    /// Start in ticks since boot.
    pub started: u64,
}

impl ProcessStat {
    /// The fields of a process.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    /// The fields in a file, which may be that of a thread.
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        let stat = fs::read_to_string(file)?;
        // Empty if the process has ended between the two calls of the read.
        Self::parse(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(stat: &str) -> Option<Self> {
        // From the last parenthesis: field 2 is the name, which may contain any character.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // The first of these is field 3.
        let number = |field: usize| fields.get(field - 3)?.trim_end().parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            cpu: time(number(14)?.saturating_add(number(15)?)),
            started: number(22)?,
        })
    }

    /// Time from boot to the start.
    pub fn boot_to_start(&self) -> Duration {
        time(self.started)
    }

    /// True if it was stopped, by SIGSTOP for example, or is traced.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// True if it has ended, and its parent has not reaped it yet.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS))
}

/// Start time of a process in ticks since boot. Fails if there is no such process, and for a
/// zombie: its sockets are closed, and its parent has not reaped it yet.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = ProcessStat::of(pid)?;
    if stat.is_dead() { Err(io::ErrorKind::NotFound.into()) } else { Ok(stat.started) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) T 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 4000 0 0 0\n";
        let stat = ProcessStat::parse(stat).unwrap();
        assert_eq!((stat.state, stat.cpu, stat.started), ('T', Duration::from_secs(3), 4000));
        assert_eq!(stat.boot_to_start(), Duration::from_secs(40));
        assert!(stat.is_stopped() && !stat.is_dead());
        for damaged in ["", "7 (a) S 1", "7 a S 1 7", "7 (a) "] {
            assert_eq!(ProcessStat::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn zombie_has_no_start_time() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let is_dead = || ProcessStat::of(child.id()).unwrap().is_dead();
        while !is_dead() {
            std::thread::yield_now();
        }
        assert_eq!(start_time(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
        child.wait().unwrap();
        assert!(start_time(std::process::id()).unwrap() > 0);
    }
}
