//! The order of the lines "started" and "exited" of a native container's init in the log.
//!
//! The exit of a short program may be known before its delegate has answered the start. Its line
//! waits for that answer.

use crate::observe::Exited;

/// The line of an init's exit.
#[derive(Default)]
pub(super) struct ExitLine {
    /// True while a start has no answer.
    starting: bool,
    /// The exit, if it was known before that answer.
    held: Option<Exited<'static>>,
}

impl ExitLine {
    /// A start begins.
    pub(super) fn starting(&mut self) {
        self.starting = true;
    }

    /// The init has ended. The exit is returned if it is to be logged now.
    #[must_use]
    pub(super) fn exited(&mut self, exited: Exited<'static>) -> Option<Exited<'static>> {
        if self.starting {
            self.held = Some(exited);
            return None;
        }
        Some(exited)
    }

    /// The start has its answer, and its line is in the log. An exit that waited for it is
    /// returned.
    #[must_use]
    pub(super) fn answered(&mut self) -> Option<Exited<'static>> {
        self.starting = false;
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::exit::ExitStatus, observe::Cause};

    fn exited() -> Exited<'static> {
        Exited { status: ExitStatus::SUCCESS, cause: Cause::Exit, run: None, usage: None }
    }

    #[test]
    fn exit_before_the_answer_to_the_start_is_logged_after_it() {
        let mut line = ExitLine::default();
        line.starting();
        assert!(line.exited(exited()).is_none(), "logged before the start");
        assert!(line.answered().is_some(), "not logged after the start");
        assert!(line.answered().is_none(), "logged twice");
    }

    #[test]
    fn exit_after_the_answer_is_logged_at_once() {
        let mut line = ExitLine::default();
        line.starting();
        assert!(line.answered().is_none());
        assert!(line.exited(exited()).is_some());
    }

    #[test]
    fn exit_without_a_start_is_logged_at_once() {
        assert!(ExitLine::default().exited(exited()).is_some());
    }
}
