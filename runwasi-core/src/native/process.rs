//! The processes of a delegate, found by its directory: no other program works in it.

use std::{
    ffi::OsStr,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A pidfd of a process, if it works in this directory.
pub(super) fn open(pid: u32, directory: &Path) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    // After the opening: another process may have its number since.
    let place = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (place == directory).then_some(process)
}

/// Kills a process and waits for its end until the deadline. Blocks.
pub(super) fn kill(process: impl AsFd, deadline: Instant) {
    // An error: it has ended meanwhile.
    let _ = pidfd_send_signal(&process, Signal::KILL);
    await_end(process, deadline);
}

/// The same for all processes that work in this directory. Blocks.
pub(super) fn kill_all(directory: &Path, deadline: Instant) {
    loop {
        let processes = all(directory);
        if processes.is_empty() {
            return;
        }
        for process in processes {
            kill(process, deadline);
        }
        // Once more: before its end a process may have started another one.
        if Instant::now() >= deadline {
            return;
        }
    }
}

/// All processes that work in this directory.
// Collected before any is killed: a process may be the parent of another.
fn all(directory: &Path) -> Vec<OwnedFd> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| pid(&entry.file_name()));
    pids.filter_map(|pid| open(pid, directory)).collect()
}

fn pid(name: &OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

fn await_end(process: impl AsFd, deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Never an error: a deadline is seconds away.
        let Ok(limit) = Timespec::try_from(left) else { return };
        // Any other error, and the limit: the caller finds out what is left.
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) != Err(Errno::INTR) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        time::Duration,
    };

    use super::*;

    fn sleeper(directory: &Path) -> Child {
        Command::new("sleep").arg("1000").current_dir(directory).spawn().unwrap()
    }

    #[test]
    fn only_the_processes_of_a_directory_are_killed() {
        let place = |parent: &tempfile::TempDir| parent.path().canonicalize().unwrap();
        let ours = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut killed = [sleeper(&place(&ours)), sleeper(&place(&ours))];
        let mut spared = sleeper(&place(&other));
        assert!(open(spared.id(), &place(&ours)).is_none());
        kill_all(&place(&ours), Instant::now() + Duration::from_secs(20));
        for child in &mut killed {
            assert!(!child.wait().unwrap().success());
        }
        assert!(spared.try_wait().unwrap().is_none());
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}
