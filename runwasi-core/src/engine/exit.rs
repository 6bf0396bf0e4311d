//! Exit status of a process.

use std::time::SystemTime;

use super::signal::Signal;

/// An exit status in containerd's form: the guest's own code, or 128 + n after an end by signal n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(u32);

impl ExitStatus {
    /// The guest ended successfully.
    pub const SUCCESS: Self = Self(0);
    /// The guest never started: the status of the CRI's start error.
    pub const START_FAILED: Self = Self(128);
    /// The guest trapped: 128 + SIGABRT, as for an aborted native program.
    pub const TRAP: Self = Self(134);
    /// Killed: 128 + SIGKILL. containerd assumes the same for a task without a shim.
    pub const KILLED: Self = Self(137);

    /// The guest's own exit code.
    pub fn code(code: i32) -> Self {
        // As with native programs, only its low 8 bits count.
        Self(u32::from(code.to_le_bytes()[0]))
    }

    /// The status after an end by `signal`.
    pub fn signalled(signal: Signal) -> Self {
        // A shell's convention, which containerd's own shims follow.
        Self(128 + signal.number())
    }

    /// The number for containerd.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// An exit status with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status.
    pub status: ExitStatus,
    /// Time at which the driver saw the end.
    pub at: SystemTime,
}

impl Exit {
    /// An exit at the present time.
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
