//! `drain`: no new sandboxes, and a wait for the end of the present ones.

use std::time::{Duration, Instant};

use runwasi_core::sys;

use super::{
    error::CommandError,
    node::{Daemon, Node, current},
    output::note,
};
use crate::{manager::reports::DaemonState, thin::START_PATIENCE};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Retires the current daemon, and waits until all daemons of now have ended.
pub(super) fn drain(node: &Node, limit: Duration) -> Result<(), CommandError> {
    let deadline = Instant::now() + limit;
    let daemons = node.daemons(false)?;
    if let Some(daemon) = current(&daemons) {
        node.client(&daemon.socket)?.retire(true)?;
        let activated = daemon.answer.status().is_some_and(|status| status.activated);
        if activated {
            note(&socket_stays_open());
        }
    }
    let mut told = None;
    loop {
        let left = Left::of(&living(node, &daemons)?);
        if left.daemons == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return at_the_limit(&left);
        }
        if told.as_ref() != Some(&left) {
            note(&format!("waiting for {}", left.text()));
            told = Some(left);
        }
        sys::pause(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Note about a manager socket of systemd.
fn socket_stays_open() -> String {
    format!(
        "the manager socket is systemd's and stays open: a start during the drain waits {} s and \
         fails, and after the last sandbox the next one, or one that came meanwhile, starts a new \
         daemon. Keep pods away with 'kubectl cordon'. Stop the socket unit only when the drain is \
         done: before, that stops the service and ends its containers",
        START_PATIENCE.as_secs()
    )
}

/// Result at the time limit.
fn at_the_limit(left: &Left) -> Result<(), CommandError> {
    if left.is_nothing() {
        return Ok(());
    }
    Err(CommandError::Other(format!("drain: {} at the time limit", left.text())))
}

/// The daemons that still live.
fn living(node: &Node, daemons: &[Daemon]) -> Result<Vec<Daemon>, CommandError> {
    let all = match node.daemons(false) {
        Ok(all) => all,
        Err(CommandError::Absent { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let was_there = |one: &Daemon| daemons.iter().any(|daemon| daemon.pid == one.pid);
    Ok(all.into_iter().filter(was_there).collect())
}

/// Rest that a drain waits for.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    daemons: usize,
    /// Daemons that take new sandboxes.
    serving: usize,
    sandboxes: u32,
    /// Daemons that do not tell how many sandboxes they have.
    silent: usize,
}

impl Left {
    fn of(daemons: &[Daemon]) -> Self {
        let statuses: Vec<_> = daemons.iter().filter_map(|daemon| daemon.answer.status()).collect();
        let serves = |state| !matches!(state, DaemonState::Retired | DaemonState::Stopping);
        Self {
            daemons: daemons.len(),
            serving: statuses.iter().filter(|status| serves(status.state())).count(),
            sandboxes: statuses.iter().map(|status| status.sandboxes + status.ending).sum(),
            silent: daemons.len() - statuses.len(),
        }
    }

    /// True without a sandbox and without a daemon that could make one: the daemons that still live
    /// are about to exit.
    fn is_nothing(&self) -> bool {
        (self.serving, self.sandboxes, self.silent) == (0, 0, 0)
    }

    fn text(&self) -> String {
        let Self { daemons, sandboxes, silent, .. } = self;
        let silent = match silent {
            0 => String::new(),
            silent => format!(", {silent} of them without an answer"),
        };
        format!("{sandboxes} sandboxes of {daemons} daemons{silent}")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{node::Answer, tests::daemon},
        *,
    };

    fn empty(pid: u32, state: DaemonState) -> Daemon {
        let mut daemon = daemon(pid, state);
        if let Answer::Status(status) = &mut daemon.answer {
            (status.sandboxes, status.ending) = (0, 0);
        }
        daemon
    }

    fn silent(pid: u32) -> Daemon {
        let answer = Answer::Failed(String::new());
        Daemon { answer, ..daemon(pid, DaemonState::Retired) }
    }

    #[test]
    fn ending_sandboxes_and_silent_daemons_are_waited_for() {
        let left = Left::of(&[daemon(1, DaemonState::Retired), silent(2)]);
        assert_eq!(left, Left { daemons: 2, serving: 0, sandboxes: 3, silent: 1 });
        assert_eq!(left.text(), "3 sandboxes of 2 daemons, 1 of them without an answer");
        assert_eq!(Left::of(&[]).daemons, 0);
    }

    #[test]
    fn nothing_is_left_if_all_daemons_are_retired_and_empty() {
        let is_nothing = |daemons: &[Daemon]| Left::of(daemons).is_nothing();
        let retired = empty(1, DaemonState::Retired);
        assert!(is_nothing(&[]));
        assert!(is_nothing(&[retired.clone(), empty(2, DaemonState::Stopping)]));
        for other in [silent(2), empty(2, DaemonState::Serving), daemon(2, DaemonState::Retired)] {
            assert!(!is_nothing(&[retired.clone(), other]));
        }
    }

    #[test]
    fn note_about_the_socket_has_the_patience_of_a_start() {
        let note = socket_stays_open();
        assert!(note.contains("a start during the drain waits 9 s and fails"), "{note}");
        assert!(note.ends_with("before, that stops the service and ends its containers"), "{note}");
    }
}
