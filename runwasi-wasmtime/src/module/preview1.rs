//! Host functions of WASI preview 1 that replace the library's.
//!
//! - `proc_exit`: the library traps on statuses from 126 on. The program of a container may end
//!   with any of 256 statuses.
//! - `path_open`: opening a FIFO blocks the thread until another process opens the other end, and a
//!   kill cannot end that. So FIFOs and sockets are refused. The number of file descriptors is
//!   limited here as well.
//! - `path_rename`, `path_link`, `path_symlink`: the meaning of a path must not change between the
//!   check in `path_open` and the opening.
//! - `poll_oneoff`: if the polling thread makes the file calls, the library's sleep blocks that
//!   thread. The number of subscriptions is limited here as well.
//!
//! The predecessor of preview 1, `wasi_unstable`, has the same signatures and numbers, except for
//! the structures of `poll_oneoff`.

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
/// Names of preview 1 and of its predecessor.
pub(super) const MODULES: [&str; 2] = [PREVIEW1, UNSTABLE];

/// Values of `errno` in the specification.
pub(super) const SUCCESS: i32 = 0;
pub(super) const ACCES: i32 = 2;
pub(super) const INVAL: i32 = 28;
const MFILE: i32 = 33;
const NAMETOOLONG: i32 = 37;

/// Linux's `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// Size of `filestat`, and the offset of its file type.
const FILESTAT: usize = 64;
const FILETYPE: usize = 16;
/// File type `unknown`. Preview 1 has no other type for a FIFO.
const UNKNOWN: u8 = 0;

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
        link_renames(linker, module)?;
    }
    link_poll(linker)
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
    let names = caller.data().names.clone();
    // Held from the check until the file is open. Shared: openings need not exclude each other.
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
    // The check has consumed fuel for the path.
    guest.wasi.set_hostcall_fuel(fuel);
    let wasi = &mut guest.wasi;
    let memory = &mut memory;
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
    // Closed again: the number is known only after the opening, in which the library assigns it.
    library::fd_close(wasi, memory, descriptor.cast_signed()).await?;
    Ok(MFILE)
}

/// A copy of a path argument. The error is an `errno`.
fn path_of(memory: &GuestMemory<'_>, path: i32, length: i32) -> Result<Vec<u8>, i32> {
    let start = path.cast_unsigned() as usize;
    let length = length.cast_unsigned() as usize;
    // Before the copy, which the guest could make as long as its memory.
    if length > PATH_MAX {
        return Err(NAMETOOLONG);
    }
    let GuestMemory::Unshared(bytes) = memory else { return Err(ACCES) };
    // A path outside the memory counts as empty here. The call of the library traps on it.
    Ok(bytes.get(start..start.saturating_add(length)).unwrap_or_default().to_vec())
}

/// True if opening the file could wait for another process, as a FIFO does for its other end.
// This looks at a path and not at an open file. The answer holds for the opening all the same:
// - Both resolve the path from the same directory and with the same flags.
// - Another file can get the name only by a rename or a link, and these wait: the caller holds
//   `names` shared, they take it exclusively. What else a guest can create is no FIFO.
// A missing file cannot block, either: the opening creates it or returns the error.
async fn may_block(wasi: &mut WasiP1Ctx, directory: i32, lookup: i32, path: Vec<u8>) -> bool {
    let length = i32::try_from(path.len()).unwrap_or(i32::MAX);
    // A memory of its own, the result first and the path behind it: the guest's stays untouched.
    let mut bytes = vec![0; FILESTAT];
    bytes.extend(path);
    let at = FILESTAT as i32;
    let mut memory = GuestMemory::Unshared(&mut bytes);
    match library::path_filestat_get(wasi, &mut memory, directory, lookup, at, length, 0).await {
        // A FIFO, or a file of a kind that the library does not know.
        Ok(SUCCESS) => bytes[FILETYPE] == UNKNOWN,
        // An `errno`, which the opening meets as well.
        Ok(_) => false,
        // The library traps on a socket. It cannot be opened in any case: refused like a FIFO.
        Err(_) => true,
    }
}

/// Replaces the functions that change the meaning of paths.
fn link_renames(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    // Each holds the lock exclusively: it waits for checked openings to complete, and new ones wait
    // for it.
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

/// Most subscriptions of one `poll_oneoff`. Each takes microseconds at every wakeup, in which the
/// call does not yield. Linux limits `poll(2)` in the same way, by `RLIMIT_NOFILE`.
const MAX_SUBSCRIPTIONS: u32 = 512;

/// True for more subscriptions than one call may have.
fn beyond(arguments: PollArguments) -> bool {
    let count = arguments.2.cast_unsigned();
    if count > MAX_SUBSCRIPTIONS {
        tracing::debug!(count, limit = MAX_SUBSCRIPTIONS, "refused a poll_oneoff");
    }
    count > MAX_SUBSCRIPTIONS
}

fn link_poll(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    // One function for each version, since the layout of a subscription differs.
    linker.func_wrap_async(
        PREVIEW1,
        "poll_oneoff",
        |mut caller: Caller<'_, Guest>, a: PollArguments| {
            Box::new(async move {
                if beyond(a) {
                    return Ok(INVAL);
                }
                if poll_timer(&mut caller, a, &SUBSCRIPTION).await? {
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
                if beyond(a) {
                    return Ok(INVAL);
                }
                if poll_timer(&mut caller, a, &UNSTABLE_SUBSCRIPTION).await? {
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

/// Layout of a subscription of `poll_oneoff`: offsets of the fields of a clock, and the size.
struct Subscription {
    timeout: i32,
    flags: i32,
    size: i32,
}

const SUBSCRIPTION: Subscription = Subscription { timeout: 24, flags: 40, size: 48 };
const UNSTABLE_SUBSCRIPTION: Subscription = Subscription { timeout: 32, flags: 48, size: 56 };
/// Offset of the tag of a subscription, and the tag of a clock.
const TAG: i32 = 8;
const CLOCK: u8 = 0;
/// Flag of an absolute time.
const ABSTIME: u16 = 1;
/// Size of an event.
// The user data comes first. All other fields of a clock's event are 0: the error (success), the
// type (clock), and fields without a meaning for a clock.
const EVENT: usize = 32;

/// Handles a poll for a single relative timer: waits, and writes the event. Returns false for any
/// other poll.
async fn poll_timer(
    caller: &mut Caller<'_, Guest>,
    arguments: PollArguments,
    at: &Subscription,
) -> wasmtime::Result<bool> {
    let (subscription, event, count, counted) = arguments;
    let (memory, _) = enter(caller)?;
    // The library traps on a subscription outside the memory.
    if count != 1 || read(&memory, subscription, at.size as usize).is_none() {
        return Ok(false);
    }
    // Pointers are unsigned: one below 2 GiB may have a field beyond.
    let [tag] = bytes::<1>(&memory, subscription.wrapping_add(TAG))?;
    let flags = u16::from_le_bytes(bytes(&memory, subscription.wrapping_add(at.flags))?);
    // Only for a single relative time does the library block the thread.
    if tag != CLOCK || flags & ABSTIME != 0 {
        return Ok(false);
    }
    let timeout = u64::from_le_bytes(bytes(&memory, subscription.wrapping_add(at.timeout))?);
    let userdata: [u8; 8] = bytes(&memory, subscription)?;
    tokio::time::sleep(Duration::from_nanos(timeout)).await;
    // Again, so that no borrow of the guest's memory is held during the sleep.
    let (mut memory, _) = enter(caller)?;
    let mut answer = [0; EVENT];
    answer[..userdata.len()].copy_from_slice(&userdata);
    write(&mut memory, event, &answer)?;
    write(&mut memory, counted, &1u32.to_le_bytes())?;
    Ok(true)
}

pub(super) fn read<'a>(memory: &'a GuestMemory<'_>, at: i32, length: usize) -> Option<&'a [u8]> {
    let GuestMemory::Unshared(bytes) = memory else { return None };
    let at = at.cast_unsigned() as usize;
    bytes.get(at..at.checked_add(length)?)
}

pub(super) fn bytes<const N: usize>(
    memory: &GuestMemory<'_>,
    at: i32,
) -> wasmtime::Result<[u8; N]> {
    let bytes = read(memory, at, N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| wasmtime::Error::msg("a pointer leads out of the guest's memory"))
}

pub(super) fn read_u32(memory: &GuestMemory<'_>, at: i32) -> wasmtime::Result<u32> {
    Ok(u32::from_le_bytes(bytes(memory, at)?))
}

pub(super) fn write(memory: &mut GuestMemory<'_>, at: i32, what: &[u8]) -> wasmtime::Result<()> {
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
