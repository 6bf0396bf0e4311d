//! Host functions of WASI preview 1 that do their work in parts, because the library's would hold
//! the worker as long as the guest asks for.
//!
//! | function | part |
//! |---|---|
//! | `random_get` | [`RANDOM`] bytes |
//! | `fd_read`, `fd_pread`, `fd_write`, `fd_pwrite` | [`TRANSFER`] bytes |
//!
//! The library reads or writes only the first of several vectors. Here a part has the bytes of all,
//! and is read or written by one call of the kernel, as by `readv(2)` and `writev(2)`: a line in
//! several vectors is appended as a whole.
//!
//! A standard stream is tried first with the guest's own memory, if there is one vector: what does
//! not wait is copied once, by the kernel. A wait is one with a copy.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use wasmtime::{Caller, Linker};
use wasmtime_wasi::{
    filesystem::Descriptor,
    p1::{WasiP1Ctx, wasi_snapshot_preview1 as library},
};
use wiggle::GuestMemory;

use super::{
    files::{BADF, SPIPE, SUCCESS},
    preview1::{MODULES, enter, outside, place, read_u32, write_u32},
    store::Guest,
    vectors::{VECTOR, Vectors},
};
use crate::{
    turns,
    wasi::{
        context::RANDOM_PART,
        errno::{self, INVAL},
        sink::uninterrupted,
        stdio::Standard,
    },
};

/// Bytes of one part of `random_get`.
const RANDOM: u32 = RANDOM_PART as u32;
/// Bytes of one part of a read or write: half a millisecond in the page cache.
const TRANSFER: u32 = 1 << 20;
/// Most bytes of one read of a stream: what a pipe holds. The memory is the host's while the guest
/// waits.
const STREAM: u32 = 64 << 10;
/// Most vectors of one read or write, as in Linux (`IOV_MAX`).
const VECTORS: u32 = 1024;
/// Bytes of a memory for one vector that are before its place.
const HEAD: u32 = 2 * VECTOR;

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap_async(
            module,
            "random_get",
            |caller: Caller<'_, Guest>, (at, length): (i32, i32)| {
                Box::new(random(caller, at.cast_unsigned(), length.cast_unsigned()))
            },
        )?;
        for (name, kind) in [("fd_read", Kind::Read), ("fd_write", Kind::Write)] {
            linker.func_wrap_async(
                module,
                name,
                move |caller: Caller<'_, Guest>,
                      (fd, vectors, count, done): (i32, i32, i32, i32)| {
                    Box::new(transfer(caller, Transfer { kind, fd, vectors, count }, done))
                },
            )?;
        }
        type At = (i32, i32, i32, i64, i32);
        type KindAt = fn(i64) -> Kind;
        for (name, kind) in [("fd_pread", Kind::ReadAt as KindAt), ("fd_pwrite", Kind::WriteAt)] {
            linker.func_wrap_async(
                module,
                name,
                move |caller: Caller<'_, Guest>, (fd, vectors, count, offset, done): At| {
                    let kind = kind(offset);
                    Box::new(transfer(caller, Transfer { kind, fd, vectors, count }, done))
                },
            )?;
        }
    }
    Ok(())
}

async fn random(mut caller: Caller<'_, Guest>, at: u32, length: u32) -> wasmtime::Result<i32> {
    let mut done = 0;
    loop {
        let part = RANDOM.min(length - done);
        let (mut memory, guest) = enter(&mut caller)?;
        // The library traps on a pointer outside the memory, so this sum wraps for no valid call.
        let start = at.wrapping_add(done).cast_signed();
        let wasi = &mut guest.wasi;
        let errno = library::random_get(wasi, &mut memory, start, part.cast_signed())?;
        done += part;
        if errno != SUCCESS || done == length {
            return Ok(errno);
        }
        turns::end().await;
    }
}

/// `fd_read`, `fd_write`, or those with an offset.
#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
    ReadAt(i64),
    WriteAt(i64),
}

impl Kind {
    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadAt(_))
    }
}

/// Arguments of a call.
#[derive(Clone, Copy)]
struct Transfer {
    kind: Kind,
    fd: i32,
    vectors: i32,
    count: i32,
}

impl Transfer {
    /// Calls the library, which puts the number of bytes at `done`.
    async fn call(
        self,
        wasi: &mut WasiP1Ctx,
        memory: &mut GuestMemory<'_>,
        done: i32,
    ) -> wasmtime::Result<i32> {
        let Self { kind, fd, vectors, count } = self;
        match kind {
            Kind::Read => library::fd_read(wasi, memory, fd, vectors, count, done).await,
            Kind::Write => library::fd_write(wasi, memory, fd, vectors, count, done).await,
            Kind::ReadAt(offset) => {
                library::fd_pread(wasi, memory, fd, vectors, count, offset, done).await
            }
            Kind::WriteAt(offset) => {
                library::fd_pwrite(wasi, memory, fd, vectors, count, offset, done).await
            }
        }
    }

    /// The same call behind so many bytes.
    fn behind(self, done: u32) -> Self {
        let kind = match self.kind {
            Kind::ReadAt(offset) => Kind::ReadAt(offset.wrapping_add(done.into())),
            Kind::WriteAt(offset) => Kind::WriteAt(offset.wrapping_add(done.into())),
            kind => kind,
        };
        Self { kind, ..self }
    }

    /// Makes a call for the bytes behind the first [`HEAD`] alone, which are read, or are to be
    /// written. Returns the `errno` and the number of bytes.
    async fn call_for(
        self,
        guest: &mut Guest,
        target: &Target,
        memory: &mut [u8],
    ) -> wasmtime::Result<(i32, u32)> {
        if matches!(target, Target::Library) {
            return self.call_library(&mut guest.wasi, memory).await;
        }
        let bytes = &mut memory[HEAD as usize..];
        let count = match (target, self.kind) {
            (Target::File(file), Kind::ReadAt(offset)) => {
                uninterrupted(|| file.read_at(bytes, offset.cast_unsigned()))
            }
            (Target::Stream(stream, waits), Kind::Read) => stream.read(bytes, *waits).await,
            (Target::Stream(stream, waits), Kind::Write) => stream.write(bytes, *waits).await,
            _ => return Ok((SPIPE, 0)),
        };
        Ok(match count {
            Ok(count) => (SUCCESS, u32::try_from(count)?),
            Err(error) => (errno::preview1(&error), 0),
        })
    }

    /// Calls the library in a memory of its own, since the guest's has no vector of these bytes.
    async fn call_library(
        self,
        wasi: &mut WasiP1Ctx,
        memory: &mut [u8],
    ) -> wasmtime::Result<(i32, u32)> {
        const DONE: i32 = VECTOR as i32;
        let length = u32::try_from(memory.len())? - HEAD;
        // The vector, the number of bytes done, and the bytes.
        let head = [HEAD.to_le_bytes(), length.to_le_bytes(), [0; 4], [0; 4]];
        memory[..HEAD as usize].copy_from_slice(head.as_flattened());
        let mut memory = GuestMemory::Unshared(memory);
        let call = Self { vectors: 0, count: 1, ..self };
        let errno = call.call(wasi, &mut memory, DONE).await?;
        Ok((errno, read_u32(&memory, DONE)?))
    }
}

/// Target of a call.
enum Target {
    /// A standard stream, also by its name; true if the guest waits for it.
    Stream(Standard, bool),
    /// A file that is read at an offset: the library would do it through a stream, 64 KiB at once.
    File(Arc<File>),
    Library,
}

impl Target {
    fn of(guest: &mut Guest, call: Transfer) -> wasmtime::Result<Self> {
        if let Some(stream) = guest.files.any_stream(call.fd) {
            return Ok(Self::Stream(stream, guest.files.waits(call.fd)));
        }
        if !matches!(call.kind, Kind::ReadAt(_)) {
            return Ok(Self::Library);
        }
        Ok(match guest.files.descriptor(&mut guest.wasi, call.fd)? {
            Some(Descriptor::File(file)) => Self::File(file.file),
            // An error.
            Some(Descriptor::Dir(_)) | None => Self::Library,
        })
    }

    /// True for a read of a stream.
    fn reads_stream(&self, kind: Kind) -> bool {
        matches!(self, Self::Stream(..)) && kind.reads()
    }

    /// True for a write to a stream that waits until all is written.
    fn waits_to_write(&self, kind: Kind) -> bool {
        matches!(self, Self::Stream(_, true)) && !kind.reads()
    }

    /// Reads or writes what a stream has, or has room for, now. Absent if that cannot be tried, or
    /// if the call has to wait.
    fn at_once(
        &self,
        caller: &mut Caller<'_, Guest>,
        kind: Kind,
        vectors: &Vectors,
    ) -> wasmtime::Result<Option<io::Result<u32>>> {
        let Self::Stream(stream, waits) = self else { return Ok(None) };
        let Some((start, length)) = vectors.only() else { return Ok(None) };
        let (mut memory, _) = enter(caller)?;
        let most = match kind {
            Kind::Read => STREAM,
            Kind::Write if length <= TRANSFER => TRANSFER,
            _ => return Ok(None),
        };
        let length = length.min(most) as usize;
        let bytes = place(&mut memory, start, length).ok_or_else(outside)?;
        let result = if kind.reads() { stream.try_read(bytes) } else { stream.try_write(bytes) };
        Ok(match result {
            // Of a device: the call that follows has the error.
            Ok(0) if !kind.reads() => None,
            Err(error) if *waits && error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(count) => Some(Ok(u32::try_from(count)?)),
            Err(error) => Some(Err(error)),
        })
    }

    /// The `errno` of a call without bytes. Absent if the call itself has to tell.
    fn of_nothing(&self, kind: Kind) -> Option<i32> {
        let Self::Stream(stream, _) = self else { return None };
        Some(match kind {
            Kind::ReadAt(_) | Kind::WriteAt(_) => SPIPE,
            // A read would wait for something to read.
            Kind::Read | Kind::Write if stream.is_input() == kind.reads() => SUCCESS,
            Kind::Read | Kind::Write => BADF,
        })
    }
}

async fn transfer(
    mut caller: Caller<'_, Guest>,
    call: Transfer,
    transferred: i32,
) -> wasmtime::Result<i32> {
    let count = call.count.cast_unsigned();
    // Already the search for those with bytes could take long.
    if count > VECTORS {
        return Ok(INVAL);
    }
    let (mut memory, guest) = enter(&mut caller)?;
    let vectors = Vectors::read(&memory, call.vectors, count)?;
    let target = Target::of(guest, call)?;
    if matches!(target, Target::Library) && vectors.is_simple() && vectors.length() <= TRANSFER {
        return call.call(&mut guest.wasi, &mut memory, transferred).await;
    }
    // Before the bytes are gone.
    read_u32(&memory, transferred)?;
    let done = match target.of_nothing(call.kind).filter(|_| vectors.length() == 0) {
        Some(SUCCESS) => Ok(0),
        Some(errno) => Err(errno),
        None => transfer_all(&mut caller, call, &target, &vectors).await?,
    };
    match done {
        Ok(done) => {
            let (mut memory, _) = enter(&mut caller)?;
            write_u32(&mut memory, transferred, done)?;
            Ok(SUCCESS)
        }
        Err(errno) => Ok(errno),
    }
}

/// Reads or writes the bytes of all vectors, or as many as there are. The inner error is an
/// `errno`.
async fn transfer_all(
    caller: &mut Caller<'_, Guest>,
    call: Transfer,
    target: &Target,
    vectors: &Vectors,
) -> wasmtime::Result<Result<u32, i32>> {
    match target.at_once(caller, call.kind, vectors)? {
        None => transfer_parts(caller, call, target, vectors, 0).await,
        Some(Ok(done)) if target.waits_to_write(call.kind) && done < vectors.length() => {
            transfer_parts(caller, call, target, vectors, done).await
        }
        Some(Ok(done)) => Ok(Ok(done)),
        Some(Err(error)) => Ok(Err(errno::preview1(&error))),
    }
}

/// Does the same behind so many bytes, through memory of the host.
async fn transfer_parts(
    caller: &mut Caller<'_, Guest>,
    call: Transfer,
    target: &Target,
    vectors: &Vectors,
    mut done: u32,
) -> wasmtime::Result<Result<u32, i32>> {
    let most = if target.reads_stream(call.kind) { STREAM } else { TRANSFER };
    loop {
        let part = most.min(vectors.length() - done);
        let here = Part { vectors, done, length: part };
        let (errno, count) = here.transfer(caller, call.behind(done), target).await?;
        // After a first part the call succeeds: the next one meets the error again.
        if errno != SUCCESS && done == 0 {
            return Ok(Err(errno));
        }
        done += count;
        // A second read of a stream could wait.
        let is_end = count < part || done == vectors.length() || target.reads_stream(call.kind);
        if errno != SUCCESS || is_end {
            return Ok(Ok(done));
        }
        turns::end().await;
    }
}

/// One part of the vectors' bytes.
struct Part<'a> {
    vectors: &'a Vectors,
    /// Number of bytes before it.
    done: u32,
    length: u32,
}

impl Part<'_> {
    /// Reads or writes it by one call. Returns the `errno` and the number of bytes.
    async fn transfer(
        self,
        caller: &mut Caller<'_, Guest>,
        call: Transfer,
        target: &Target,
    ) -> wasmtime::Result<(i32, u32)> {
        let Self { vectors, done, length } = self;
        let (memory, guest) = enter(caller)?;
        let mut bytes = Vec::with_capacity((HEAD + length) as usize);
        if call.kind.reads() {
            bytes.resize((HEAD + length) as usize, 0);
        } else {
            bytes.resize(HEAD as usize, 0);
            vectors.gather(&memory, done, length, &mut bytes)?;
        }
        let (errno, count) = call.call_for(guest, target, &mut bytes).await?;
        if errno != SUCCESS {
            return Ok((errno, 0));
        }
        if call.kind.reads() {
            // Again, so that no borrow of the guest's memory is held while a stream waits.
            let (mut memory, _) = enter(caller)?;
            let bytes = &bytes[HEAD as usize..][..count as usize];
            vectors.scatter(&mut memory, done, bytes)?;
        }
        Ok((errno, count))
    }
}
