//! A process that outlives its parent, as a record names it: the delegate, and the server that it
//! belongs to.

use std::{io, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use crate::sys;

/// A pid with the start time that distinguishes it from a later process of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct HostProcess {
    pid: u32,
    /// Ticks since boot.
    started: u64,
}

impl HostProcess {
    /// A running process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, started: sys::start_time(pid)? })
    }

    /// The calling process.
    pub(crate) fn this() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    pub(crate) fn is_alive(self) -> bool {
        sys::start_time(self.pid).is_ok_and(|started| started == self.started)
    }

    /// Kills it and waits for its end. An error if it lives at the limit. Blocks.
    pub(crate) fn kill(self, limit: Duration) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else { return Ok(()) };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // After the opening: the descriptor may be that of a later process.
        if !self.is_alive() {
            return Ok(());
        }
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        let limit = limit.try_into().map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_process_of_the_start_time_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = HostProcess::of(child.id()).unwrap();
        let earlier = HostProcess { started: process.started - 1, ..process };
        assert!(process.is_alive() && !earlier.is_alive());
        let limit = Duration::from_secs(20);
        earlier.kill(limit).unwrap();
        assert!(process.is_alive());
        process.kill(limit).unwrap();
        assert!(!process.is_alive(), "a zombie has ended");
        child.wait().unwrap();
        process.kill(limit).unwrap();
        assert!(HostProcess::of(process.pid).is_err());
    }
}
