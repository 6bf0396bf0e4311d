//! Output streams that a guest has not dropped at its end, those of its connections above all.
//!
//! A guest may have a million of them. So they are taken in parts, and only those with something to
//! send are kept.

use std::mem;

use futures_util::FutureExt;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynOutputStream, pipe::ClosedOutputStream};

/// Entries of the table that one part looks at: a few milliseconds, if all are streams.
const PART: usize = 16 << 10;
/// Most streams that are kept: more than a guest has connections.
const MOST: usize = 64 << 10;

/// Streams that still send what the guest has written.
#[derive(Default)]
pub(super) struct Unsent {
    /// Entries that were looked at.
    entries: usize,
    streams: Vec<DynOutputStream>,
}

impl Unsent {
    /// Takes the streams of the next entries. True at the end of the table.
    pub(super) fn take_part(&mut self, table: &mut ResourceTable) -> bool {
        let mut entries = table.iter_mut().skip(self.entries);
        for entry in entries.by_ref().take(PART) {
            let Some(stream) = entry.downcast_mut::<DynOutputStream>() else { continue };
            let mut stream = mem::replace(stream, Box::new(ClosedOutputStream));
            // A ready one has sent everything.
            if stream.ready().now_or_never().is_none() && self.streams.len() < MOST {
                self.streams.push(stream);
            }
        }
        self.entries += PART;
        entries.next().is_none()
    }

    /// The streams. Each is ready when what the guest has written is out.
    pub(super) fn streams(self) -> Vec<DynOutputStream> {
        self.streams
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use async_trait::async_trait;
    use bytes::Bytes;
    use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

    use super::*;

    /// A stream that has sent everything, or never will.
    struct Stream {
        is_sent: bool,
    }

    #[async_trait]
    impl Pollable for Stream {
        async fn ready(&mut self) {
            if !self.is_sent {
                pending::<()>().await;
            }
        }
    }

    impl OutputStream for Stream {
        fn write(&mut self, _: Bytes) -> StreamResult<()> {
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(0)
        }
    }

    #[test]
    fn streams_are_taken_in_parts_and_only_those_that_still_send() {
        let mut table = ResourceTable::new();
        for number in 0..=3 * PART {
            let stream: DynOutputStream = Box::new(Stream { is_sent: number % PART != 0 });
            table.push(stream).unwrap();
            table.push(7_u64).unwrap();
        }
        let mut unsent = Unsent::default();
        let mut parts = 1;
        while !unsent.take_part(&mut table) {
            parts += 1;
        }
        assert_eq!((parts, unsent.streams().len()), (7, 4));
    }

    #[test]
    fn number_of_streams_that_are_waited_for_is_bounded() {
        let mut table = ResourceTable::new();
        for _ in 0..=MOST {
            table.push(Box::new(Stream { is_sent: false }) as DynOutputStream).unwrap();
        }
        let mut unsent = Unsent::default();
        while !unsent.take_part(&mut table) {}
        assert_eq!(unsent.streams().len(), MOST);
    }
}
