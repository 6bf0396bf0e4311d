//! `fd_readdir` of WASI preview 1, in batches.
//!
//! The library's reads and examines the whole directory at every call, whatever fits the guest's
//! buffer. Here a call reads what fits, in batches, and ends the guest's turn after each. Cookies
//! are those of the kernel. A directory stays open between the calls for its listing.

use rustix::fs::FileType;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;

use super::{
    files::SUCCESS,
    preview1::{ILSEQ, MODULES, enter, write, write_u32},
    store::Guest,
};
use crate::{
    turns,
    wasi::{directory::Entry, errno},
};

/// Size of `dirent`.
const DIRENT: usize = 24;

/// Arguments of `fd_readdir` in their order.
type Arguments = (i32, i32, i32, i64, i32);

/// Replaces the function that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap_async(
            module,
            "fd_readdir",
            |caller: Caller<'_, Guest>, arguments: Arguments| Box::new(list(caller, arguments)),
        )?;
    }
    Ok(())
}

async fn list(mut caller: Caller<'_, Guest>, arguments: Arguments) -> wasmtime::Result<i32> {
    let (fd, buffer, length, cookie, used) = arguments;
    let length = length.cast_unsigned() as usize;
    let (mut memory, guest) = enter(&mut caller)?;
    let Guest { wasi, files, .. } = guest;
    let Ok(found) = files.directory(wasi, fd)? else {
        // Not a directory: the library has the right error.
        return library::fd_readdir(wasi, &mut memory, fd, buffer, arguments.2, cookie, used).await;
    };
    let mut cookie = cookie.cast_unsigned();
    let mut listing = match files.listing(fd, &found, cookie) {
        Ok(listing) => listing,
        Err(error) => return Ok(errno::preview1(&error)),
    };
    let mut filled = 0;
    let mut ended = false;
    while filled < length {
        let entries = match listing.behind(cookie) {
            Ok(entries) => entries,
            Err(error) => return Ok(errno::preview1(&error)),
        };
        let Some(last) = entries.last() else {
            ended = true;
            break;
        };
        cookie = last.next;
        if entries.iter().any(|entry| std::str::from_utf8(&entry.name).is_err()) {
            return Ok(ILSEQ);
        }
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| append(&mut bytes, entry));
        // The last entry may be cut: the guest then asks again, with the cookie before it.
        bytes.truncate(length - filled);
        let (mut memory, _) = enter(&mut caller)?;
        let at = buffer.cast_unsigned().wrapping_add(u32::try_from(filled)?);
        write(&mut memory, at.cast_signed(), &bytes)?;
        filled += bytes.len();
        turns::end().await;
    }
    let (mut memory, guest) = enter(&mut caller)?;
    if !ended {
        guest.files.keep_listing(fd, listing);
    }
    write_u32(&mut memory, used, u32::try_from(filled)?)?;
    Ok(SUCCESS)
}

/// Appends a `dirent` and its name.
fn append(bytes: &mut Vec<u8>, entry: &Entry) {
    let length = u32::try_from(entry.name.len()).unwrap_or_default();
    let begin = bytes.len();
    bytes.extend(entry.next.to_le_bytes());
    bytes.extend(entry.identity.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.push(kind(entry.kind));
    bytes.resize(begin + DIRENT, 0);
    bytes.extend(&entry.name);
}

/// `filetype` of the specification. It has none for a FIFO, and none for a socket of either kind.
pub(super) fn kind(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Symlink => 7,
        FileType::Fifo | FileType::Socket | FileType::Unknown => 0,
    }
}
