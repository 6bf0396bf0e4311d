//! Host functions of WASI preview 1 that do their work in parts, because the library's would hold
//! the worker as long as the guest asks for.
//!
//! | function | part |
//! |---|---|
//! | `random_get` | [`RANDOM`] bytes |
//! | `fd_read`, `fd_write`, `fd_pwrite` | [`TRANSFER`] bytes |
//!
//! `fd_pread` of the library reads 64 KiB at most.
//!
//! The result of a call is that of the library's: all bytes, or as many as were read or written.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as library};
use wiggle::GuestMemory;

use super::{
    files::{SPIPE, SUCCESS, Waited},
    preview1::{MODULES, enter, outside, read, read_u32, write},
    store::Guest,
};
use crate::{
    turns,
    wasi::{
        context::RANDOM_PART,
        errno::{self, INVAL},
        stdio::Standard,
    },
};

/// Bytes of one part of `random_get`.
const RANDOM: u32 = RANDOM_PART as u32;
/// Bytes of one part of a read or write: half a millisecond in the page cache.
const TRANSFER: u32 = 1 << 20;
/// Most vectors of one read or write, as in Linux (`IOV_MAX`).
const VECTORS: u32 = 1024;
/// Size of a vector: pointer and length.
const VECTOR: u32 = 8;

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
        linker.func_wrap_async(
            module,
            "fd_pwrite",
            |caller: Caller<'_, Guest>, (fd, vectors, count, offset, done): At| {
                let kind = Kind::WriteAt(offset);
                Box::new(transfer(caller, Transfer { kind, fd, vectors, count }, done))
            },
        )?;
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

/// `fd_read`, `fd_write`, or `fd_pwrite` with its offset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteAt(i64),
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
            Kind::WriteAt(offset) => {
                library::fd_pwrite(wasi, memory, fd, vectors, count, offset, done).await
            }
        }
    }

    /// The same call behind so many bytes.
    fn behind(self, done: u32) -> Self {
        match self.kind {
            Kind::WriteAt(offset) => {
                Self { kind: Kind::WriteAt(offset.wrapping_add(done.into())), ..self }
            }
            Kind::Read | Kind::Write => self,
        }
    }
}

async fn transfer(
    mut caller: Caller<'_, Guest>,
    call: Transfer,
    transferred: i32,
) -> wasmtime::Result<i32> {
    // Already the search for the first one with bytes could take long.
    if call.count.cast_unsigned() > VECTORS {
        return Ok(INVAL);
    }
    let (mut memory, guest) = enter(&mut caller)?;
    // The library would wait for something to read, and then tell an interruption.
    if call.kind == Kind::Read
        && is_empty(&memory, call)
        && let Some(Waited::Stream(Standard::Input(_))) =
            guest.files.waited(&mut guest.wasi, call.fd)?
    {
        write(&mut memory, transferred, &0u32.to_le_bytes())?;
        return Ok(SUCCESS);
    }
    if let Some(stream) = guest.files.stream(call.fd) {
        return transfer_stream(caller, &stream, call, transferred).await;
    }
    let Some((start, length)) = long_vector(&memory, call.vectors, call.count) else {
        return call.call(&mut guest.wasi, &mut memory, transferred).await;
    };
    let mut done = 0;
    while done < length {
        let part = TRANSFER.min(length - done);
        let at = start.wrapping_add(done).cast_signed();
        let (errno, count) = transfer_part(&mut caller, call.behind(done), at, part).await?;
        // After a first part the call succeeds: the next one meets the error again.
        if errno != SUCCESS && done == 0 {
            return Ok(errno);
        }
        done += count;
        if errno != SUCCESS || count < part {
            break;
        }
        turns::end().await;
    }
    let (mut memory, _) = enter(&mut caller)?;
    write(&mut memory, transferred, &done.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Reads or writes a standard stream that was opened by its name in `/dev`.
async fn transfer_stream(
    mut caller: Caller<'_, Guest>,
    stream: &Standard,
    call: Transfer,
    transferred: i32,
) -> wasmtime::Result<i32> {
    let (memory, _) = enter(&mut caller)?;
    let (start, length) = first_vector(&memory, call.vectors, call.count).unwrap_or_default();
    let place = read(&memory, start.cast_signed(), length as usize).ok_or_else(outside)?;
    let part = &place[..place.len().min(TRANSFER as usize)];
    let done = match call.kind {
        Kind::WriteAt(_) => return Ok(SPIPE),
        Kind::Read => {
            let size = part.len();
            stream.read(size).await.map(|bytes| (bytes.len(), bytes))
        }
        Kind::Write => {
            let bytes = part.to_vec();
            stream.write(&bytes).await.map(|()| (bytes.len(), Vec::new()))
        }
    };
    let (count, bytes) = match done {
        Ok(done) => done,
        Err(error) => return Ok(errno::preview1(&error)),
    };
    // Again, so that no borrow of the guest's memory is held while the stream waits.
    let (mut memory, _) = enter(&mut caller)?;
    write(&mut memory, start.cast_signed(), &bytes)?;
    write(&mut memory, transferred, &u32::try_from(count)?.to_le_bytes())?;
    Ok(SUCCESS)
}

/// First vector with bytes, if it is longer than a part and inside the memory. The library uses no
/// other vector.
fn long_vector(memory: &GuestMemory<'_>, vectors: i32, count: i32) -> Option<(u32, u32)> {
    let (start, length) = first_vector(memory, vectors, count)?;
    // The library traps on one outside.
    read(memory, start.cast_signed(), length as usize)?;
    (length > TRANSFER).then_some((start, length))
}

/// True for vectors without a byte, inside the memory.
fn is_empty(memory: &GuestMemory<'_>, call: Transfer) -> bool {
    let size = call.count.cast_unsigned() * VECTOR;
    read(memory, call.vectors, size as usize).is_some()
        && first_vector(memory, call.vectors, call.count).is_none()
}

/// First vector with bytes.
fn first_vector(memory: &GuestMemory<'_>, vectors: i32, count: i32) -> Option<(u32, u32)> {
    let vectors = read(memory, vectors, (count.cast_unsigned() * VECTOR) as usize)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let mut all = vectors.chunks_exact(VECTOR as usize).map(|v| (word(&v[..4]), word(&v[4..])));
    all.find(|(_, length)| *length > 0)
}

/// Reads or writes one part. Returns the `errno` and the number of bytes.
async fn transfer_part(
    caller: &mut Caller<'_, Guest>,
    call: Transfer,
    at: i32,
    length: u32,
) -> wasmtime::Result<(i32, u32)> {
    // A memory of its own, since the guest's has no vector of this part: the vector, the number of
    // bytes done, and the bytes.
    const DONE: i32 = VECTOR as i32;
    const BYTES: u32 = 2 * VECTOR;
    let (mut memory, guest) = enter(caller)?;
    let mut own = Vec::with_capacity((BYTES + length) as usize);
    own.extend(BYTES.to_le_bytes());
    own.extend(length.to_le_bytes());
    own.extend([0; VECTOR as usize]);
    match call.kind {
        Kind::Read => own.resize((BYTES + length) as usize, 0),
        Kind::Write | Kind::WriteAt(_) => {
            own.extend(read(&memory, at, length as usize).unwrap_or_default())
        }
    }
    let mut own = GuestMemory::Unshared(&mut own);
    let call = Transfer { vectors: 0, count: 1, ..call };
    let errno = call.call(&mut guest.wasi, &mut own, DONE).await?;
    if errno != SUCCESS {
        return Ok((errno, 0));
    }
    let count = read_u32(&own, DONE)?;
    if call.kind == Kind::Read {
        let bytes = read(&own, BYTES.cast_signed(), count as usize).unwrap_or_default();
        write(&mut memory, at, bytes)?;
    }
    Ok((errno, count))
}
