//! Connections for metrics: one request each, bounded in number, size and time.
//!
//! A reader that is slow, or a client that sends nothing, has its connection for `PATIENCE`. At
//! the bound a new connection takes the place of the oldest one: silent clients cannot keep a
//! scrape out.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::answer::Answers;

/// Most connections at the same time.
const MOST: usize = 16;

/// Longest life of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an accept that has failed: another attempt at once would only burn CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Largest head of a request, in bytes. The least that hyper takes.
const HEAD: usize = 8 << 10;

/// Most header fields of a request.
const FIELDS: usize = 64;

/// A connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A listening socket of any kind.
#[async_trait]
pub trait Listen: Send + Sync {
    /// The next connection. An error, such as no file descriptor being left, does not end the
    /// listening.
    async fn accept(&self) -> io::Result<Box<dyn Stream>>;
}

/// Accepts connections. Dropped, it ends them all.
pub async fn serve(listener: &dyn Listen, answers: Arc<Answers>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "no connection for metrics");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() == MOST
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        oldest_first.push_back(connections.spawn(connection(stream, answers.clone())));
    }
}

/// One connection, with one request.
async fn connection(stream: Box<dyn Stream>, answers: Arc<Answers>) {
    let answer = service_fn(move |request| {
        let answers = answers.clone();
        async move { answers.answer(&request).await }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics has failed"),
        Err(_) => tracing::debug!("a connection for metrics takes too long"),
    }
}
