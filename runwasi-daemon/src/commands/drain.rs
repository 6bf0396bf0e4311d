//! `drain`: no new sandboxes, and a wait for the end of the present ones.

use std::time::{Duration, Instant};

use runwasi_core::sys;

use super::{
    error::CommandError,
    node::{Daemon, Node, current},
    output::note,
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Retires the current daemon, and waits until all daemons of now have ended.
pub(super) fn drain(node: &Node, limit: Duration) -> Result<(), CommandError> {
    let deadline = Instant::now() + limit;
    let daemons = node.daemons(false)?;
    if let Some(daemon) = current(&daemons) {
        node.client(&daemon.socket)?.retire()?;
        let activated = daemon.answer.status().is_some_and(|status| status.activated);
        if activated {
            note(
                "the manager socket is systemd's, which starts a daemon for the next sandbox: \
                 'systemctl stop' the socket unit to prevent that",
            );
        }
    }
    let mut told = None;
    loop {
        let left = Left::of(&living(node, &daemons)?);
        if left.daemons == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CommandError::Other(format!("drain: {} at the time limit", left.text())));
        }
        if told.as_ref() != Some(&left) {
            note(&format!("waiting for {}", left.text()));
            told = Some(left);
        }
        sys::pause(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
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
    sandboxes: u32,
    /// Daemons that do not tell how many sandboxes they have.
    silent: usize,
}

impl Left {
    fn of(daemons: &[Daemon]) -> Self {
        let statuses: Vec<_> = daemons.iter().filter_map(|daemon| daemon.answer.status()).collect();
        Self {
            daemons: daemons.len(),
            sandboxes: statuses.iter().map(|status| status.sandboxes + status.ending).sum(),
            silent: daemons.len() - statuses.len(),
        }
    }

    fn text(&self) -> String {
        let Self { daemons, sandboxes, silent } = self;
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
    use crate::manager::reports::DaemonState;

    #[test]
    fn ending_sandboxes_and_silent_daemons_are_waited_for() {
        let silent =
            Daemon { answer: Answer::Failed(String::new()), ..daemon(2, DaemonState::Retired) };
        let left = Left::of(&[daemon(1, DaemonState::Retired), silent]);
        assert_eq!(left, Left { daemons: 2, sandboxes: 3, silent: 1 });
        assert_eq!(left.text(), "3 sandboxes of 2 daemons, 1 of them without an answer");
        assert_eq!(Left::of(&[]).daemons, 0);
    }
}
