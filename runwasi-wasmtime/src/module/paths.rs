//! A bound for the paths of WASI preview 1. The library copies and checks a path before the kernel
//! refuses it, and the guest could make it as long as its memory. `path_open` is in `preview1`.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;

use super::{
    preview1::{MODULES, NAMETOOLONG, PATH_MAX, enter},
    store::Guest,
};

/// Links functions of the library behind a check of these lengths, which are among the arguments.
macro_rules! bound {
    ($linker:ident, $module:ident: $($name:ident($($arg:ident: $type:ty),*) by $($length:ident),*;)*) => {$(
        $linker.func_wrap_async(
            $module,
            stringify!($name),
            |mut caller: Caller<'_, Guest>, ($($arg,)*): ($($type,)*)| {
                Box::new(async move {
                    if [$($length),*].into_iter().any(is_too_long) {
                        return Ok(NAMETOOLONG);
                    }
                    let (mut memory, guest) = enter(&mut caller)?;
                    library::$name(&mut guest.wasi, &mut memory, $($arg),*).await
                })
            },
        )?;
    )*};
}

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        bound! { linker, module:
            path_create_directory(fd: i32, path: i32, length: i32) by length;
            path_filestat_get(fd: i32, lookup: i32, path: i32, length: i32, stat: i32) by length;
            path_filestat_set_times(
                fd: i32, lookup: i32, path: i32, length: i32, access: i64, change: i64, flags: i32
            ) by length;
            path_link(
                from: i32, lookup: i32, old: i32, old_length: i32, to: i32, new: i32, new_length: i32
            ) by old_length, new_length;
            path_readlink(
                fd: i32, path: i32, length: i32, buffer: i32, size: i32, used: i32
            ) by length;
            path_remove_directory(fd: i32, path: i32, length: i32) by length;
            path_rename(
                from: i32, old: i32, old_length: i32, to: i32, new: i32, new_length: i32
            ) by old_length, new_length;
            path_symlink(
                old: i32, old_length: i32, fd: i32, new: i32, new_length: i32
            ) by old_length, new_length;
            path_unlink_file(fd: i32, path: i32, length: i32) by length;
        }
    }
    Ok(())
}

fn is_too_long(length: i32) -> bool {
    length.cast_unsigned() as usize > PATH_MAX
}
