//! The OS processes of a pod and what they use, read from `/proc`; called by `memory` and `levels`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use runwasi_tests::{poll_until, proc};

use crate::interrupt::Interrupt;

/// What the OS processes of one pod use together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    /// Proportional set size in bytes: a page that n processes map counts as 1/n page.
    pub(crate) pss: u64,
    /// Bytes only this process maps.
    pub(crate) private: u64,
    /// Bytes other processes map as well.
    pub(crate) shared: u64,
    /// CPU time used up to now, in clock ticks.
    pub(crate) ticks: u64,
}

/// Every OS process there is because of the container `id` of the containerd at `address`: those that name both in their
/// arguments, as all shims do, and all their descendants.
pub(crate) fn of_pod(address: &Path, id: &str) -> Vec<u32> {
    let table = parents();
    let named = table.keys().copied().filter(|pid| names_both(*pid, address, id));
    with_descendants(named.collect(), &table)
}

/// What these OS processes use; an error if one has ended.
pub(crate) fn usage(pids: &[u32]) -> Result<Usage> {
    let mut sum = Usage { processes: pids.len(), ..Usage::default() };
    // Those of sandboxes share the memory of their server and run nothing.
    for pid in pids.iter().filter(|pid| !proc::is_sandbox(**pid)) {
        let rollup = read(*pid, "smaps_rollup")?;
        let bytes = |fields: &[&str]| {
            sizes(&rollup, fields).with_context(|| format!("smaps_rollup of {pid}"))
        };
        sum.pss += bytes(&["Pss"])?;
        sum.private += bytes(&["Private_Clean", "Private_Dirty", "Private_Hugetlb"])?;
        sum.shared += bytes(&["Shared_Clean", "Shared_Dirty", "Shared_Hugetlb"])?;
        sum.threads += proc::threads(*pid)?;
        sum.ticks += cpu_ticks(*pid)?;
    }
    Ok(sum)
}

/// CPU time that an OS process has used up to now, in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> Result<u64> {
    ticks(&read(pid, "stat")?).with_context(|| format!("stat of {pid}"))
}

/// Waits until what `probe` gives has not changed for `quiet`, and gives it.
pub(crate) fn at_rest<T: PartialEq>(
    interrupt: &Interrupt,
    quiet: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last: Option<(T, Instant)> = None;
    poll_until("OS processes at rest", Duration::from_secs(30), || {
        let seen = match interrupt.check().and_then(|()| probe()) {
            Ok(seen) => seen,
            Err(error) => return Some(Err(error)),
        };
        match &last {
            Some((before, since)) if *before == seen => {
                (since.elapsed() > quiet).then_some(Ok(seen))
            }
            _ => {
                last = Some((seen, Instant::now()));
                None
            }
        }
    })?
}

fn read(pid: u32, what: &str) -> Result<String> {
    let file = format!("/proc/{pid}/{what}");
    fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))
}

/// The parent of every OS process.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| Some((pid, stat_field(&read(pid, "stat").ok()?, 4)?.try_into().ok()?));
    pids.filter_map(parent).collect()
}

fn names_both(pid: u32, address: &Path, id: &str) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let has = |wanted: &[u8]| line.split(|byte| *byte == 0).any(|arg| arg == wanted);
    has(address.as_os_str().as_encoded_bytes()) && has(id.as_bytes())
}

fn with_descendants(mut found: BTreeSet<u32>, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    loop {
        let children =
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
        let grown: BTreeSet<u32> = children.chain(found.iter().copied()).collect();
        if grown.len() == found.len() {
            return found.into_iter().collect();
        }
        found = grown;
    }
}

/// The sum of these fields of a smaps file, in bytes; none if one is missing.
fn sizes(smaps: &str, fields: &[&str]) -> Option<u64> {
    let size = |field: &&str| {
        let line = smaps.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    fields.iter().map(size).sum()
}

/// User and system time.
fn ticks(stat: &str) -> Option<u64> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

/// A field of /proc/PID/stat, numbered from 1 as in proc(5).
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    // The second field, the name in brackets, may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed_by_whole_field_names() {
        let smaps = "00 ---p\nPss:     100 kB\nPss_Dirty:  7 kB\nPrivate_Clean: 3 kB\nPrivate_Dirty: 4 kB\n";
        assert_eq!(sizes(smaps, &["Pss"]), Some(100 * 1024));
        assert_eq!(sizes(smaps, &["Private_Clean", "Private_Dirty"]), Some(7 * 1024));
        assert_eq!(sizes(smaps, &["Private_Clean", "Shared_Clean"]), None);
    }

    #[test]
    fn stat_is_read_behind_a_name_with_brackets_and_spaces() {
        let stat = "77 (a) b (c) S 5 77 77 0 -1 4194560 1 0 0 0 30 12 0 0 20";
        assert_eq!((stat_field(stat, 4), ticks(stat)), (Some(5), Some(42)));
    }

    #[test]
    fn descendants_of_every_depth_belong_to_a_pod() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (21, 20)]);
        assert_eq!(with_descendants(BTreeSet::from([10]), &parents), [10, 11, 12]);
    }

    #[test]
    fn usage_of_this_very_process_is_plausible() {
        let used = usage(&[std::process::id()]).unwrap();
        assert_eq!(used.processes, 1);
        assert!(used.threads >= 1 && used.pss > 100_000 && used.private <= used.pss, "{used:?}");
    }

    #[test]
    fn usage_of_an_ended_process_is_an_error() {
        assert!(usage(&[u32::MAX]).is_err());
    }
}
