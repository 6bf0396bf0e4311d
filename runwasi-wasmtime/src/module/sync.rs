//! `fd_sync` and `fd_datasync`, which the library's would leave undone in a root file system that
//! ignores them ([`crate::wasi::sync`]). The library also refuses them for a directory: it is how
//! Linux brings its names to the disk.

use runwasi_core::rootfs::Extent;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;

use super::{
    files::SUCCESS,
    preview1::{MODULES, enter},
    store::Guest,
};
use crate::wasi::{errno, sync};

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        for (name, extent) in [("fd_sync", Extent::All), ("fd_datasync", Extent::Data)] {
            linker.func_wrap_async(
                module,
                name,
                move |caller: Caller<'_, Guest>, (fd,): (i32,)| Box::new(call(caller, fd, extent)),
            )?;
        }
    }
    Ok(())
}

async fn call(mut caller: Caller<'_, Guest>, fd: i32, extent: Extent) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    let Some(file) = guest.files.descriptor(&mut guest.wasi, fd)? else {
        // A standard stream, or none: an error.
        return match extent {
            Extent::All => library::fd_sync(&mut guest.wasi, &mut memory, fd).await,
            Extent::Data => library::fd_datasync(&mut guest.wasi, &mut memory, fd).await,
        };
    };
    Ok(match sync::sync(file, guest.upper.clone(), extent).await {
        Ok(()) => SUCCESS,
        Err(error) => errno::preview1(&error),
    })
}
