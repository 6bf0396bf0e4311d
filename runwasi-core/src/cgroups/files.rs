//! Files: reads and writes of cgroup directories, `/proc` and the list of what was made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    policy::{Leaf, Setting},
    version::CgroupVersion as Version,
};
use crate::sys;

pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// File in the bundle: the directories that were made, in the order of their removal. After an
/// empty line follow the directories above them that were missing. These are removed, too, unless
/// they are in use by others.
pub(super) const MADE_FILE: &str = "cgroups.made";

/// Attempts to make a directory: a process that removes its own cgroup may also remove the shared
/// directory above it, between two steps of another one.
const MAKE_TRIES: u32 = 10;

/// How long a cgroup of a killed process is tried to be removed: its last thread may need time to
/// end.
pub(super) const OF_KILLED: Duration = Duration::from_millis(500);
/// How long that of a living one is: a thread that ends on a busy machine may wait for a CPU.
pub(super) const OF_LIVING: Duration = Duration::from_secs(2);
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Makes the directories of a cgroup, and writes their list into the bundle. A directory that
/// exists is not this container's: an error, after which it is not in the list.
pub(super) fn make(leaf: &Leaf, bundle: &Path) -> io::Result<()> {
    // Before the list, which may be of an earlier attempt whose directories are still there.
    if let Some(existing) = leaf.made.iter().find(|path| path.exists()) {
        return Err(named(existing, &io::ErrorKind::AlreadyExists.into()));
    }
    let above = leaf
        .made
        .iter()
        .filter_map(|path| path.parent())
        .filter(|parent| !leaf.made.iter().any(|m| m == parent));
    let missing = above.flat_map(|above| above.ancestors().take_while(|path| !path.exists()));
    let missing: Vec<_> = missing.collect();
    // Written before anything is made: `remove` must find it even if this process is killed.
    write_list(bundle, &leaf.made, &missing)?;
    // Parents first: the list is in the order of removal.
    for (n, path) in leaf.made.iter().enumerate().rev() {
        if let Err(error) = make_directory(path) {
            // Another process may have made this one meanwhile.
            write_list(bundle, &leaf.made[n + 1..], &missing)?;
            return Err(named(path, &error));
        }
    }
    if leaf.version == Version::V2 {
        enable(leaf.made.last().map_or(Path::new(ROOT), PathBuf::as_path))?;
    }
    Ok(())
}

fn write_list(bundle: &Path, made: &[PathBuf], missing: &[&Path]) -> io::Result<()> {
    let line = |path: &Path| format!("{}\n", path.display());
    let made: String = made.iter().map(|path| line(path)).collect();
    let missing: String = missing.iter().map(|path| line(path)).collect();
    fs::write(bundle.join(MADE_FILE), format!("{made}\n{missing}"))
}

/// Writes settings in their order, up to the first error.
pub(super) fn set(settings: Vec<Setting>) -> io::Result<()> {
    settings.into_iter().try_for_each(|(file, value)| write(file, value))
}

/// Removes the cgroup of the container of this bundle, if one was made, also after its shim was
/// killed. Blocks.
pub(crate) fn remove(bundle: &Path) {
    remove_within(OF_KILLED, bundle, &|| ());
}

/// The same. Calls `evict` before each further attempt while the cgroup is in use.
pub(super) fn remove_within(patience: Duration, bundle: &Path, evict: &dyn Fn()) {
    let path = bundle.join(MADE_FILE);
    let Ok(lines) = fs::read_to_string(&path) else { return };
    let (made, missing) = match lines.strip_prefix('\n') {
        Some(missing) => ("", missing),
        None => lines.split_once("\n\n").unwrap_or((&lines, "")),
    };
    let until = Instant::now() + patience;
    let mut stays = false;
    for directory in made.lines() {
        stays |= !remove_directory(Path::new(directory), made, until, evict);
    }
    for directory in missing.lines() {
        // Fails if other containers use the directory, which must then stay.
        let _ = fs::remove_dir(directory);
    }
    // The list of what stays is for the `delete` after the end of this process.
    if !stays {
        // A file that stays is removed with the bundle, by containerd.
        let _ = fs::remove_file(path);
    }
}

/// Makes a directory, and those above it. One that exists is an error.
fn make_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    for _ in 1..MAKE_TRIES {
        match fs::create_dir_all(parent).and_then(|()| fs::create_dir(path)) {
            // The parent has been removed between the two calls.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    fs::create_dir_all(parent).and_then(|()| fs::create_dir(path))
}

/// Removes one of the directories `made`, a line each. Returns false if it stays.
fn remove_directory(directory: &Path, made: &str, until: Instant, evict: &dyn Fn()) -> bool {
    loop {
        match fs::remove_dir(directory) {
            // The last thread of a killed process has not ended yet.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                made.lines().map(Path::new).for_each(lift_quota);
                evict();
                sys::pause(REMOVE_PAUSE);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    %error,
                    directory = %directory.display(),
                    "a cgroup stays behind"
                );
                return false;
            }
            _ => return true,
        }
    }
}

/// Lifts a CPU quota. A killed thread that is throttled does not end before it may run again.
fn lift_quota(directory: &Path) {
    for (file, none) in [("cpu.cfs_quota_us", "-1"), ("cpu.max", "max")] {
        let path = directory.join(file);
        // Only the hierarchy of CPU limits has one of these files.
        if path.exists() {
            // A directory whose quota stays is removed when the thread has run, or stays behind.
            let _ = fs::write(path, none);
        }
    }
}

/// v2: enables the controllers for the cgroup, from the root down. Enabling one twice succeeds.
fn enable(leaf: &Path) -> io::Result<()> {
    let mut ancestors: Vec<_> =
        leaf.ancestors().take_while(|path| path.join("cgroup.controllers").exists()).collect();
    // The children of the cgroup itself are threaded, and the memory controller is not.
    let own = ancestors.first().copied();
    // From the root down: a cgroup can only pass on controllers that it has.
    ancestors.reverse();
    for directory in ancestors {
        let controllers = if Some(directory) == own { "+cpu" } else { "+cpu +memory" };
        write(directory.join("cgroup.subtree_control"), controllers)?;
    }
    Ok(())
}

pub(super) fn write(path: impl AsRef<Path>, value: impl ToString) -> io::Result<()> {
    fs::write(&path, value.to_string()).map_err(|error| named(path.as_ref(), &error))
}

pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::{super::policy::Hierarchies, *};
    use crate::bundle::cgroups_path::CgroupsPath;

    /// A cgroup with a quota of a millisecond in a second.
    fn throttled(name: &str) -> PathBuf {
        let root = Path::new(ROOT);
        if !root.join("cgroup.controllers").exists() {
            let path = root.join("cpu").join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("cpu.cfs_period_us"), "1000000").unwrap();
            fs::write(path.join("cpu.cfs_quota_us"), "1000").unwrap();
            return path;
        }
        fs::write(root.join("cgroup.subtree_control"), "+cpu").unwrap();
        let path = root.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cpu.max"), "1000 1000000").unwrap();
        path
    }

    fn spinner(cgroup: &Path) -> Child {
        let script = format!("echo $$ > {}/cgroup.procs; while :; do :; done", cgroup.display());
        Command::new("sh").args(["-c", &script]).spawn().unwrap()
    }

    #[test]
    fn list_has_only_directories_that_were_made() {
        for (refused, made) in [("cpu", "memory"), ("memory", "cpu")] {
            let directory = tempfile::tempdir().unwrap();
            let at = |path: &str| directory.path().join(path);
            // A file instead of a cgroup: the directory in it cannot be made. `memory` comes first.
            fs::write(at(refused), "").unwrap();
            let hierarchies = Hierarchies::new(directory.path(), Version::V1, "");
            let leaf = hierarchies.leaf(&CgroupsPath::Root("c1".into()), true, 0);
            make(&leaf, directory.path()).unwrap_err();
            let list = fs::read_to_string(at(MADE_FILE)).unwrap();
            assert!(!list.contains(&format!("{refused}/c1")), "{list}");
            fs::create_dir_all(at(made).join("others")).unwrap();
            remove(directory.path());
            assert!(at(made).join("others").exists() && !at(made).join("c1").exists(), "{list}");
            assert!(!at(MADE_FILE).exists(), "{list}");
        }
    }

    #[test]
    fn cgroup_of_a_throttled_process_is_removed_after_its_kill() {
        assert!(rustix::process::geteuid().is_root(), "this test makes cgroups: run it as root");
        let bundle = tempfile::tempdir().unwrap();
        let cgroup = throttled(&format!("runwasi-test-{}", std::process::id()));
        fs::write(bundle.path().join(MADE_FILE), format!("{}\n\n", cgroup.display())).unwrap();
        let mut child = spinner(&cgroup);
        // Its quota is used up when it is in the cgroup and has computed for a while.
        sys::pause(Duration::from_millis(100));
        child.kill().unwrap();
        remove(bundle.path());
        let is_left = cgroup.exists();
        child.wait().unwrap();
        let _ = fs::remove_dir(&cgroup);
        assert!(!is_left, "the cgroup stayed behind");
    }
}
