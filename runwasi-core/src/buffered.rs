//! Buffered reads of a connection.
//!
//! ttrpc reads the header of a message and then its payload, and finds that there is nothing more
//! by a third call: three system calls for a message that came in one piece. With a buffer, the
//! first of them takes all there is.

use tokio::io::{AsyncRead, BufReader};

/// Bytes of the buffer, which each connection keeps.
// Nearly all messages are shorter. What is longer is read past the buffer.
const BUFFER: usize = 1024;

/// Buffers the reads of `stream`.
pub(crate) fn buffered<S: AsyncRead>(stream: S) -> BufReader<S> {
    BufReader::with_capacity(BUFFER, stream)
}
