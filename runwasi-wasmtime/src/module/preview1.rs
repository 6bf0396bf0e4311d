//! The host functions of preview 1 that stand in front of the library's own.
//!
//! | function | why |
//! |---|---|
//! | `proc_exit` | the library traps on statuses from 126 on; a container's program may end with any of 256 |
//! | `path_open` | opening a FIFO blocks its thread until somebody opens the other end, beyond any kill: FIFOs and sockets are refused; a process has so many descriptors and no more |
//! | `path_rename`, `path_link`, `path_symlink` | what a path means must not change between that check and the opening |
//! | `poll_oneoff` | where file calls are made by the polling thread, the library's own sleep blocks that thread |
//!
//! The predecessor of preview 1, `wasi_unstable`, has the same signatures and numbers, `poll_oneoff`'s structures excepted.

use std::time::Duration;

use wasmtime::{AsContextMut, Caller, Extern, Linker};
use wasmtime_wasi::{
    I32Exit, p0,
    p1::{
        WasiP1Ctx,
        wasi_snapshot_preview1::{self as library, WasiSnapshotPreview1},
    },
};
use wiggle::GuestMemory;

use super::store::Guest;

const PREVIEW1: &str = "wasi_snapshot_preview1";
const UNSTABLE: &str = "wasi_unstable";

/// `errno` of the specification.
const SUCCESS: i32 = 0;
const ACCES: i32 = 2;
const MFILE: i32 = 33;
const NAMETOOLONG: i32 = 37;

/// Linux's `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// The size of `filestat`, and where its file type is.
const FILESTAT: usize = 64;
const FILETYPE: usize = 16;
/// The file type `unknown`: preview 1 has no other word for a FIFO.
const UNKNOWN: u8 = 0;

/// Arguments of `path_open`, in their order.
type OpenArguments = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// Replaces what the library has linked.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for module in [PREVIEW1, UNSTABLE] {
        linker.func_wrap(module, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
        linker.func_wrap_async(
            module,
            "path_open",
            |caller: Caller<'_, Guest>, arguments: OpenArguments| Box::new(open(caller, arguments)),
        )?;
        names(linker, module)?;
    }
    poll(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The memory of a guest that calls, and what it calls.
fn enter<'a>(
    caller: &'a mut Caller<'_, Guest>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Guest)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the guest exports no memory"));
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    guest.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), guest))
}

async fn open(mut caller: Caller<'_, Guest>, arguments: OpenArguments) -> wasmtime::Result<i32> {
    let names = caller.data().names.clone();
    let _unchanged = names.read().await;
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (mut memory, guest) = enter(&mut caller)?;
    let (directory, lookup, path, length, flags, rights, inheriting, fdflags, opened) = arguments;
    let name = match path_of(&memory, path, length) {
        Ok(name) => name,
        Err(errno) => return Ok(errno),
    };
    if may_block(&mut guest.wasi, directory, lookup, name).await {
        return Ok(ACCES);
    }
    guest.wasi.set_hostcall_fuel(fuel);
    let (wasi, memory) = (&mut guest.wasi, &mut memory);
    let errno = library::path_open(
        wasi, memory, directory, lookup, path, length, flags, rights, inheriting, fdflags, opened,
    )
    .await?;
    if errno != SUCCESS {
        return Ok(errno);
    }
    let descriptor = read_u32(memory, opened)?;
    if descriptor < guest.open_files {
        return Ok(SUCCESS);
    }
    library::fd_close(wasi, memory, descriptor.cast_signed()).await?;
    Ok(MFILE)
}

/// A copy of a path argument; what is wrong with it is an `errno`.
fn path_of(memory: &GuestMemory<'_>, path: i32, length: i32) -> Result<Vec<u8>, i32> {
    let (start, length) = (path.cast_unsigned() as usize, length.cast_unsigned() as usize);
    if length > PATH_MAX {
        return Err(NAMETOOLONG);
    }
    let GuestMemory::Unshared(bytes) = memory else { return Err(ACCES) };
    // Outside of the memory: the library's own trap says so better.
    Ok(bytes.get(start..start.saturating_add(length)).unwrap_or_default().to_vec())
}

/// Whether opening the file would wait for somebody. What is not there, or may not be looked at, will be the opening's error.
async fn may_block(wasi: &mut WasiP1Ctx, directory: i32, lookup: i32, path: Vec<u8>) -> bool {
    let length = i32::try_from(path.len()).unwrap_or(i32::MAX);
    let mut bytes = vec![0; FILESTAT];
    bytes.extend(path);
    let at = FILESTAT as i32;
    let mut memory = GuestMemory::Unshared(&mut bytes);
    match library::path_filestat_get(wasi, &mut memory, directory, lookup, at, length, 0).await {
        Ok(SUCCESS) => bytes[FILETYPE] == UNKNOWN,
        Ok(_) => false,
        // The library's answer for sockets, which cannot be opened anyway.
        Err(_) => true,
    }
}

/// What changes the meaning of a path waits for openings, and they for it.
fn names(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    type Rename = (i32, i32, i32, i32, i32, i32);
    linker.func_wrap_async(module, "path_rename", |mut caller: Caller<'_, Guest>, a: Rename| {
        Box::new(async move {
            let names = caller.data().names.clone();
            let _changing = names.write().await;
            let (mut memory, guest) = enter(&mut caller)?;
            library::path_rename(&mut guest.wasi, &mut memory, a.0, a.1, a.2, a.3, a.4, a.5).await
        })
    })?;
    type Link = (i32, i32, i32, i32, i32, i32, i32);
    linker.func_wrap_async(module, "path_link", |mut caller: Caller<'_, Guest>, a: Link| {
        Box::new(async move {
            let names = caller.data().names.clone();
            let _changing = names.write().await;
            let (mut memory, guest) = enter(&mut caller)?;
            library::path_link(&mut guest.wasi, &mut memory, a.0, a.1, a.2, a.3, a.4, a.5, a.6)
                .await
        })
    })?;
    type Symlink = (i32, i32, i32, i32, i32);
    linker.func_wrap_async(
        module,
        "path_symlink",
        |mut caller: Caller<'_, Guest>, a: Symlink| {
            Box::new(async move {
                let names = caller.data().names.clone();
                let _changing = names.write().await;
                let (mut memory, guest) = enter(&mut caller)?;
                library::path_symlink(&mut guest.wasi, &mut memory, a.0, a.1, a.2, a.3, a.4).await
            })
        },
    )?;
    Ok(())
}

type PollArguments = (i32, i32, i32, i32);

fn poll(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        PREVIEW1,
        "poll_oneoff",
        |mut caller: Caller<'_, Guest>, a: PollArguments| {
            Box::new(async move {
                if sleeps(&mut caller, a, &SUBSCRIPTION).await? {
                    return Ok(SUCCESS);
                }
                let (mut memory, guest) = enter(&mut caller)?;
                library::poll_oneoff(&mut guest.wasi, &mut memory, a.0, a.1, a.2, a.3).await
            })
        },
    )?;
    linker.func_wrap_async(
        UNSTABLE,
        "poll_oneoff",
        |mut caller: Caller<'_, Guest>, a: PollArguments| {
            Box::new(async move {
                if sleeps(&mut caller, a, &UNSTABLE_SUBSCRIPTION).await? {
                    return Ok(SUCCESS);
                }
                let (mut memory, guest) = enter(&mut caller)?;
                p0::wasi_unstable::poll_oneoff(&mut guest.wasi, &mut memory, a.0, a.1, a.2, a.3)
                    .await
            })
        },
    )?;
    Ok(())
}

/// Where a subscription of `poll_oneoff` has what a sleep needs.
struct Subscription {
    timeout: i32,
    flags: i32,
    size: i32,
}

const SUBSCRIPTION: Subscription = Subscription { timeout: 24, flags: 40, size: 48 };
const UNSTABLE_SUBSCRIPTION: Subscription = Subscription { timeout: 32, flags: 48, size: 56 };
/// Where it has its tag, and the tag of a clock.
const TAG: i32 = 8;
const CLOCK: u8 = 0;
/// The flag of a time that is absolute.
const ABSTIME: u16 = 1;
/// The size of an event; a clock's says nothing but whose it is.
const EVENT: usize = 32;

/// A poll for nothing but the passing of time: waits, and answers it.
async fn sleeps(
    caller: &mut Caller<'_, Guest>,
    arguments: PollArguments,
    at: &Subscription,
) -> wasmtime::Result<bool> {
    let (subscription, event, count, counted) = arguments;
    let (memory, _) = enter(caller)?;
    if count != 1 || read(&memory, subscription, at.size as usize).is_none() {
        return Ok(false);
    }
    let [tag] = bytes::<1>(&memory, subscription + TAG)?;
    let flags = u16::from_le_bytes(bytes(&memory, subscription + at.flags)?);
    if tag != CLOCK || flags & ABSTIME != 0 {
        return Ok(false);
    }
    let timeout = u64::from_le_bytes(bytes(&memory, subscription + at.timeout)?);
    let userdata: [u8; 8] = bytes(&memory, subscription)?;
    tokio::time::sleep(Duration::from_nanos(timeout)).await;
    let (mut memory, _) = enter(caller)?;
    let mut answer = [0; EVENT];
    answer[..userdata.len()].copy_from_slice(&userdata);
    write(&mut memory, event, &answer)?;
    write(&mut memory, counted, &1u32.to_le_bytes())?;
    Ok(true)
}

fn read<'a>(memory: &'a GuestMemory<'_>, at: i32, length: usize) -> Option<&'a [u8]> {
    let GuestMemory::Unshared(bytes) = memory else { return None };
    let at = at.cast_unsigned() as usize;
    bytes.get(at..at.checked_add(length)?)
}

fn bytes<const N: usize>(memory: &GuestMemory<'_>, at: i32) -> wasmtime::Result<[u8; N]> {
    let bytes = read(memory, at, N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| wasmtime::Error::msg("a pointer leads out of the guest's memory"))
}

fn read_u32(memory: &GuestMemory<'_>, at: i32) -> wasmtime::Result<u32> {
    Ok(u32::from_le_bytes(bytes(memory, at)?))
}

fn write(memory: &mut GuestMemory<'_>, at: i32, what: &[u8]) -> wasmtime::Result<()> {
    let at = at.cast_unsigned() as usize;
    let place = match memory {
        GuestMemory::Unshared(bytes) => bytes.get_mut(at..at.saturating_add(what.len())),
        GuestMemory::Shared(_) => None,
    };
    let place =
        place.ok_or_else(|| wasmtime::Error::msg("a pointer leads out of the guest's memory"))?;
    place.copy_from_slice(what);
    Ok(())
}
