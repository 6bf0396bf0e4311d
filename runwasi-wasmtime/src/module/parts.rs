//! Host functions of WASI preview 1 that do their work in parts, because the library's would hold
//! the worker as long as the guest asks for.
//!
//! | function | part |
//! |---|---|
//! | `random_get` | [`RANDOM`] bytes |
//! | `fd_write`, `fd_pwrite` | [`WRITE`] bytes |
//!
//! The result of a call is that of the library's: all bytes, or as many as were written.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as library};
use wiggle::GuestMemory;

use super::{
    files::SUCCESS,
    preview1::{INVAL, MODULES, enter, read, read_u32, write},
    store::Guest,
};
use crate::{turns, wasi::context::RANDOM_PART};

/// Bytes of one part of `random_get`.
const RANDOM: u32 = RANDOM_PART as u32;
/// Bytes of one part of a write: half a millisecond in the page cache.
const WRITE: u32 = 1 << 20;
/// Most vectors of one write, as in Linux (`IOV_MAX`).
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
        linker.func_wrap_async(
            module,
            "fd_write",
            |caller: Caller<'_, Guest>, (fd, vectors, count, written): (i32, i32, i32, i32)| {
                Box::new(write_all(caller, Write { fd, vectors, count, offset: None }, written))
            },
        )?;
        type At = (i32, i32, i32, i64, i32);
        linker.func_wrap_async(
            module,
            "fd_pwrite",
            |caller: Caller<'_, Guest>, (fd, vectors, count, offset, written): At| {
                let call = Write { fd, vectors, count, offset: Some(offset) };
                Box::new(write_all(caller, call, written))
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

/// Arguments of `fd_write`, and of `fd_pwrite` with an offset.
#[derive(Clone, Copy)]
struct Write {
    fd: i32,
    vectors: i32,
    count: i32,
    offset: Option<i64>,
}

impl Write {
    /// Calls the library.
    async fn call(
        self,
        wasi: &mut WasiP1Ctx,
        memory: &mut GuestMemory<'_>,
        written: i32,
    ) -> wasmtime::Result<i32> {
        let Self { fd, vectors, count, offset } = self;
        match offset {
            None => library::fd_write(wasi, memory, fd, vectors, count, written).await,
            Some(offset) => {
                library::fd_pwrite(wasi, memory, fd, vectors, count, offset, written).await
            }
        }
    }
}

async fn write_all(
    mut caller: Caller<'_, Guest>,
    call: Write,
    written: i32,
) -> wasmtime::Result<i32> {
    // Already the search for the first one with bytes could take long.
    if call.count.cast_unsigned() > VECTORS {
        return Ok(INVAL);
    }
    let (mut memory, guest) = enter(&mut caller)?;
    let Some((start, length)) = long_vector(&memory, call.vectors, call.count) else {
        return call.call(&mut guest.wasi, &mut memory, written).await;
    };
    let mut done = 0;
    while done < length {
        let part = WRITE.min(length - done);
        let at = start.wrapping_add(done).cast_signed();
        let offset = call.offset.map(|offset| offset.wrapping_add(done.into()));
        let (errno, count) = write_part(&mut caller, Write { offset, ..call }, at, part).await?;
        // After a part has been written the call succeeds: the next one meets the error again.
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
    write(&mut memory, written, &done.to_le_bytes())?;
    Ok(SUCCESS)
}

/// First vector with bytes, if it is longer than a part and inside the memory. The library writes
/// no other vector.
fn long_vector(memory: &GuestMemory<'_>, vectors: i32, count: i32) -> Option<(u32, u32)> {
    let vectors = read(memory, vectors, (count.cast_unsigned() * VECTOR) as usize)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let mut all = vectors.chunks_exact(VECTOR as usize).map(|v| (word(&v[..4]), word(&v[4..])));
    let (start, length) = all.find(|(_, length)| *length > 0)?;
    // The library traps on one outside.
    read(memory, start.cast_signed(), length as usize)?;
    (length > WRITE).then_some((start, length))
}

/// Writes one part. Returns the `errno` and the number of bytes written.
async fn write_part(
    caller: &mut Caller<'_, Guest>,
    call: Write,
    at: i32,
    length: u32,
) -> wasmtime::Result<(i32, u32)> {
    // A memory of its own, since the guest's has no vector of this part: the vector, the number of
    // bytes written, and the bytes.
    const WRITTEN: i32 = VECTOR as i32;
    const BYTES: u32 = 2 * VECTOR;
    let (memory, guest) = enter(caller)?;
    let bytes = read(&memory, at, length as usize).unwrap_or_default();
    let mut own = Vec::with_capacity(BYTES as usize + bytes.len());
    own.extend(BYTES.to_le_bytes());
    own.extend(length.to_le_bytes());
    own.extend([0; VECTOR as usize]);
    own.extend(bytes);
    let mut own = GuestMemory::Unshared(&mut own);
    let call = Write { vectors: 0, count: 1, ..call };
    let errno = call.call(&mut guest.wasi, &mut own, WRITTEN).await?;
    Ok((errno, if errno == SUCCESS { read_u32(&own, WRITTEN)? } else { 0 }))
}
