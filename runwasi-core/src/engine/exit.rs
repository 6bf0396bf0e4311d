//! How a process ended.

use std::time::SystemTime;

use super::signal::Signal;

/// An exit status as containerd reports it: the guest's own code, or 128+n for an end by signal n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(u32);

impl ExitStatus {
    /// The guest ended well.
    pub const SUCCESS: Self = Self(0);
    /// The guest never started; what the CRI calls a start error.
    pub const START_FAILED: Self = Self(128);
    /// The guest trapped: 128 + SIGABRT, what an aborted native program gives.
    pub const TRAP: Self = Self(134);
    /// Killed: 128 + SIGKILL; also what containerd assumes of a task whose shim is gone.
    pub const KILLED: Self = Self(137);

    /// The guest's own exit code. As with native programs only its low 8 bits count.
    pub fn code(code: i32) -> Self {
        Self(u32::from(code.to_le_bytes()[0]))
    }

    /// Ended by `signal`.
    pub fn signalled(signal: Signal) -> Self {
        Self(128 + signal.number())
    }

    /// The number containerd is told.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// An exit status with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status.
    pub status: ExitStatus,
    /// When the driver saw the end.
    pub at: SystemTime,
}

impl Exit {
    /// An exit that happens now.
    pub fn now(status: ExitStatus) -> Self {
        Self { status, at: SystemTime::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_low_byte_of_a_guests_code_counts() {
        assert_eq!(ExitStatus::code(42).get(), 42);
        assert_eq!(ExitStatus::code(256).get(), 0);
        assert_eq!(ExitStatus::code(-1).get(), 255);
    }
}
