//! Replacements for wasmtime-wasi's file streams of p3, which do their work in parts.
//!
//! wasmtime-wasi fills or empties the whole buffer of the guest in one step of a stream, and reads
//! a directory to its end. Here a step has a bound, and the guest's call returns with so many
//! items:
//!
//! | function | step |
//! |---|---|
//! | `read-via-stream`, `write-via-stream`, `append-via-stream` | [`PART`] bytes |
//! | `read-directory` | a batch of entries |
//!
//! The file calls are made by the thread that polls the guest, like all of a component. A stream
//! from the host to the host is copied without the guest, so its steps end turns ([`Steps`]).

use std::{
    fs::File,
    io, iter,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::fs::FileType;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use wasmtime::{
    StoreContextMut,
    component::{
        Destination, DirectDestination, DirectSource, FutureReader, Lift, Linker, Lower, Resource,
        Source, StreamConsumer, StreamProducer, StreamReader, StreamResult, VecBuffer,
    },
};
use wasmtime_wasi::{
    WasiView,
    filesystem::Descriptor,
    p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode},
};

use super::files::P3;
use crate::{
    component::store::{Component, descriptors_left},
    paced::Paced,
    turns::Steps,
    wasi::{
        directory::{Entry, Listing},
        errno,
        polled::{PolledStdin, PolledStdout},
        sink::{Sink, uninterrupted},
        stdio::Standard,
    },
};

/// Most bytes of one step: half a millisecond in the page cache.
const PART: usize = 1 << 20;
/// Bytes of one step if the other end is the host, which has a buffer of this size.
pub(super) const HOST_PART: usize = 8 << 10;

type Store<'a> = StoreContextMut<'a, Component>;
type Outcome = Result<(), ErrorCode>;
type Stream<T> = wasmtime::Result<((StreamReader<T>, FutureReader<Outcome>),)>;
type Answer = wasmtime::Result<(FutureReader<Outcome>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut files = linker.instance(P3)?;
    files.func_wrap("[method]descriptor.read-via-stream", |store, (file, offset)| {
        read(store, &file, offset)
    })?;
    files.func_wrap(
        "[method]descriptor.write-via-stream",
        |store, (file, data, offset): (_, _, u64)| write(store, &file, data, Some(offset)),
    )?;
    files.func_wrap("[method]descriptor.append-via-stream", |store, (file, data)| {
        write(store, &file, data, None)
    })?;
    files.func_wrap_async("[method]descriptor.read-directory", |store, (directory,)| {
        Box::new(list(store, directory))
    })
}

/// The sender of a stream's outcome. A stream that is dropped before its end has nothing to report.
struct End(Option<oneshot::Sender<Outcome>>);

impl End {
    fn new() -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    fn with(&mut self, outcome: Outcome) -> StreamResult {
        if let Some(sender) = self.0.take() {
            // An error: the guest has dropped the future and does not want to know.
            let _ = sender.send(outcome);
        }
        StreamResult::Dropped
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.with(Ok(()));
    }
}

fn read(mut store: Store<'_>, file: &Resource<Descriptor>, offset: u64) -> Stream<u8> {
    let file = match store.data_mut().ctx().table.get(file)? {
        Descriptor::File(opened) => Ok(opened.file.clone()),
        Descriptor::Dir(_) => Err(ErrorCode::IsDirectory),
    };
    let opened = file.and_then(|file| match store.data_mut().stream(&file) {
        None => Ok(Origin::File { file, offset, steps: Steps::default() }),
        Some(Standard::Input(stdin)) => Ok(Origin::Standard(stdin.polled())),
        Some(Standard::Output(_)) => Err(ErrorCode::BadDescriptor),
    });
    let (end, outcome) = End::new();
    answer(store, opened, outcome, |origin| Reading { origin, end })
}

/// A stream, or an empty one and the error.
fn answer<T, P, O>(
    mut store: Store<'_>,
    opened: Result<O, ErrorCode>,
    outcome: oneshot::Receiver<Outcome>,
    producer: impl FnOnce(O) -> P,
) -> Stream<T>
where
    T: Lift + Lower + Send + Sync + 'static,
    P: StreamProducer<Component, Item = T>,
{
    Ok((match opened {
        Ok(opened) => (
            StreamReader::new(&mut store, producer(opened))?,
            FutureReader::new(&mut store, outcome)?,
        ),
        Err(code) => (
            StreamReader::new(&mut store, iter::empty())?,
            FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(code)) })?,
        ),
    },))
}

/// Bytes that a guest reads by a stream.
enum Origin {
    File {
        file: Arc<File>,
        offset: u64,
        steps: Steps,
    },
    /// Opened by its name in `/dev`.
    Standard(Paced<PolledStdin>),
}

impl Origin {
    /// Reads some bytes. None at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::File { file, offset, steps } => {
                ready!(steps.poll_next(cx));
                let read = uninterrupted(|| file.read_at(buffer, *offset))?;
                *offset = offset.saturating_add(read as u64);
                steps.count(read);
                Poll::Ready(Ok(read))
            }
            Self::Standard(stdin) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(stdin).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }
}

struct Reading {
    origin: Origin,
    end: End,
}

impl StreamProducer<Component> for Reading {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'a>,
        destination: Destination<'a, u8, VecBuffer<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { origin, end } = &mut *self;
        let read = |buffer: &mut [u8]| origin.poll_read(cx, buffer);
        let ended = |ended: io::Result<()>| end.with(ended.map_err(|error| errno::p3(&error)));
        produce(destination.as_direct(store, HOST_PART), finish, read, ended)
    }
}

/// Produces what `read` reads into at most a part of the destination. `ended` answers its end or
/// failure.
pub(super) fn produce(
    mut destination: DirectDestination<'_, Component>,
    finish: bool,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ended: impl FnOnce(io::Result<()>) -> StreamResult,
) -> Poll<wasmtime::Result<StreamResult>> {
    let buffer = destination.remaining();
    let length = buffer.len().min(PART);
    // An empty buffer asks if there is something to read.
    if length == 0 {
        return Poll::Ready(Ok(StreamResult::Completed));
    }
    Poll::Ready(Ok(match read(&mut buffer[..length]) {
        Poll::Pending if finish => StreamResult::Cancelled,
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(0)) => ended(Ok(())),
        Poll::Ready(Ok(read)) => {
            destination.mark_written(read);
            StreamResult::Completed
        }
        Poll::Ready(Err(error)) => ended(Err(error)),
    }))
}

/// Writes at an offset, or at the end of the file.
fn write(
    mut store: Store<'_>,
    file: &Resource<Descriptor>,
    mut data: StreamReader<u8>,
    offset: Option<u64>,
) -> Answer {
    let file = match store.data_mut().ctx().table.get(file)? {
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
        Descriptor::File(opened) if opened.perms.write_not_permitted() => {
            Err(ErrorCode::NotPermitted)
        }
        Descriptor::File(opened) => Ok(opened.file.clone()),
    };
    let opened = file.and_then(|file| match store.data_mut().stream(&file) {
        None => Ok(Target::File { sink: Sink::new(file, offset), steps: Steps::default() }),
        Some(Standard::Output(stdout)) => Ok(Target::Standard(stdout.polled())),
        Some(Standard::Input(_)) => Err(ErrorCode::BadDescriptor),
    });
    let (mut end, outcome) = End::new();
    match opened {
        Ok(target) => data.pipe(&mut store, Writing { target, end })?,
        Err(code) => {
            data.close(&mut store)?;
            end.with(Err(code));
        }
    }
    Ok((FutureReader::new(&mut store, outcome)?,))
}

/// Destination of the bytes that a guest writes by a stream.
enum Target {
    File {
        sink: Sink,
        steps: Steps,
    },
    /// Opened by its name in `/dev`.
    Standard(Paced<PolledStdout>),
}

impl Target {
    /// Writes some of the bytes. Returns their number.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::File { sink, steps } => {
                ready!(steps.poll_next(cx));
                let written = sink.write(bytes);
                steps.count(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Self::Standard(stdout) => Pin::new(stdout).poll_write(cx, bytes),
        }
    }
}

struct Writing {
    target: Target,
    end: End,
}

impl StreamConsumer<Component> for Writing {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'_>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { target, end } = &mut *self;
        let write = |bytes: &[u8]| target.poll_write(cx, bytes);
        let failed = |error: io::Error| end.with(Err(errno::p3(&error)));
        consume(source.as_direct(store), finish, write, failed)
    }
}

/// Consumes what `write` writes of at most a part of the source. `failed` answers its failure.
pub(super) fn consume(
    mut source: DirectSource<'_, Component>,
    finish: bool,
    write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    failed: impl FnOnce(io::Error) -> StreamResult,
) -> Poll<wasmtime::Result<StreamResult>> {
    let bytes = source.remaining();
    // An empty buffer asks if something may be written.
    if bytes.is_empty() {
        return Poll::Ready(Ok(StreamResult::Completed));
    }
    Poll::Ready(Ok(match write(&bytes[..bytes.len().min(PART)]) {
        Poll::Pending if finish => StreamResult::Cancelled,
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(written)) => {
            source.mark_read(written);
            StreamResult::Completed
        }
        Poll::Ready(Err(error)) => failed(error),
    }))
}

async fn list(mut store: Store<'_>, directory: Resource<Descriptor>) -> Stream<DirectoryEntry> {
    let left = descriptors_left(&mut store).await;
    let component = store.data_mut();
    let opened = match component.ctx().table.get(&directory)? {
        // The code of p2 for a full table.
        Descriptor::Dir(_) if left == 0 => Err(ErrorCode::InsufficientMemory),
        Descriptor::Dir(opened) => Listing::new(&opened.dir).map_err(|error| errno::p3(&error)),
        Descriptor::File(_) => Err(ErrorCode::NotDirectory),
    };
    if let Ok(listing) = &opened {
        component.opened(listing.file());
    }
    let (end, outcome) = End::new();
    answer(store, opened, outcome, |listing| Entries { listing, cookie: 0, end })
}

struct Entries {
    listing: Listing,
    /// Cookie of the last entry that was read.
    cookie: u64,
    end: End,
}

impl Entries {
    /// Entries of the next batch that has any for the guest. Empty at the end.
    fn batch(&mut self) -> Result<Vec<DirectoryEntry>, ErrorCode> {
        loop {
            let entries = self.listing.behind(self.cookie).map_err(|error| errno::p3(&error))?;
            let Some(last) = entries.last() else { return Ok(Vec::new()) };
            self.cookie = last.next;
            let entries = entries.iter().filter(|entry| !entry.is_relative()).cloned();
            let entries = entries.map(shown).collect::<Result<Vec<_>, _>>()?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }
}

impl StreamProducer<Component> for Entries {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: Store<'a>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // An empty buffer asks if there is something to read.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.batch() {
            Ok(entries) if entries.is_empty() => self.end.with(Ok(())),
            Ok(entries) => {
                destination.set_buffer(entries.into());
                StreamResult::Completed
            }
            Err(code) => self.end.with(Err(code)),
        }))
    }
}

fn shown(entry: Entry) -> Result<DirectoryEntry, ErrorCode> {
    let type_ = kind(entry.kind);
    match String::from_utf8(entry.name) {
        Ok(name) => Ok(DirectoryEntry { type_, name }),
        Err(_) => Err(ErrorCode::IllegalByteSequence),
    }
}

/// Type of a file, with those for which wasmtime-wasi has no other as `Other`.
pub(super) fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Other(None),
    }
}
