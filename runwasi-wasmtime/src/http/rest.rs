//! End of a connection: the rest of what its client sends, and resets.
//!
//! A response may end before its request has arrived. A socket that is closed with data that was
//! not read, or to which more comes, resets its connection, and the client may lose the response.
//! So the server ends its own side, then reads and drops what comes until the client ends its side,
//! too.
//!
//! A response to HTTP/1.0 may have no end but that of the connection. One that is cut ends with a
//! reset, also if its container is killed: the client would take any other end for a whole
//! response.

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use runwasi_core::{lock::Mutex, sys};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::timeouts::Activity;
use crate::turns::Steps;

/// Time for the client to end its side.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of a rest.
const MOST: usize = 64 << 20;
/// Bytes of one read.
const PIECE: usize = 16 << 10;

/// Pause between two looks at what a client has acknowledged.
const LOOK: Duration = Duration::from_millis(10);

/// Makes the end of a socket a reset when it is dropped before the end of an open-ended response.
pub(super) struct ResetIfOpenEnded<'a>(pub(super) &'a Mutex<TcpStream>, pub(super) &'a Activity);

impl Drop for ResetIfOpenEnded<'_> {
    fn drop(&mut self) {
        if self.1.is_open_ended() {
            // Cannot fail on a TCP socket.
            let _ = self.0.lock().set_zero_linger();
        }
    }
}

/// Waits for the client to have what was written to it, which a reset would take back.
pub(super) async fn arrived(socket: &Mutex<TcpStream>) {
    let all = async {
        while sys::unacknowledged(&*socket.lock()).is_ok_and(|bytes| bytes > 0) {
            sleep(LOOK).await;
        }
    };
    // An error: the client takes nothing.
    let _ = timeout(PATIENCE, all).await;
}

/// Ends the server's side of a connection, and drops the rest of the client's.
pub(super) async fn drop_rest(socket: &Mutex<TcpStream>, activity: &Activity) {
    // hyper has done so only where the connection has ended well.
    let ended = poll_fn(|cx| Pin::new(&mut *socket.lock()).poll_shutdown(cx)).await;
    if ended.is_err() {
        // The client is gone.
        return;
    }
    let is_coming = activity.may_send();
    let mut rest = Rest { socket, is_coming, left: MOST, steps: Steps::default() };
    // An error: the client goes on for too long, and loses its connection.
    let _ = timeout(PATIENCE, poll_fn(|cx| rest.poll(cx))).await;
}

struct Rest<'a> {
    socket: &'a Mutex<TcpStream>,
    /// The client may still send something. Others are not waited for: an idle client may leave its
    /// side open, and connections that end well are many.
    is_coming: bool,
    /// Bytes that may still come.
    left: usize,
    steps: Steps,
}

impl Rest<'_> {
    /// Ready at the end of the rest.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut socket = self.socket.lock();
        let mut piece = [MaybeUninit::uninit(); PIECE];
        loop {
            ready!(self.steps.poll_next(cx));
            let mut buffer = ReadBuf::uninit(&mut piece);
            let read = match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read.map_or(0, |()| buffer.filled().len()),
                Poll::Pending if self.is_coming => return Poll::Pending,
                Poll::Pending => 0,
            };
            if read == 0 || read > self.left {
                return Poll::Ready(());
            }
            self.is_coming = true;
            self.left -= read;
            self.steps.count(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Shutdown, TcpListener},
        thread,
        time::Instant,
    };

    use super::*;

    /// A server's socket, which has got `bytes`, and its client.
    async fn connected(bytes: &[u8]) -> (Mutex<TcpStream>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(accepted).unwrap();
        if !bytes.is_empty() {
            stream.readable().await.unwrap();
        }
        (Mutex::new(stream), client)
    }

    fn activity(may_send: bool) -> Activity {
        let activity = Activity::new(PATIENCE, PATIENCE);
        activity.read();
        if !may_send {
            activity.request_begins(false);
        }
        activity
    }

    #[tokio::test]
    async fn a_client_that_still_sends_is_not_reset() {
        let (socket, mut client) = connected(b"a part").await;
        let sends = thread::spawn(move || {
            // The server has ended its side, and takes more.
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client.write_all(&[0; 256 << 10]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        drop_rest(&socket, &activity(true)).await;
        drop(socket);
        let mut client = sends.join().unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn clients_are_waited_for_while_they_may_send() {
        for (may_send, bytes) in [(false, ""), (false, "more"), (true, "")] {
            let (socket, _client) = connected(bytes.as_bytes()).await;
            let began = Instant::now();
            drop_rest(&socket, &activity(may_send)).await;
            let waited = began.elapsed() >= PATIENCE;
            assert_eq!(waited, may_send || !bytes.is_empty());
        }
    }
}
