//! Outcome of the future of `Instance::run`, and what follows from it: exit status, cause in the
//! log, and the error of a start that was not answered before.

use super::ProcessError;
use crate::{
    engine::{error::EngineError, exit::ExitStatus, fault::Fault, signal::Signal},
    observe::Cause,
};

/// End of `Instance::run`.
pub(super) enum Outcome {
    Returned(ExitStatus),
    Failed(EngineError),
    /// No result: a signal or a panic has ended its future.
    Dropped,
}

impl Outcome {
    /// Exit status of the process. `is_starting`: the start was not answered yet.
    pub(super) fn status(&self, signal: Option<Signal>, is_starting: bool) -> ExitStatus {
        match self {
            Self::Returned(status) => *status,
            Self::Failed(_) if is_starting => ExitStatus::START_FAILED,
            Self::Failed(_) => ExitStatus::TRAP,
            // Dropped without a signal: the future of `run` has panicked.
            Self::Dropped => signal.map_or(ExitStatus::TRAP, ExitStatus::signalled),
        }
    }

    /// Cause of the exit, in the log.
    pub(super) fn cause<'a>(
        &'a self,
        signal: Option<Signal>,
        fault: Option<&'a Fault>,
    ) -> Cause<'a> {
        match (self, fault) {
            (Self::Returned(_), Some(Fault::Trap(kind))) => Cause::Trap(kind),
            (Self::Returned(_), Some(Fault::OutOfMemory)) => Cause::OutOfMemory,
            (Self::Returned(_), None) => Cause::Exit,
            (Self::Failed(error), _) => Cause::Failed(error),
            (Self::Dropped, _) => signal.map_or(Cause::Panic, Cause::Signal),
        }
    }

    /// Error of a start that was not answered before the end.
    pub(super) fn start_error(self, signal: Option<Signal>) -> ProcessError {
        match (self, signal) {
            (Self::Failed(error), _) => ProcessError::Start(error),
            (Self::Returned(_) | Self::Dropped, Some(_)) => ProcessError::KilledWhileStarting,
            (Self::Returned(_) | Self::Dropped, None) => {
                ProcessError::Start(EngineError::Failed("the instance panicked".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::Failed(EngineError::Failed("no memory".into()))
    }

    #[test]
    fn exit_status_follows_from_outcome_signal_and_start() {
        let kill = Some(Signal::KILL);
        let killed = ExitStatus::signalled(Signal::KILL);
        for (outcome, signal, is_starting, status) in [
            (Outcome::Returned(ExitStatus::KILLED), None, false, ExitStatus::KILLED),
            (failed(), None, true, ExitStatus::START_FAILED),
            (failed(), kill, false, ExitStatus::TRAP),
            (Outcome::Dropped, kill, true, killed),
            (Outcome::Dropped, None, false, ExitStatus::TRAP),
        ] {
            assert_eq!(outcome.status(signal, is_starting), status);
        }
    }

    #[test]
    fn cause_of_an_exit_follows_from_outcome_signal_and_fault() {
        let kill = Some(Signal::KILL);
        let trap = Fault::Trap("unreachable".into());
        let returned = || Outcome::Returned(ExitStatus::TRAP);
        for (outcome, signal, fault, cause) in [
            (returned(), None, None, "exit"),
            (returned(), None, Some(&trap), "trap"),
            (returned(), kill, Some(&Fault::OutOfMemory), "oom"),
            (failed(), None, None, "error"),
            (Outcome::Dropped, kill, None, "signal"),
            (Outcome::Dropped, kill, Some(&trap), "signal"),
            (Outcome::Dropped, None, None, "panic"),
        ] {
            assert_eq!(outcome.cause(signal, fault).name(), cause);
        }
    }

    #[test]
    fn start_error_names_the_failure_before_the_signal() {
        let kill = Some(Signal::KILL);
        let text = |outcome: Outcome, signal| outcome.start_error(signal).to_string();
        assert!(text(failed(), kill).contains("no memory"));
        assert_eq!(text(Outcome::Dropped, kill), "killed while starting");
        assert!(text(Outcome::Dropped, None).contains("the instance panicked"));
    }
}
