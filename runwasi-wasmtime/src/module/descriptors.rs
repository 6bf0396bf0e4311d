//! Calls of WASI preview 1 about a descriptor itself.
//!
//! - `fd_fdstat_set_flags`: the library appends by a flag of each write, which overlayfs may ignore.
//!   So the open file has to append ([`crate::wasi::sink`]).

use std::{fs::File, sync::Arc};

use wasmtime::{Caller, Linker};
use wasmtime_wasi::{filesystem::Descriptor, p1::wasi_snapshot_preview1 as library};

use super::{
    preview1::{APPEND, DSYNC, MODULES, RSYNC, SYNC, enter},
    store::Guest,
};
use crate::wasi::{errno, sink};

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap(
            module,
            "fd_fdstat_set_flags",
            |caller: Caller<'_, Guest>, fd: i32, flags: i32| set_flags(caller, fd, flags),
        )?;
    }
    Ok(())
}

fn set_flags(mut caller: Caller<'_, Guest>, fd: i32, flags: i32) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    let refused = flags & (DSYNC | RSYNC | SYNC) != 0;
    if let Some(file) = file(guest, fd)?.filter(|_| !refused)
        && let Err(error) = sink::set_append(&file, flags & APPEND != 0)
    {
        return Ok(errno::preview1(&error));
    }
    // The library keeps the flags, too, and has the errors.
    library::fd_fdstat_set_flags(&mut guest.wasi, &mut memory, fd, flags)
}

/// The open file of a descriptor. None for a directory and for a standard stream, also by its name.
fn file(guest: &mut Guest, fd: i32) -> wasmtime::Result<Option<Arc<File>>> {
    if guest.files.stream(fd).is_some() {
        return Ok(None);
    }
    Ok(match guest.files.descriptor(&mut guest.wasi, fd)? {
        Some(Descriptor::File(file)) => Some(file.file),
        Some(Descriptor::Dir(_)) | None => None,
    })
}
