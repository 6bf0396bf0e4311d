//! Retirement of a daemon: its kinds, its states in the metrics, the request of a successor for it,
//! and the wait of a drained daemon for those before it.
//!
//! A drained daemon has no successor. So its guard, and with it the service, and the address of the
//! metrics belong to all daemons of the node, until the last of them has ended.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use runwasi_core::{
    bootstrap::socket,
    metrics::exposition::{ProgramState, States},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    manager::client::{Client, has_gone},
    state_dir::started,
};

/// How a daemon comes to take no new sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retirement {
    /// A successor takes them, and the addresses that only one daemon can have.
    Replaced,
    /// No daemon does, until one is started: this one keeps what it serves, and outlives the
    /// others.
    Drained,
}

impl Retirement {
    /// By the field of a request.
    pub(crate) fn of(drained: bool) -> Self {
        if drained { Self::Drained } else { Self::Replaced }
    }
}

/// The states of a daemon in the metrics.
const STATES: [&str; 3] = ["serving", "retired", "draining"];

/// State of a daemon for the metrics.
pub(crate) fn states(retired: CancellationToken, draining: CancellationToken) -> States {
    Box::new(move || {
        // A drain cancels both.
        let state = usize::from(retired.is_cancelled()) + usize::from(draining.is_cancelled());
        ProgramState { all: &STATES, present: STATES[state] }
    })
}

/// Tells the predecessors to leave all new sandboxes to this daemon: all at the same time, since
/// one that hangs takes as long as its `patience`. Blocks.
pub(crate) fn retire(predecessors: &[PathBuf], program: &'static str, patience: Duration) {
    thread::scope(|scope| {
        for predecessor in predecessors {
            let ask = move || retire_one(predecessor, program, patience);
            let asking = thread::Builder::new().spawn_scoped(scope, ask);
            if let Err(error) = asking {
                tracing::error!(%error, "a predecessor is not asked to retire");
            }
        }
    });
}

fn retire_one(predecessor: &Path, program: &'static str, patience: Duration) {
    let begun = Instant::now();
    let client = Client::connect(predecessor, program, patience);
    match client.and_then(|client| client.retire(false)) {
        Ok(answer) => tracing::info!(pid = answer.pid, version = answer.version, "took over"),
        Err(error) if has_gone(predecessor, &error, begun, patience) => {
            tracing::info!(socket = %predecessor.display(), "a predecessor has ended");
        }
        // Only logged: this daemon serves, even if a predecessor goes on as before.
        Err(error) => tracing::error!(%error, "a predecessor does not retire"),
    }
}

/// Time between two looks at the other daemons.
// A look is one system call for each of them, and it does not wait.
const LOOK: Duration = Duration::from_millis(500);

/// Resolves when no daemon listens at `sockets`, their own sockets.
pub(crate) async fn others_ended(mut sockets: Vec<PathBuf>) {
    loop {
        // Without free descriptors no socket answers.
        sockets.retain(|path| socket::is_alive(path) || started(path).is_some());
        if sockets.is_empty() {
            return;
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn predecessors_that_hang_take_the_time_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..5).map(|n| directory.path().join(n.to_string())).collect();
        // They accept no connection.
        let _listeners: Vec<_> =
            paths.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
        let patience = Duration::from_secs(1);
        let begun = Instant::now();
        retire(&paths, "test", patience);
        assert!(begun.elapsed() < 3 * patience, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn wait_ends_with_the_last_listener() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = ["a", "b"].map(|name| directory.path().join(name)).into();
        let waits = async || timeout(LOOK / 10, others_ended(paths.clone())).await.is_err();
        assert!(!waits().await, "there is no socket");
        let mut listeners: Vec<_> =
            paths.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
        while let Some(listener) = listeners.pop() {
            assert!(waits().await, "one listens");
            drop(listener);
        }
        assert!(!waits().await, "none listens");
    }
}
