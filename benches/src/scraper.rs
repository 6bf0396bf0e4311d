//! A reader of a daemon's metrics, more often than Prometheus; used by `rate` and `watch`.

use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use runwasi_tests::exposition::Scrape;

/// Time between two scrapes. Prometheus scrapes every 15 s or less often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Scrapes until it is dropped.
pub(crate) struct Scraper {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    /// Scrapes what is at an address, as soon as it is there.
    pub(crate) fn start(metrics: SocketAddr) -> Self {
        let (over, wait) = channel();
        let thread = thread::spawn(move || {
            // The sender never sends: the end of the wait is its drop.
            while wait.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // An error: the daemon does not serve yet, or no longer.
                drop(Scrape::of(metrics));
            }
        });
        Self { over: Some(over), thread: Some(thread) }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.over.take();
        // An error: it has panicked, and said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
