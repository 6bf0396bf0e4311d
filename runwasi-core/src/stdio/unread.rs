//! Output that no process reads when its guest has ended.
//!
//! Its FIFOs stay open until their content is read, or the process is deleted: the last words of a
//! guest that ends while containerd is restarting. containerd opens the FIFOs again, reads to their
//! end, and deletes the process then. So each is closed as soon as it is empty.
//!
//! Before it deletes a process, containerd kills it and then cancels the opening of FIFOs that is
//! still under way in a goroutine of its own: a reader that has lost this race never reads. So the
//! kill of an ended process is answered once its output is being read ([`Unread::begun`]).

use std::future::pending;

use tokio::time::{Duration, Instant, sleep};

use super::fifo::{Output, READER_POLL};

/// First pause between two looks at the FIFOs, and that after one in which a reader has read.
const SHORTEST: Duration = Duration::from_millis(10);
/// Longest pause: a reader may not come at all.
const LONGEST: Duration = Duration::from_millis(500);
/// Longest wait for readers that are about to come. Without any, it delays a forced removal.
const COMING: Duration = Duration::from_millis(300);

/// FIFOs with unread output.
#[derive(Debug)]
pub(crate) struct Unread(Vec<Output>);

impl Unread {
    /// The `outputs` that have output and no reader.
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

    /// Waits for a short time until something of each FIFO has been read.
    pub(crate) async fn begun(&self) {
        let before: Vec<_> = self.0.iter().map(Output::unread).collect();
        let begun = || self.0.iter().zip(&before).all(|(output, before)| output.unread() < *before);
        let deadline = Instant::now() + COMING;
        while !begun() && Instant::now() < deadline {
            sleep(READER_POLL).await;
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
