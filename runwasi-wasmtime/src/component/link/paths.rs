//! Replacements for wasmtime-wasi's functions of components with a path, p2 and p3, and for those
//! that tell or set the attributes of an open file. `open-at` is in `files`.
//!
//! wasmtime-wasi's resolve a path beneath the directory of the call, so absolute links fail, and
//! give most errors of the kernel as `io`.

use std::io;

use rustix::io::Errno;
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::Descriptor,
    p2::bindings::{clocks::wall_clock, filesystem::types as p2},
    p3::bindings::{clocks::system_clock, filesystem::types as p3},
};

use super::{files, parts, place::place, streams_p3};
use crate::{
    component::store::Component,
    wasi::{
        errno, open,
        paths::{self, Attributes, NewTime, Time},
    },
};

type Directory = Resource<Descriptor>;

/// Number by which the upper half of a hash differs from the lower, as in wasmtime-wasi.
const UPPER: u64 = 4_614_256_656_552_045_848;

/// Unwraps a result inside a function of the linker, or returns its error to the guest.
macro_rules! given {
    ($version:ident: $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok((Err(errno::$version(&error)),)),
        }
    };
}

/// Links functions of one directory and a path.
macro_rules! link {
    (p2 $files:ident: $($name:literal |$place:ident, $($argument:ident: $type:ty),*| $call:expr;)*) => {$(
        $files.func_wrap_async(
            concat!("[method]descriptor.", $name),
            |mut store: StoreContextMut<'_, Component>,
             (directory, $($argument,)*): (Directory, $($type,)*)| {
                Box::new(async move {
                    let $place = given!(p2: place(store.data_mut(), &directory)?);
                    let done: io::Result<_> = $call;
                    Ok((Ok(given!(p2: done)),))
                })
            },
        )?;
    )*};
    (p3 $files:ident: $($name:literal |$place:ident, $($argument:ident: $type:ty),*| $call:expr;)*) => {$(
        $files.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |accessor: &Accessor<Component>,
             (directory, $($argument,)*): (Directory, $($type,)*)| {
                Box::pin(async move {
                    let $place = accessor.with(|mut access| place(access.get(), &directory))?;
                    let $place = given!(p3: $place);
                    let done: io::Result<_> = $call;
                    Ok((Ok(given!(p3: done)),))
                })
            },
        )?;
    )*};
}

/// The functions of both versions, which differ in their types only.
macro_rules! functions {
    ($version:ident $files:ident) => {
        use $version::{DescriptorStat, MetadataHashValue, NewTimestamp, PathFlags};
        link! { $version $files:
            "create-directory-at" |place, path: String| place.create_directory(&path).await;
            "remove-directory-at" |place, path: String| place.remove_directory(&path).await;
            "unlink-file-at" |place, path: String| place.remove_file(&path).await;
            "readlink-at" |place, path: String| place.read_link(&path).await;
            "symlink-at" |place, old: String, new: String| place.symlink(&old, &new).await;
            "stat-at" |place, flags: PathFlags, path: String| {
                let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
                place.stat(&path, follow).await.map(DescriptorStat::from)
            };
            "metadata-hash-at" |place, flags: PathFlags, path: String| {
                let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
                let seen = place.stat(&path, follow).await;
                seen.map(|Attributes { identity: lower, .. }| {
                    MetadataHashValue { lower, upper: lower ^ UPPER }
                })
            };
            "set-times-at" |
                place, flags: PathFlags, path: String, accessed: NewTimestamp,
                modified: NewTimestamp
            | {
                let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
                match (accessed.try_into(), modified.try_into()) {
                    (Ok(accessed), Ok(modified)) => {
                        place.set_times(&path, follow, accessed, modified).await
                    }
                    (Err(error), _) | (_, Err(error)) => Err(error),
                }
            };
        }
    };
}

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    link_p2(linker)?;
    link_p3(linker)
}

fn link_p2(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, Component>;
    let mut files = linker.instance(files::P2)?;
    functions!(p2 files);
    type Rename = (Directory, String, Directory, String);
    files.func_wrap_async(
        "[method]descriptor.rename-at",
        |mut store: Store<'_>, (from, old, to, new): Rename| {
            Box::new(async move {
                let from = given!(p2: place(store.data_mut(), &from)?);
                let to = given!(p2: place(store.data_mut(), &to)?);
                Ok((from.rename(&old, &to, &new).await.map_err(|error| errno::p2(&error)),))
            })
        },
    )?;
    type Link = (Directory, PathFlags, String, Directory, String);
    files.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: Store<'_>, (from, flags, old, to, new): Link| {
            Box::new(async move {
                let from = given!(p2: place(store.data_mut(), &from)?);
                let to = given!(p2: place(store.data_mut(), &to)?);
                let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
                Ok((from.link(&old, follow, &to, &new).await.map_err(|error| errno::p2(&error)),))
            })
        },
    )?;
    files.func_wrap_async("[method]descriptor.stat", |mut store: Store<'_>, (file,)| {
        Box::new(async move {
            let seen = given!(p2: stat(store.data_mut(), &file)?);
            Ok((Ok(p2::DescriptorStat::from(seen)),))
        })
    })?;
    type Times = (Directory, NewTimestamp, NewTimestamp);
    files.func_wrap_async(
        "[method]descriptor.set-times",
        |mut store: Store<'_>, (file, accessed, modified): Times| {
            Box::new(async move {
                let times = (accessed.try_into(), modified.try_into());
                Ok((set_times(store.data_mut(), &file, times)?.map_err(|error| errno::p2(&error)),))
            })
        },
    )?;
    files.func_wrap(
        "filesystem-error-code",
        |mut store: Store<'_>, (error,): (Resource<wasmtime::Error>,)| {
            let error = store.data_mut().ctx().table.get(&error)?;
            // Only the streams of files have errors of the kernel.
            Ok((error.downcast_ref::<io::Error>().map(errno::p2),))
        },
    )
}

fn link_p3(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut files = linker.instance(files::P3)?;
    functions!(p3 files);
    type Rename = (Directory, String, Directory, String);
    files.func_wrap_concurrent(
        "[method]descriptor.rename-at",
        |accessor: &Accessor<Component>, (from, old, to, new): Rename| {
            Box::pin(async move {
                let from = accessor.with(|mut access| place(access.get(), &from))?;
                let to = accessor.with(|mut access| place(access.get(), &to))?;
                let from = given!(p3: from);
                let to = given!(p3: to);
                Ok((from.rename(&old, &to, &new).await.map_err(|error| errno::p3(&error)),))
            })
        },
    )?;
    type Link = (Directory, PathFlags, String, Directory, String);
    files.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<Component>, (from, flags, old, to, new): Link| {
            Box::pin(async move {
                let from = accessor.with(|mut access| place(access.get(), &from))?;
                let to = accessor.with(|mut access| place(access.get(), &to))?;
                let from = given!(p3: from);
                let to = given!(p3: to);
                let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
                Ok((from.link(&old, follow, &to, &new).await.map_err(|error| errno::p3(&error)),))
            })
        },
    )?;
    files.func_wrap_concurrent(
        "[method]descriptor.stat",
        |accessor: &Accessor<Component>, (file,): (Directory,)| {
            Box::pin(async move {
                let seen = accessor.with(|mut access| stat(access.get(), &file))?;
                Ok((Ok(p3::DescriptorStat::from(given!(p3: seen))),))
            })
        },
    )?;
    type Times = (Directory, NewTimestamp, NewTimestamp);
    files.func_wrap_concurrent(
        "[method]descriptor.set-times",
        |accessor: &Accessor<Component>, (file, accessed, modified): Times| {
            Box::pin(async move {
                let times = (accessed.try_into(), modified.try_into());
                let set = accessor.with(|mut access| set_times(access.get(), &file, times))?;
                Ok((set.map_err(|error| errno::p3(&error)),))
            })
        },
    )
}

fn stat(
    component: &mut Component,
    file: &Resource<Descriptor>,
) -> wasmtime::Result<io::Result<Attributes>> {
    Ok(paths::stat(open::file_of(component.ctx().table.get(file)?)))
}

type NewTimes = (io::Result<NewTime>, io::Result<NewTime>);

fn set_times(
    component: &mut Component,
    file: &Resource<Descriptor>,
    (accessed, modified): NewTimes,
) -> wasmtime::Result<io::Result<()>> {
    let descriptor = component.ctx().table.get(file)?;
    Ok(accessed.and_then(|accessed| paths::set_times(descriptor, accessed, modified?)))
}

impl From<Attributes> for p2::DescriptorStat {
    fn from(seen: Attributes) -> Self {
        // It has no time before 1970.
        let time = |time: Time| {
            let seconds = u64::try_from(time.seconds).ok()?;
            Some(wall_clock::Datetime { seconds, nanoseconds: time.nanoseconds })
        };
        Self {
            type_: parts::kind(seen.kind),
            link_count: seen.links,
            size: seen.size,
            data_access_timestamp: time(seen.accessed),
            data_modification_timestamp: time(seen.modified),
            status_change_timestamp: time(seen.changed),
        }
    }
}

impl From<Attributes> for p3::DescriptorStat {
    fn from(seen: Attributes) -> Self {
        let time =
            |Time { seconds, nanoseconds }| Some(system_clock::Instant { seconds, nanoseconds });
        Self {
            type_: streams_p3::kind(seen.kind),
            link_count: seen.links,
            size: seen.size,
            data_access_timestamp: time(seen.accessed),
            data_modification_timestamp: time(seen.modified),
            status_change_timestamp: time(seen.changed),
        }
    }
}

impl TryFrom<p2::NewTimestamp> for NewTime {
    type Error = io::Error;

    fn try_from(time: p2::NewTimestamp) -> io::Result<Self> {
        Ok(match time {
            p2::NewTimestamp::NoChange => Self::Kept,
            p2::NewTimestamp::Now => Self::Now,
            p2::NewTimestamp::Timestamp(time) => {
                let seconds = i64::try_from(time.seconds).map_err(|_| Errno::OVERFLOW)?;
                Self::at(seconds, time.nanoseconds)?
            }
        })
    }
}

impl TryFrom<p3::NewTimestamp> for NewTime {
    type Error = io::Error;

    fn try_from(time: p3::NewTimestamp) -> io::Result<Self> {
        Ok(match time {
            p3::NewTimestamp::NoChange => Self::Kept,
            p3::NewTimestamp::Now => Self::Now,
            p3::NewTimestamp::Timestamp(time) => Self::at(time.seconds, time.nanoseconds)?,
        })
    }
}
