//! Output that no process reads when its guest has ended.
//!
//! Its FIFOs stay open until their content is read, or the process is deleted: the last words of a
//! guest that ends while containerd is restarting. containerd opens the FIFOs again, reads to their
//! end, and deletes the process then. So each is closed as soon as it is empty.

use std::future::pending;

use tokio::time::{Duration, sleep};

use super::fifo::Output;

/// First pause between two looks at the FIFOs, and that after one in which a reader has read.
const SHORTEST: Duration = Duration::from_millis(10);
/// Longest pause: a reader may not come at all.
const LONGEST: Duration = Duration::from_millis(500);

/// FIFOs with unread output.
#[derive(Debug)]
pub(crate) struct Unread(Vec<Output>);

impl Unread {
    /// Those of `outputs` that have output and no reader.
    pub(super) fn among<'a>(outputs: impl Iterator<Item = &'a Output>) -> Option<Self> {
        let left: Vec<_> = outputs.filter(|output| output.is_left()).cloned().collect();
        (!left.is_empty()).then_some(Self(left))
    }

    /// Waits until readers have come and have read everything; for ever without such output. Cancel
    /// safe.
    pub(crate) async fn read(unread: Option<&mut Self>) {
        match unread {
            // Boxed: few processes need the timer, and every driver would have room for it.
            Some(unread) => Box::pin(unread.read_all()).await,
            None => pending().await,
        }
    }

    async fn read_all(&mut self) {
        let mut pause = SHORTEST;
        let mut before = u64::MAX;
        loop {
            self.0.retain(|output| output.unread() > 0);
            let left: u64 = self.0.iter().map(Output::unread).sum();
            if left == 0 {
                return;
            }
            pause = if left < before { SHORTEST } else { LONGEST.min(pause * 2) };
            before = left;
            // There is no event to wait for: inotify has few instances, and Tokio's readiness tells
            // that of a writer.
            sleep(pause).await;
        }
    }
}
