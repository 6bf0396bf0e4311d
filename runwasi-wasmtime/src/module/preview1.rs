//! Host functions of WASI preview 1 that replace the library's.
//!
//! - `proc_exit`: the library traps on statuses from 126 on. The program of a container may end
//!   with any of 256 statuses.
//! - `path_open`: opening a FIFO, or a file under another process's lease, blocks the thread, and a
//!   kill cannot end that ([`crate::wasi::open`]). The number of file descriptors is limited here as
//!   well.
//! - `fd_close`, `fd_renumber`: the file behind each descriptor must be known to `path_open`.
//!
//! The predecessor of preview 1, `wasi_unstable`, has the same signatures and numbers, except for
//! the structures of `poll_oneoff` ([`super::poll`]).

use runwasi_core::open::{OpenHow, Synchronized};
use wasmtime::{AsContextMut, Caller, Extern, Linker};
use wasmtime_wasi::{
    I32Exit,
    p1::wasi_snapshot_preview1::{self as library, WasiSnapshotPreview1},
};
use wiggle::GuestMemory;

use super::{files::SUCCESS, store::Guest};
use crate::wasi::{
    errno::{self, INVAL},
    open::Request,
};

pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";
pub(super) const UNSTABLE: &str = "wasi_unstable";
/// Names of preview 1 and of its predecessor.
pub(super) const MODULES: [&str; 2] = [PREVIEW1, UNSTABLE];

/// Values of `errno` in the specification.
pub(super) const ILSEQ: i32 = 25;
const NAMETOOLONG: i32 = 37;

/// Linux's `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// All rights of the specification.
const RIGHTS: i64 = (1 << 30) - 1;
/// Flags of a descriptor: for writes at the end of the file, and for synchronized ones.
pub(super) const APPEND: i32 = 1 << 0;
pub(super) const DSYNC: i32 = 1 << 1;
pub(super) const RSYNC: i32 = 1 << 3;
pub(super) const SYNC: i32 = 1 << 4;

/// Arguments of `path_open` in their order.
type OpenArguments = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap(module, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
        linker.func_wrap_async(
            module,
            "path_open",
            |caller: Caller<'_, Guest>, arguments: OpenArguments| Box::new(open(caller, arguments)),
        )?;
        link_descriptors(linker, module)?;
    }
    Ok(())
}

/// The memory and the data of the calling guest.
pub(super) fn enter<'a>(
    caller: &'a mut Caller<'_, Guest>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Guest)> {
    // The library's functions are called without their generated wrapper, which sets the fuel: the
    // limit of the data that one call may copy from the guest.
    let fuel = caller.as_context_mut().hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the guest exports no memory"));
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    guest.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), guest))
}

async fn open(mut caller: Caller<'_, Guest>, arguments: OpenArguments) -> wasmtime::Result<i32> {
    let (memory, guest) = enter(&mut caller)?;
    let (descriptor, lookup, path, length, how, rights, inheriting, flags, opened) = arguments;
    let Some(request) = request(lookup, how, rights, inheriting, flags) else {
        return Ok(INVAL);
    };
    // Before the opening: what it creates or cuts must not come from a call that then traps.
    let _: [u8; size_of::<u32>()] = bytes(&memory, opened)?;
    let path = match path_of(&memory, path, length)? {
        Ok(path) => path,
        Err(errno) => return Ok(errno),
    };
    let Guest { wasi, files, roots, .. } = guest;
    let found = match files.directory(wasi, descriptor)? {
        Ok(found) => found,
        Err(errno) => return Ok(errno),
    };
    if let Some(errno) = files.lack(wasi)? {
        return Ok(errno);
    }
    let file = match found.place(roots).open(&path, request).await {
        Ok(file) => file,
        Err(error) => return Ok(errno::preview1(&error)),
    };
    // wasmtime-wasi refuses the flags that the file has already.
    let flags = flags & !(DSYNC | RSYNC | SYNC);
    let added = match files.add(wasi, descriptor, &found, file, flags).await? {
        Ok(added) => added,
        Err(errno) => return Ok(errno),
    };
    // Again, so that no borrow of the guest's memory is held during the opening.
    let (mut memory, _) = enter(&mut caller)?;
    write_u32(&mut memory, opened, added)?;
    Ok(SUCCESS)
}

/// The request in the flags of `path_open`; absent if a flag is not in the specification.
fn request(lookup: i32, how: i32, rights: i64, inheriting: i64, flags: i32) -> Option<Request> {
    let known = lookup & !1 == 0
        && how & !0xf == 0
        && flags & !0x1f == 0
        && (rights | inheriting) & !RIGHTS == 0;
    known.then_some(Request {
        how: OpenHow {
            follow: lookup & 1 != 0,
            create: how & 1 != 0,
            exclusive: how & 1 << 2 != 0,
            truncate: how & 1 << 3 != 0,
            read: rights & 1 << 1 != 0,
            write: rights & 1 << 6 != 0,
            append: flags & APPEND != 0,
            synchronized: synchronized(flags),
        },
        directory: how & 1 << 1 != 0,
    })
}

/// The completion of writes in the flags of `path_open`.
fn synchronized(flags: i32) -> Synchronized {
    // Linux has no `O_RSYNC` of its own: it is `O_SYNC`.
    if flags & (RSYNC | SYNC) != 0 {
        Synchronized::File
    } else if flags & DSYNC != 0 {
        Synchronized::Data
    } else {
        Synchronized::No
    }
}

/// A copy of a path argument. The inner error is an `errno`.
pub(super) fn path_of(
    memory: &GuestMemory<'_>,
    path: i32,
    length: i32,
) -> wasmtime::Result<Result<String, i32>> {
    let length = length.cast_unsigned() as usize;
    // Before the copy, which the guest could make as long as its memory.
    if length > PATH_MAX {
        return Ok(Err(NAMETOOLONG));
    }
    let bytes = read(memory, path, length).ok_or_else(outside)?;
    Ok(str::from_utf8(bytes).map(str::to_owned).map_err(|_| ILSEQ))
}

/// Follows the descriptors of files, whose opening is our own.
fn link_descriptors(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "fd_close",
        |mut caller: Caller<'_, Guest>, (fd,): (i32,)| {
            Box::new(async move {
                let (mut memory, guest) = enter(&mut caller)?;
                guest.files.entries(&mut guest.wasi)?;
                let errno = library::fd_close(&mut guest.wasi, &mut memory, fd).await?;
                if errno == SUCCESS {
                    guest.files.closed(fd);
                }
                Ok(errno)
            })
        },
    )?;
    type Renumber = (i32, i32);
    linker.func_wrap_async(
        module,
        "fd_renumber",
        |mut caller: Caller<'_, Guest>, (from, to): Renumber| {
            Box::new(async move {
                let (mut memory, guest) = enter(&mut caller)?;
                guest.files.entries(&mut guest.wasi)?;
                let errno = library::fd_renumber(&mut guest.wasi, &mut memory, from, to).await?;
                if errno == SUCCESS {
                    guest.files.renumbered(from, to);
                }
                Ok(errno)
            })
        },
    )?;
    Ok(())
}

pub(super) fn read<'a>(memory: &'a GuestMemory<'_>, at: i32, length: usize) -> Option<&'a [u8]> {
    let GuestMemory::Unshared(bytes) = memory else { return None };
    let at = at.cast_unsigned() as usize;
    bytes.get(at..at.checked_add(length)?)
}

/// The bytes of a number of this size.
pub(super) fn bytes<const N: usize>(
    memory: &GuestMemory<'_>,
    at: i32,
) -> wasmtime::Result<[u8; N]> {
    aligned(at, N)?;
    let bytes = read(memory, at, N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(outside)
}

/// Traps on a pointer that is no multiple of the alignment of its type, as the library does.
pub(super) fn aligned(at: i32, alignment: usize) -> wasmtime::Result<()> {
    if (at.cast_unsigned() as usize).is_multiple_of(alignment) {
        return Ok(());
    }
    Err(wasmtime::Error::msg("a pointer is not aligned"))
}

pub(super) fn outside() -> wasmtime::Error {
    wasmtime::Error::msg("a pointer leads out of the guest's memory")
}

pub(super) fn read_u32(memory: &GuestMemory<'_>, at: i32) -> wasmtime::Result<u32> {
    Ok(u32::from_le_bytes(bytes(memory, at)?))
}

/// Writes a number.
pub(super) fn write_u32(
    memory: &mut GuestMemory<'_>,
    at: i32,
    number: u32,
) -> wasmtime::Result<()> {
    aligned(at, size_of::<u32>())?;
    write(memory, at, &number.to_le_bytes())
}

/// Writes bytes, of any alignment.
pub(super) fn write(memory: &mut GuestMemory<'_>, at: i32, what: &[u8]) -> wasmtime::Result<()> {
    let place = place(memory, at.cast_unsigned(), what.len());
    place.ok_or_else(outside)?.copy_from_slice(what);
    Ok(())
}

/// A place in the guest's memory.
pub(super) fn place<'a>(
    memory: &'a mut GuestMemory<'_>,
    start: u32,
    length: usize,
) -> Option<&'a mut [u8]> {
    let GuestMemory::Unshared(bytes) = memory else { return None };
    let start = start as usize;
    bytes.get_mut(start..start.saturating_add(length))
}
