//! Replacements for wasmtime-wasi's streams of files of p2: each read and write is made at once, by
//! the thread that polls the guest.
//!
//! wasmtime-wasi gives those calls that must not block to the blocking pool. There they escape the
//! container's quota and meter, and its bound of threads where a file's server does not answer.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    WasiView, async_trait,
    cli::{StdinStream, StdoutStream},
    filesystem::Descriptor,
    p2::{
        DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError,
        StreamResult, bindings::filesystem::types::ErrorCode,
    },
};

use super::P2_VERSION;
use crate::{
    component::store::Component,
    wasi::{
        sink::{Sink, uninterrupted},
        stdio::Standard,
    },
};

/// Most bytes of one read or write, as in wasmtime-wasi.
const PART: usize = 64 << 10;

type Answer<T> = wasmtime::Result<(Result<Resource<T>, ErrorCode>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut files = linker.instance(&format!("wasi:filesystem/types@{P2_VERSION}"))?;
    files.func_wrap(
        "[method]descriptor.read-via-stream",
        |store: StoreContextMut<'_, Component>, (file, at): (Resource<Descriptor>, u64)| {
            read(store, &file, at)
        },
    )?;
    files.func_wrap(
        "[method]descriptor.write-via-stream",
        |store: StoreContextMut<'_, Component>, (file, at): (Resource<Descriptor>, u64)| {
            write(store, &file, Some(at))
        },
    )?;
    files.func_wrap(
        "[method]descriptor.append-via-stream",
        |store: StoreContextMut<'_, Component>, (file,): (Resource<Descriptor>,)| {
            write(store, &file, None)
        },
    )
}

fn read(
    mut store: StoreContextMut<'_, Component>,
    file: &Resource<Descriptor>,
    position: u64,
) -> Answer<DynInputStream> {
    let component = store.data_mut();
    let file = match component.ctx().table.get(file)? {
        Descriptor::File(file) => file.file.clone(),
        Descriptor::Dir(_) => return Ok((Err(ErrorCode::IsDirectory),)),
    };
    let stream: DynInputStream = match component.stream(&file) {
        Some(Standard::Input(stdin)) => stdin.p2_stream(),
        Some(Standard::Output(_)) => return Ok((Err(ErrorCode::BadDescriptor),)),
        None => Box::new(Reader { file, position, closed: false }),
    };
    Ok((Ok(component.ctx().table.push(stream)?),))
}

/// `position` is absent for a stream that appends.
fn write(
    mut store: StoreContextMut<'_, Component>,
    file: &Resource<Descriptor>,
    position: Option<u64>,
) -> Answer<DynOutputStream> {
    let component = store.data_mut();
    let file = match component.ctx().table.get(file)? {
        Descriptor::File(file) if file.perms.write_not_permitted() => {
            return Ok((Err(ErrorCode::NotPermitted),));
        }
        Descriptor::File(file) => file.file.clone(),
        Descriptor::Dir(_) => return Ok((Err(ErrorCode::BadDescriptor),)),
    };
    let stream: DynOutputStream = match component.stream(&file) {
        Some(Standard::Output(stdout)) => stdout.p2_stream(),
        Some(Standard::Input(_)) => return Ok((Err(ErrorCode::BadDescriptor),)),
        None => Box::new(Writer { sink: Sink::new(file, position), closed: false }),
    };
    Ok((Ok(component.ctx().table.push(stream)?),))
}

struct Reader {
    file: Arc<File>,
    position: u64,
    /// Set by the end of the file and by an error.
    closed: bool,
}

#[async_trait]
impl Pollable for Reader {
    // A file is always ready: the read itself may wait.
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        let mut bytes = BytesMut::zeroed(size.min(PART));
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        match uninterrupted(|| self.file.read_at(&mut bytes, self.position)) {
            Ok(0) => {
                self.closed = true;
                Err(StreamError::Closed)
            }
            Ok(read) => {
                self.position += read as u64;
                bytes.truncate(read);
                Ok(bytes.freeze())
            }
            Err(error) => {
                self.closed = true;
                Err(StreamError::LastOperationFailed(error.into()))
            }
        }
    }
}

struct Writer {
    sink: Sink,
    /// Set by an error.
    closed: bool,
}

impl Writer {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.sink.write(bytes)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for Writer {
    // As a file that is read.
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("a write exceeds what check-write permits"));
        }
        self.write_all(&bytes).map_err(|error| {
            self.closed = true;
            StreamError::LastOperationFailed(error.into())
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.closed { Err(StreamError::Closed) } else { Ok(PART) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(content: &str) -> (tempfile::TempDir, Arc<File>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, content).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        (directory, file.into())
    }

    #[test]
    fn file_is_read_at_once_and_to_its_end() {
        let (_directory, file) = open("abcdef");
        let mut reader = Reader { file, position: 1, closed: false };
        assert_eq!(reader.read(0).unwrap(), "");
        assert_eq!(reader.read(3).unwrap(), "bcd");
        assert_eq!(reader.read(1 << 30).unwrap(), "ef");
        for _ in 0..2 {
            assert!(matches!(reader.read(1), Err(StreamError::Closed)));
        }
    }

    #[test]
    fn writes_go_to_their_position_or_to_the_end() {
        let (directory, file) = open("abcdef");
        let mut writer = Writer { sink: Sink::new(file.clone(), Some(4)), closed: false };
        writer.write("XY".into()).unwrap();
        writer.write("Z".into()).unwrap();
        let mut appender = Writer { sink: Sink::new(file, None), closed: false };
        appender.write("!".into()).unwrap();
        appender.flush().unwrap();
        let content = fs::read_to_string(directory.path().join("f")).unwrap();
        assert_eq!(content, "abcdXYZ!");
        let large = Bytes::from(vec![0; PART + 1]);
        assert!(matches!(writer.write(large), Err(StreamError::Trap(_))));
    }

    #[test]
    fn failed_operation_is_told_once_and_closes_the_stream() {
        let (directory, _) = open("");
        let file = Arc::new(File::open(directory.path().join("f")).unwrap());
        let mut writer = Writer { sink: Sink::new(file, Some(0)), closed: false };
        let failed = writer.write("a".into());
        let Err(StreamError::LastOperationFailed(error)) = failed else { panic!("{failed:?}") };
        assert!(error.downcast_ref::<io::Error>().is_some(), "{error}");
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
    }
}
