//! One stream of HTTP/2: a member of the container's group, until its response is on its way.
//!
//! A client gives each stream a window of its own. For a piece of a body without a window hyper
//! waits and polls the body no more, and the socket takes the frames of other streams meanwhile. So
//! the body notes each piece that it hands out. A piece that finds no room within `idle-timeout`
//! ends its stream: the drop resets it. Other streams of the connection go on. Room is missing
//! without a window, and where the connection is too slow for all its streams. What hyper has taken
//! of a piece is bounded by the deadlines of the connection.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::instances::Spawner;

tokio::task_local! {
    /// When the body of this stream handed out the piece that waits for a window.
    // Of the task: hyper polls the body within the stream, and passes no value from one to the
    // other.
    static WAITS_SINCE: Cell<Option<Instant>>;
}

/// Starts the streams of a server's connections.
#[derive(Clone)]
pub(super) struct Streams {
    spawner: Spawner,
    /// Time that a piece of a body may wait for a window.
    patience: Duration,
}

impl Streams {
    pub(super) fn new(spawner: Spawner, patience: Duration) -> Self {
        Self { spawner, patience }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        // As members, streams run on all workers, and a guest that spins delays no other stream.
        self.spawner.spawn(bounded(future, self.patience));
    }
}

/// Takes note of a poll of a body: `handed` if it has handed out a piece. HTTP/1 has no windows.
pub(super) fn polled(handed: bool) {
    // An error: a connection of HTTP/1, of which the socket tells a stall.
    let _ = WAITS_SINCE.try_with(|since| since.set(handed.then(Instant::now)));
}

/// Runs a stream until it ends, or until a piece of its body has waited for too long.
async fn bounded(stream: impl Future<Output = ()>, patience: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let run = poll_fn(|cx| {
        // First: a window that has come moves or ends the wait.
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITS_SINCE.with(Cell::get) else { return Poll::Pending };
        let due = since + patience;
        // Most streams never wait, and need no timer.
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        tracing::debug!("a stream was ended whose client takes nothing");
        Poll::Ready(())
    });
    WAITS_SINCE.scope(Cell::new(None), run).await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_piece_that_finds_no_window_ends_its_stream() {
        let stream = async {
            polled(true);
            pending().await
        };
        timeout(SOON, bounded(stream, PATIENCE)).await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_without_a_waiting_piece_takes_its_time() {
        let mut ended = false;
        let stream = async {
            polled(true);
            // Its window was there.
            polled(false);
            sleep(4 * PATIENCE).await;
            ended = true;
        };
        timeout(SOON, bounded(stream, PATIENCE)).await.unwrap();
        assert!(ended);
    }

    #[tokio::test]
    async fn bodies_of_http1_note_nothing() {
        polled(true);
    }
}
