//! The wait of a drained daemon for the others of its node.
//!
//! It has no successor. So its guard, and with it the service, and the address of the metrics belong
//! to all daemons of the node, until the last of them has ended.

use std::{path::PathBuf, time::Duration};

use runwasi_core::bootstrap::socket;
use tokio::time::sleep;

/// Time between two looks at the other daemons.
// A look is one system call for each of them, and it does not wait.
const LOOK: Duration = Duration::from_millis(500);

/// Resolves when no daemon listens at `sockets`, their own sockets.
pub(crate) async fn ended(mut sockets: Vec<PathBuf>) {
    loop {
        sockets.retain(|path| socket::is_alive(path));
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

    #[tokio::test]
    async fn wait_ends_with_the_last_listener() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = ["1", "2"].map(|name| directory.path().join(name)).into();
        let waits = async || timeout(LOOK / 10, ended(paths.clone())).await.is_err();
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
