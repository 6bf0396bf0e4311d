//! Calls of WASI preview 1 with a path, and those that tell or set the attributes of an open file.
//!
//! The library's resolve a path beneath the directory of the call, so absolute links fail, and give
//! most errors of the kernel as `EIO`. `path_open` is in `preview1`.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::{p0::wasi_unstable as unstable, p1::wasi_snapshot_preview1 as library};
use wiggle::GuestMemory;

use super::{
    files::SUCCESS,
    preview1::{PREVIEW1, UNSTABLE, aligned, enter, path_of, write, write_u32},
    readdir::kind,
    store::Guest,
};
use crate::wasi::{
    errno::{self, INVAL},
    open::file_of,
    paths::{self, Attributes, NewTime, Place, Time},
};

/// Number of nanoseconds in a second, the unit of times.
const SECOND: u64 = 1_000_000_000;
const OVERFLOW: i32 = 61;

/// End of a call without success.
enum Failure {
    Errno(i32),
    Trap(wasmtime::Error),
}

type Result<T = ()> = std::result::Result<T, Failure>;

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(errno::preview1(&error))
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

fn answer(result: Result) -> wasmtime::Result<i32> {
    match result {
        Ok(()) => Ok(SUCCESS),
        Err(Failure::Errno(errno)) => Ok(errno),
        Err(Failure::Trap(error)) => Err(error),
    }
}

/// Links functions with these arguments.
macro_rules! link {
    ($linker:ident, $module:ident: $($name:ident: ($($argument:ty),*);)*) => {$(
        $linker.func_wrap_async(
            $module,
            stringify!($name),
            |caller: Caller<'_, Guest>, arguments: ($($argument,)*)| {
                Box::new(async move { answer($name(caller, arguments).await) })
            },
        )?;
    )*};
}

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for module in [PREVIEW1, UNSTABLE] {
        link! { linker, module:
            path_create_directory: (i32, i32, i32);
            path_filestat_set_times: (i32, i32, i32, i32, i64, i64, i32);
            path_link: (i32, i32, i32, i32, i32, i32, i32);
            path_readlink: (i32, i32, i32, i32, i32, i32);
            path_remove_directory: (i32, i32, i32);
            path_rename: (i32, i32, i32, i32, i32, i32);
            path_symlink: (i32, i32, i32, i32, i32);
            path_unlink_file: (i32, i32, i32);
        }
        linker.func_wrap_async(module, "fd_filestat_set_times", |caller, arguments| {
            Box::new(set_times(caller, arguments))
        })?;
        // The structure differs between the versions.
        let layout = if module == PREVIEW1 { &FILESTAT } else { &UNSTABLE_FILESTAT };
        linker.func_wrap_async(
            module,
            "path_filestat_get",
            move |caller: Caller<'_, Guest>, arguments: (i32, i32, i32, i32, i32)| {
                Box::new(async move { answer(path_stat(caller, arguments, layout).await) })
            },
        )?;
        linker.func_wrap_async(
            module,
            "fd_filestat_get",
            move |caller: Caller<'_, Guest>, arguments: (i32, i32)| {
                Box::new(stat(caller, arguments, layout))
            },
        )?;
    }
    Ok(())
}

/// The directory behind a descriptor.
fn place(caller: &mut Caller<'_, Guest>, fd: i32) -> Result<Place> {
    let (_, guest) = enter(caller)?;
    let Guest { wasi, files, roots, .. } = guest;
    let found = files.directory(wasi, fd)?.map_err(Failure::Errno)?;
    Ok(found.place(roots))
}

/// A copy of a path argument.
fn text(caller: &mut Caller<'_, Guest>, path: i32, length: i32) -> Result<String> {
    let (memory, _) = enter(caller)?;
    path_of(&memory, path, length)?.map_err(Failure::Errno)
}

/// The one flag of a lookup: true if the last link is followed.
fn follow(lookup: i32) -> Result<bool> {
    match lookup {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::Errno(INVAL)),
    }
}

async fn path_create_directory(
    mut caller: Caller<'_, Guest>,
    (fd, path, length): (i32, i32, i32),
) -> Result {
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    Ok(place.create_directory(&path).await?)
}

async fn path_remove_directory(
    mut caller: Caller<'_, Guest>,
    (fd, path, length): (i32, i32, i32),
) -> Result {
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    Ok(place.remove_directory(&path).await?)
}

async fn path_unlink_file(
    mut caller: Caller<'_, Guest>,
    (fd, path, length): (i32, i32, i32),
) -> Result {
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    Ok(place.remove_file(&path).await?)
}

async fn path_symlink(
    mut caller: Caller<'_, Guest>,
    (old, old_length, fd, new, new_length): (i32, i32, i32, i32, i32),
) -> Result {
    let place = place(&mut caller, fd)?;
    let old = text(&mut caller, old, old_length)?;
    let new = text(&mut caller, new, new_length)?;
    Ok(place.symlink(&old, &new).await?)
}

type Rename = (i32, i32, i32, i32, i32, i32);

async fn path_rename(
    mut caller: Caller<'_, Guest>,
    (from, old, old_length, to, new, new_length): Rename,
) -> Result {
    let from = place(&mut caller, from)?;
    let to = place(&mut caller, to)?;
    let old = text(&mut caller, old, old_length)?;
    let new = text(&mut caller, new, new_length)?;
    Ok(from.rename(&old, &to, &new).await?)
}

type Link = (i32, i32, i32, i32, i32, i32, i32);

async fn path_link(
    mut caller: Caller<'_, Guest>,
    (from, lookup, old, old_length, to, new, new_length): Link,
) -> Result {
    let follow = follow(lookup)?;
    let from = place(&mut caller, from)?;
    let to = place(&mut caller, to)?;
    let old = text(&mut caller, old, old_length)?;
    let new = text(&mut caller, new, new_length)?;
    Ok(from.link(&old, follow, &to, &new).await?)
}

async fn path_readlink(
    mut caller: Caller<'_, Guest>,
    (fd, path, length, buffer, size, used): (i32, i32, i32, i32, i32, i32),
) -> Result {
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    let target = place.read_link(&path).await?;
    // Cut to the buffer, as `readlink(2)` does it.
    let fits = target.len().min(size.cast_unsigned() as usize);
    let (mut memory, _) = enter(&mut caller)?;
    write(&mut memory, buffer, &target.as_bytes()[..fits])?;
    let fits = u32::try_from(fits).map_err(|_| Failure::Errno(OVERFLOW))?;
    Ok(write_u32(&mut memory, used, fits)?)
}

/// The new times in the flags of a call.
fn new_times(accessed: i64, modified: i64, flags: i32) -> Result<(NewTime, NewTime)> {
    if flags & !0xf != 0 {
        return Err(Failure::Errno(INVAL));
    }
    Ok((new_time(accessed, flags)?, new_time(modified, flags >> 2)?))
}

/// One of them: its flags are the last two.
fn new_time(time: i64, flags: i32) -> Result<NewTime> {
    let time = time.cast_unsigned();
    match flags & 3 {
        0 => Ok(NewTime::Kept),
        1 => Ok(NewTime::At(Time {
            // Both fit: the second is smaller than a second.
            seconds: (time / SECOND).cast_signed(),
            nanoseconds: (time % SECOND) as u32,
        })),
        2 => Ok(NewTime::Now),
        _ => Err(Failure::Errno(INVAL)),
    }
}

type PathTimes = (i32, i32, i32, i32, i64, i64, i32);

async fn path_filestat_set_times(
    mut caller: Caller<'_, Guest>,
    (fd, lookup, path, length, accessed, modified, flags): PathTimes,
) -> Result {
    let follow = follow(lookup)?;
    let (accessed, modified) = new_times(accessed, modified, flags)?;
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    Ok(place.set_times(&path, follow, accessed, modified).await?)
}

type FileTimes = (i32, i64, i64, i32);

async fn set_times(
    mut caller: Caller<'_, Guest>,
    (fd, accessed, modified, flags): FileTimes,
) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    let Guest { wasi, files, .. } = guest;
    let Some(descriptor) = files.descriptor(wasi, fd)? else {
        // No file: the library has the right error.
        return library::fd_filestat_set_times(wasi, &mut memory, fd, accessed, modified, flags)
            .await;
    };
    let set = || -> Result {
        let (accessed, modified) = new_times(accessed, modified, flags)?;
        Ok(paths::set_times(&descriptor, accessed, modified)?)
    };
    answer(set())
}

/// Layout of a `filestat`: offsets of its fields behind the file type, and its size.
struct Layout {
    links: usize,
    size: usize,
    accessed: usize,
    whole: usize,
}

const FILESTAT: Layout = Layout { links: 24, size: 32, accessed: 40, whole: 64 };
const UNSTABLE_FILESTAT: Layout = Layout { links: 20, size: 24, accessed: 32, whole: 56 };
/// Offsets that both versions share.
const INODE: usize = 8;
const TYPE: usize = 16;
/// Device of all files, as in the library: the inodes are hashes that contain it.
const DEVICE: u64 = 1;

async fn path_stat(
    mut caller: Caller<'_, Guest>,
    (fd, lookup, path, length, at): (i32, i32, i32, i32, i32),
    layout: &Layout,
) -> Result {
    let follow = follow(lookup)?;
    let place = place(&mut caller, fd)?;
    let path = text(&mut caller, path, length)?;
    let seen = place.stat(&path, follow).await?;
    let filestat = filestat(&seen, layout)?;
    let (mut memory, _) = enter(&mut caller)?;
    Ok(tell(&mut memory, at, &filestat)?)
}

async fn stat(
    mut caller: Caller<'_, Guest>,
    (fd, at): (i32, i32),
    layout: &Layout,
) -> wasmtime::Result<i32> {
    let (mut memory, guest) = enter(&mut caller)?;
    let Guest { wasi, files, .. } = guest;
    let Some(descriptor) = files.descriptor(wasi, fd)? else {
        // A standard stream, or no descriptor.
        return if layout.whole == FILESTAT.whole {
            library::fd_filestat_get(wasi, &mut memory, fd, at).await
        } else {
            unstable::fd_filestat_get(wasi, &mut memory, fd, at).await
        };
    };
    let told = paths::stat(file_of(&descriptor)).map_err(Failure::from);
    answer(match told.and_then(|seen| filestat(&seen, layout)) {
        Ok(filestat) => tell(&mut memory, at, &filestat).map_err(Failure::from),
        Err(failure) => Err(failure),
    })
}

/// Writes a `filestat`.
fn tell(memory: &mut GuestMemory<'_>, at: i32, filestat: &[u8]) -> wasmtime::Result<()> {
    aligned(at, size_of::<u64>())?;
    write(memory, at, filestat)
}

fn filestat(seen: &Attributes, layout: &Layout) -> Result<Vec<u8>> {
    let mut bytes = vec![0; layout.whole];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &DEVICE.to_le_bytes());
    put(INODE, &seen.identity.to_le_bytes());
    put(TYPE, &[kind(seen.kind)]);
    // Before the size, which is behind it: as wide as the place for it.
    put(layout.links, &seen.links.to_le_bytes()[..layout.size - layout.links]);
    put(layout.size, &seen.size.to_le_bytes());
    for (n, time) in [seen.accessed, seen.modified, seen.changed].into_iter().enumerate() {
        put(layout.accessed + n * size_of::<u64>(), &nanoseconds(time)?.to_le_bytes());
    }
    Ok(bytes)
}

/// A time as a number. One before 1970 is 0, as in the library.
fn nanoseconds(time: Time) -> Result<u64> {
    let Ok(seconds) = u64::try_from(time.seconds) else { return Ok(0) };
    let all = seconds.checked_mul(SECOND).and_then(|all| all.checked_add(time.nanoseconds.into()));
    all.ok_or(Failure::Errno(OVERFLOW))
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    const SEEN: Attributes = Attributes {
        kind: FileType::RegularFile,
        identity: 7,
        links: 2,
        size: 1 << 33,
        accessed: Time { seconds: 1, nanoseconds: 5 },
        modified: Time { seconds: -1, nanoseconds: 0 },
        changed: Time { seconds: 3, nanoseconds: 0 },
    };

    fn words(bytes: &[u8]) -> Vec<u64> {
        let words = bytes.chunks_exact(8).map(|word| word.try_into().unwrap());
        words.map(u64::from_le_bytes).collect()
    }

    #[test]
    fn structures_have_the_fields_of_their_version() {
        let Ok(new) = filestat(&SEEN, &FILESTAT) else { panic!("no structure") };
        assert_eq!(words(&new), [1, 7, 4, 2, 1 << 33, SECOND + 5, 0, 3 * SECOND]);
        let Ok(old) = filestat(&SEEN, &UNSTABLE_FILESTAT) else { panic!("no structure") };
        assert_eq!(words(&old), [1, 7, 4 | 2 << 32, 1 << 33, SECOND + 5, 0, 3 * SECOND]);
    }

    #[test]
    fn flags_of_times_exclude_each_other() {
        for (flags, accessed, modified) in [
            (0, NewTime::Kept, NewTime::Kept),
            (2, NewTime::Now, NewTime::Kept),
            (4, NewTime::Kept, NewTime::At(Time { seconds: 2, nanoseconds: 1 })),
        ] {
            let Ok(times) = new_times(9, 2_000_000_001, flags) else { panic!("{flags}") };
            assert_eq!(times, (accessed, modified));
        }
        for flags in [3, 12, 16] {
            assert!(matches!(new_times(0, 0, flags), Err(Failure::Errno(INVAL))), "{flags}");
        }
    }
}
