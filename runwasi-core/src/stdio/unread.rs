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
/// Longest wait for the first read of readers that have come: on a busy node they are late.
const PRESENT: Duration = Duration::from_secs(1);

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

    /// Waits for a short time until something of each FIFO has been read. One that was read to its
    /// end before is not waited for.
    pub(crate) async fn begun(&self) {
        let before: Vec<_> = self.0.iter().map(Output::unread).collect();
        let asked = Instant::now();
        while self.patience(&before).is_some_and(|patience| asked.elapsed() < patience) {
            sleep(READER_POLL).await;
        }
    }

    /// Time for the FIFOs that still have all of these bytes. Nothing without any.
    fn patience(&self, before: &[u64]) -> Option<Duration> {
        let all = self.0.iter().zip(before);
        let unbegun = all.filter(|(output, before)| **before > 0 && output.unread() >= **before);
        unbegun.map(|(output, _)| if output.has_reader() { PRESENT } else { COMING }).max()
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
