//! What one OS process holds, and whether its threads have run; read from `/proc` by the benchmarks of the daemon.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::proc;

use crate::interrupt::Interrupt;
use crate::processes::{at_rest, cpu_ticks, usage};

/// Longer than idle threads of a blocking pool live, one second, and than the daemon waits before it gives memory back, five.
const QUIET: Duration = Duration::from_millis(6500);

/// What an OS process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    /// Proportional set size, in bytes.
    pub(crate) pss: u64,
    pub(crate) threads: usize,
    /// Open file descriptors.
    pub(crate) fds: usize,
    /// Mappings, of which `vm.max_map_count` is the limit.
    pub(crate) maps: usize,
}

impl Level {
    /// What it holds once it is at rest.
    pub(crate) fn settled(pid: u32, interrupt: &Interrupt) -> Result<Self> {
        at_rest(interrupt, QUIET, || Ok((cpu_ticks(pid)?, proc::threads(pid)?, fds(pid)?)))?;
        let used = usage(&[pid])?;
        Ok(Self { pss: used.pss, threads: used.threads, fds: fds(pid)?, maps: maps(pid)? })
    }

    /// By how much a figure has grown since `base`, for each of `count`.
    pub(crate) fn growth_per(&self, base: &Self, count: usize, figure: fn(&Self) -> f64) -> f64 {
        (figure(self) - figure(base)) / count as f64
    }
}

/// How often each thread of an OS process was switched out up to now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Switches(BTreeMap<u32, u64>);

impl Switches {
    /// Reads them.
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks).with_context(|| tasks.clone())?;
        let threads =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // A thread that ends meanwhile is none of the second reading, which counts as a switch.
        let read = |tid: u32| {
            Some((tid, switches(&fs::read_to_string(format!("{tasks}/{tid}/status")).ok()?)?))
        };
        Ok(Self(threads.filter_map(read).collect()))
    }

    /// How many there were since `before`; a thread that has come or gone has run at least once.
    pub(crate) fn since(&self, before: &Self) -> u64 {
        let ran = self.0.iter().map(|(tid, count)| match before.0.get(tid) {
            Some(earlier) => count - earlier,
            None => (*count).max(1),
        });
        let gone = before.0.keys().filter(|tid| !self.0.contains_key(tid)).count();
        ran.sum::<u64>() + gone as u64
    }
}

fn switches(status: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    Some(field("voluntary_ctxt_switches")? + field("nonvoluntary_ctxt_switches")?)
}

fn fds(pid: u32) -> Result<usize> {
    let folder = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&folder).with_context(|| folder)?.count())
}

fn maps(pid: u32) -> Result<usize> {
    let file = format!("/proc/{pid}/maps");
    Ok(fs::read(&file).with_context(|| file)?.iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(u32, u64)]) -> Switches {
        Switches(pairs.iter().copied().collect())
    }

    #[test]
    fn both_kinds_of_switches_count() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(switches(status), Some(12));
        assert_eq!(switches("voluntary_ctxt_switches:\t7\n"), None);
    }

    #[test]
    fn threads_that_come_or_go_have_run() {
        let before = counts(&[(1, 10), (2, 20)]);
        assert_eq!(counts(&[(1, 10), (2, 20)]).since(&before), 0);
        assert_eq!(counts(&[(1, 13), (2, 20)]).since(&before), 3);
        assert_eq!(counts(&[(1, 10)]).since(&before), 1);
        assert_eq!(counts(&[(1, 10), (2, 20), (3, 0)]).since(&before), 1);
    }

    #[test]
    fn an_open_file_is_one_more_fd() {
        let own = std::process::id();
        let before = fds(own).unwrap();
        let many: Vec<_> = (0..64).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this OS process open and close files, too.
        assert!(fds(own).unwrap() > before + 32, "{before}");
        drop(many);
        assert!(maps(own).unwrap() > 10);
        assert!(!Switches::read(own).unwrap().0.is_empty());
    }
}
