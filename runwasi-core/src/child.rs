//! Programs of the host that run for a bounded time.

use std::{
    fs::File,
    io,
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// Waits for the end of a child that leads a process group. At the limit the group is killed, and
/// there is no status. Blocks.
pub(crate) fn wait_within(
    child: &mut Child,
    limit: Option<Duration>,
) -> io::Result<Option<ExitStatus>> {
    // A pidfd, because `poll` can wait for it with a timeout and `wait` cannot.
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let limit = limit.map(TryInto::try_into).transpose().map_err(io::Error::other)?;
    let ended = loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => break ready? > 0,
        }
    };
    if !ended {
        kill_process_group(Pid::from_child(child), Signal::KILL)?;
    }
    // Also after the kill, so that no zombie remains.
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// A file in memory. As a standard stream it needs no reader while the child runs.
pub(crate) fn memory_file(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}
