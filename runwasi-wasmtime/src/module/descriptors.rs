//! Calls of WASI preview 1 about a descriptor itself: its flags, its rights, and its position.
//!
//! - `fd_fdstat_get`: the library takes some flags for others, and gives a directory that is no
//!   preopen no right to write for what is below. A C library then opens files for reading only.
//! - `fd_fdstat_set_flags`: the library appends by a flag of each write, which overlayfs may ignore,
//!   so the open file has to append ([`crate::wasi::sink`]). It has no flags of standard streams.
//! - `fd_seek`, `fd_tell`: the library takes a standard stream that was opened by its name for a
//!   file.

use std::{fs::File, io, sync::Arc};

use runwasi_core::open::Synchronized;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::{
    filesystem::Descriptor, p0::wasi_unstable as unstable, p1::wasi_snapshot_preview1 as library,
};
use wiggle::GuestMemory;

use super::{
    files::{NONBLOCK, SPIPE, SUCCESS},
    preview1::{APPEND, DSYNC, MODULES, RSYNC, SYNC, UNSTABLE, aligned, enter, write},
    store::Guest,
};
use crate::wasi::{
    errno::{self, INVAL},
    open::synchronized,
    sink,
    stdio::Standard,
};

/// Size of `fdstat`, and offsets of its fields; the type is at 0.
const STAT: usize = 24;
const FLAGS: usize = 2;
const RIGHTS: usize = 8;
const INHERITING: usize = 16;
/// Types of a file: of anything, and of a terminal.
const UNKNOWN: u8 = 0;
const CHARACTER_DEVICE: u8 = 2;

/// Rights of the specification, by the number of their bit.
const FD_READ: u64 = 1 << 1;
const FD_WRITE: u64 = 1 << 6;
/// Rights of a directory, as the library gives them to a preopen: `path_create_directory` to
/// `path_filestat_get`, `path_filestat_set_times`, `fd_filestat_get`, `fd_filestat_set_times`, and
/// `path_symlink` to `path_unlink_file`.
const OF_DIRECTORY: u64 = 0x3ff << 9 | 1 << 20 | 1 << 21 | 1 << 23 | 0x7 << 24;
/// Rights of a file: `fd_datasync` to `fd_allocate`, `fd_filestat_get` to `fd_filestat_set_times`,
/// and `poll_fd_readwrite`.
const OF_FILE: u64 = 0x1ff | 0x7 << 21 | 1 << 27;

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap_async(
            module,
            "fd_fdstat_get",
            |caller: Caller<'_, Guest>, (fd, at): (i32, i32)| Box::new(stat(caller, fd, at)),
        )?;
        linker.func_wrap(
            module,
            "fd_fdstat_set_flags",
            |caller: Caller<'_, Guest>, fd: i32, flags: i32| set_flags(caller, fd, flags),
        )?;
        link_positions(linker, module)?;
    }
    Ok(())
}

fn link_positions(linker: &mut Linker<Guest>, module: &'static str) -> wasmtime::Result<()> {
    type Seek = (i32, i64, i32, i32);
    linker.func_wrap_async(
        module,
        "fd_seek",
        move |mut caller: Caller<'_, Guest>, (fd, offset, whence, at): Seek| {
            Box::new(async move {
                let (mut memory, guest) = enter(&mut caller)?;
                let Guest { wasi, files, .. } = guest;
                match files.stream(fd) {
                    Some(_) => Ok(SPIPE),
                    // Its numbers of `whence` are others.
                    None if module == UNSTABLE => {
                        unstable::fd_seek(wasi, &mut memory, fd, offset, whence, at).await
                    }
                    None => library::fd_seek(wasi, &mut memory, fd, offset, whence, at).await,
                }
            })
        },
    )?;
    linker.func_wrap(module, "fd_tell", |mut caller: Caller<'_, Guest>, fd: i32, at: i32| {
        let (mut memory, guest) = enter(&mut caller)?;
        match guest.files.stream(fd) {
            Some(_) => Ok(SPIPE),
            None => library::fd_tell(&mut guest.wasi, &mut memory, fd, at),
        }
    })?;
    Ok(())
}

/// An `fdstat` as the guest gets it.
struct Stat([u8; STAT]);

impl Stat {
    fn flags(&self) -> i32 {
        i32::from(u16::from_le_bytes([self.0[FLAGS], self.0[FLAGS + 1]]))
    }

    fn set_flags(&mut self, flags: i32) {
        self.0[FLAGS..FLAGS + size_of::<u16>()].copy_from_slice(&flags.to_le_bytes()[..2]);
    }

    fn set_rights(&mut self, rights: u64, inheriting: u64) {
        self.0[RIGHTS..INHERITING].copy_from_slice(&rights.to_le_bytes());
        self.0[INHERITING..].copy_from_slice(&inheriting.to_le_bytes());
    }

    /// Makes it that of a standard stream, as the library tells it of the first descriptors.
    fn set_stream(&mut self, stream: &Standard) {
        self.0[0] = if stream.is_terminal() { CHARACTER_DEVICE } else { UNKNOWN };
        // Without a position: with the type, it is how a C library knows a terminal.
        let rights = if stream.is_input() { FD_READ } else { FD_WRITE };
        self.set_rights(rights, rights);
        self.set_flags(self.flags() & (APPEND | NONBLOCK));
    }
}

async fn stat(mut caller: Caller<'_, Guest>, fd: i32, at: i32) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    let mut stat = Stat([0; STAT]);
    let mut own = GuestMemory::Unshared(&mut stat.0);
    let errno = library::fd_fdstat_get(&mut guest.wasi, &mut own, fd, 0).await?;
    if errno != SUCCESS {
        return Ok(errno);
    }
    let stream = guest.files.stream(fd);
    match (stream, guest.files.descriptor(&mut guest.wasi, fd)?) {
        (Some(stream), _) => stat.set_stream(&stream),
        (None, Some(Descriptor::Dir(_))) => {
            stat.set_rights(OF_DIRECTORY, OF_DIRECTORY | OF_FILE);
            stat.set_flags(0);
        }
        (None, Some(Descriptor::File(file))) => match sync_flag(&file.file) {
            Ok(flag) => stat.set_flags(stat.flags() & (APPEND | NONBLOCK) | flag),
            Err(error) => return Ok(errno::preview1(&error)),
        },
        // A stream of the process.
        (None, None) if !guest.files.waits(fd) => stat.set_flags(NONBLOCK),
        (None, None) => {}
    }
    aligned(at, size_of::<u64>())?;
    write(&mut memory, at, &stat.0)?;
    Ok(SUCCESS)
}

/// The flag of a file for synchronized writes.
fn sync_flag(file: &File) -> io::Result<i32> {
    Ok(match synchronized(file)? {
        Synchronized::No => 0,
        Synchronized::Data => DSYNC,
        Synchronized::File => SYNC,
    })
}

fn set_flags(mut caller: Caller<'_, Guest>, fd: i32, flags: i32) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    if guest.files.any_stream(fd).is_some() {
        if flags & !(APPEND | NONBLOCK) != 0 {
            return Ok(INVAL);
        }
        guest.files.set_waits(fd, flags & NONBLOCK == 0);
        // The library changes no flags of the process's own streams.
        if guest.files.stream(fd).is_none() {
            return Ok(SUCCESS);
        }
    }
    let mut flags = flags;
    if let Some(file) = file(guest, fd)? {
        flags = match change(&file, flags) {
            Ok(flags) => flags,
            Err(error) => return Ok(errno::preview1(&error)),
        };
    }
    // The library keeps the flags, too, and has the errors.
    library::fd_fdstat_set_flags(&mut guest.wasi, &mut memory, fd, flags)
}

/// Changes the flags of a file that can be changed. Returns them without those that it has for
/// good, which the library refuses, as it does those that it cannot get.
fn change(file: &File, flags: i32) -> io::Result<i32> {
    let flags = match synchronized(file)? {
        Synchronized::No => flags,
        Synchronized::Data => flags & !DSYNC,
        // Which includes the others.
        Synchronized::File => flags & !(DSYNC | RSYNC | SYNC),
    };
    if flags & (DSYNC | RSYNC | SYNC) == 0 {
        sink::set_append(file, flags & APPEND != 0)?;
    }
    Ok(flags)
}

/// The open file of a descriptor. Absent for a directory and for a standard stream, also by its
/// name.
fn file(guest: &mut Guest, fd: i32) -> wasmtime::Result<Option<Arc<File>>> {
    if guest.files.stream(fd).is_some() {
        return Ok(None);
    }
    Ok(match guest.files.descriptor(&mut guest.wasi, fd)? {
        Some(Descriptor::File(file)) => Some(file.file),
        Some(Descriptor::Dir(_)) | None => None,
    })
}
