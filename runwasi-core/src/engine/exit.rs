//! Exit status of a process.

use std::time::SystemTime;

use super::signal::{Action, Signal};

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

    /// The signal that ends a program with this status, if there is one.
    pub fn signal(self) -> Option<Signal> {
        let signal = Signal::new(self.0.checked_sub(128)?)?;
        matches!(signal.action(), Action::Kill | Action::Terminate).then_some(signal)
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

    #[test]
    fn signal_of_a_status_is_one_that_ends_programs() {
        let signal = |code| ExitStatus::code(code).signal().map(Signal::number);
        assert_eq!([137, 143, 139].map(signal), [Some(9), Some(15), Some(11)]);
        // None, SIGCHLD, SIGSTOP, beyond the last signal.
        assert_eq!([0, 1, 128, 145, 147, 255].map(signal), [None; 6]);
    }
}
