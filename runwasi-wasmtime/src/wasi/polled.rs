//! Standard streams with hand-written polls: those of p3.
//!
//! A guest may have several streams of one stdin or stdout. Each waits by a future of its own,
//! since Tokio wakes only the last of those that poll a file by hand.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use runwasi_core::stdio::streams::{Input, Output};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one write. To a file it would take them all.
const PART: usize = 64 << 10;

/// Stdin for one stream.
pub(crate) struct PolledStdin {
    input: Input,
    wait: Wait,
}

/// Stdout or stderr for one stream.
pub(crate) struct PolledStdout {
    output: Output,
    wait: Wait,
}

/// A wait under way.
#[derive(Default)]
struct Wait(Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>);

impl Wait {
    /// Polls the wait, which `begin` makes unless one is under way.
    fn poll<F>(&mut self, cx: &mut Context<'_>, begin: impl FnOnce() -> F) -> Poll<io::Result<()>>
    where
        F: Future<Output = io::Result<()>> + Send + Sync + 'static,
    {
        let wait = self.0.get_or_insert_with(|| Box::pin(begin()));
        let ended = ready!(wait.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(ended)
    }
}

impl PolledStdin {
    pub(crate) fn new(input: Input) -> Self {
        Self { input, wait: Wait::default() }
    }
}

impl AsyncRead for PolledStdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { input, wait } = self.get_mut();
        loop {
            match input.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let readable = || {
                let input = input.clone();
                async move { input.readable().await }
            };
            ready!(wait.poll(cx, readable))?;
        }
    }
}

impl PolledStdout {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, wait: Wait::default() }
    }
}

impl AsyncWrite for PolledStdout {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { output, wait } = self.get_mut();
        let part = &bytes[..bytes.len().min(PART)];
        loop {
            match output.try_write(part) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            let writable = || {
                let output = output.clone();
                async move { output.writable().await }
            };
            ready!(wait.poll(cx, writable))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // There is no buffer: every write goes to the stream itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, future::poll_fn, io::Read, time::Duration};

    use runwasi_core::{
        id::Id,
        shutdown::Tasks,
        stdio::{Stdio, owner::Owner, paths::StdioPaths},
    };
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::{runtime::Handle, task::JoinSet, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    async fn write(mut stream: PolledStdout) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"x")).await
    }

    #[tokio::test]
    async fn every_stream_of_a_full_stdout_is_woken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let stdout = path.to_str().unwrap().to_owned();
        let paths = StdioPaths { stdout, ..StdioPaths::default() };
        let id = Id::parse("id", "test").unwrap();
        let tasks = Tasks::new(SOON);
        let guests = &Handle::current();
        let owner = Owner { container: &id, namespace: &id, tasks: &tasks, guests };
        let stdio = Stdio::open(&paths, owner).await.unwrap();
        timeout(SOON, stdio.stdout.writable()).await.unwrap().unwrap();
        let full = stdio.stdout.try_write(&vec![0; 1 << 20]).unwrap();
        let mut writes = JoinSet::new();
        for _ in 0..3 {
            writes.spawn(write(PolledStdout::new(stdio.stdout.clone())));
        }
        let early = timeout(Duration::from_millis(50), writes.join_next()).await;
        assert!(early.is_err(), "the pipe is full");
        let mut reader = File::open(&path).unwrap();
        reader.read_exact(&mut vec![0; full]).unwrap();
        for _ in 0..3 {
            let written = timeout(SOON, writes.join_next()).await.unwrap().unwrap();
            assert_eq!(written.unwrap().unwrap(), 1);
        }
    }
}
