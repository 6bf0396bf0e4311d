//! OOM kills in the cgroup of a native container, as the kernel counts them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    files::ROOT,
    policy::Hierarchies,
    version::{self, CgroupVersion as Version},
};

/// OOM kills of one cgroup.
// Relaxed: the numbers publish no other memory.
#[derive(Debug)]
pub(crate) struct OomKills {
    file: PathBuf,
    /// Highest number that was read.
    seen: AtomicU64,
    /// Number at the last exit that was told as a kill.
    told: AtomicU64,
}

impl OomKills {
    /// Kills in the memory cgroup that a process is in. Blocks.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let version = version::host_cgroups();
        // Not by the path in `config.json`: systemd, or a delegate in a cgroup of its own, may have
        // made another one.
        let memory = Hierarchies::new(Path::new(ROOT), version, &cgroups).original_directory(1);
        let file = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        Self::at(memory.join(file))
    }

    fn at(file: PathBuf) -> Option<Self> {
        // A cgroup that others have used, too, may have killed before.
        let before = read(&file)?;
        Some(Self { file, seen: AtomicU64::new(before), told: AtomicU64::new(before) })
    }

    /// Reads the number, if the cgroup still exists. Blocks.
    pub(crate) fn look(&self) {
        if let Some(number) = read(&self.file) {
            self.seen.fetch_max(number, Relaxed);
        }
    }

    /// True if there was a kill since the last one that was taken.
    pub(crate) fn take(&self) -> bool {
        let seen = self.seen.load(Relaxed);
        self.told.swap(seen, Relaxed) < seen
    }
}

fn read(file: &Path) -> Option<u64> {
    number(&fs::read_to_string(file).ok()?)
}

/// The line `oom_kill` of either version's file. Absent before Linux 4.13.
fn number(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_both_versions() {
        assert_eq!(number("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(number("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(number("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn kill_is_taken_once_and_outlives_its_cgroup() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        fs::write(&file, "oom_kill 5\n").unwrap();
        let kills = OomKills::at(file.clone()).unwrap();
        kills.look();
        assert!(!kills.take(), "those before");
        fs::write(&file, "oom_kill 7\n").unwrap();
        kills.look();
        fs::remove_file(&file).unwrap();
        kills.look();
        assert!(kills.take() && !kills.take());
        assert!(OomKills::at(file).is_none());
    }
}
