//! Replacements for wasmtime-wasi's `open-at` of components, p2 and p3.
//!
//! No opening waits, FIFOs and sockets are refused ([`crate::wasi::open`]), and the limit of open
//! files and sockets is enforced.
//!
//! wasmtime-wasi makes the file calls on the thread that polls the guest. No other call of a
//! component blocks this thread: `poll` of p2 and the clocks of both previews wait as futures. (A
//! component adapted from preview 1 has the adapter's `poll_oneoff`, which calls `poll` of p2.)

use runwasi_core::open::{OpenHow, Synchronized};
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView, filesystem::Descriptor, p2::bindings::filesystem::types as p2,
    p3::bindings::filesystem::types as p3,
};

use super::place::place;
use crate::{
    component::{
        descriptors::Count,
        store::{Component, descriptors_left},
    },
    turns,
    wasi::{
        errno,
        open::{self, OpenedFile, Request},
    },
};

/// Versions under which wasmtime-wasi links its functions. A test checks that ours are called
/// (`guests/components.rs`).
pub(super) const P2: &str = "wasi:filesystem/types@0.2.12";
pub(super) const P3: &str = "wasi:filesystem/types@0.3.0";

type Directory = Resource<Descriptor>;
type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    linker.instance(P2)?.func_wrap_async("[method]descriptor.open-at", |store, arguments| {
        Box::new(open_p2(store, arguments))
    })?;
    linker.instance(P3)?.func_wrap_concurrent("[method]descriptor.open-at", |store, arguments| {
        Box::pin(open_p3(store, arguments))
    })
}

/// The [`Request`] in the flags of `open-at`: their types have the same names in both versions.
macro_rules! request {
    ($version:ident: $lookup:expr, $how:expr, $flags:expr) => {{
        use $version::{DescriptorFlags, OpenFlags, PathFlags};
        Request {
            how: OpenHow {
                follow: $lookup.contains(PathFlags::SYMLINK_FOLLOW),
                create: $how.contains(OpenFlags::CREATE),
                exclusive: $how.contains(OpenFlags::EXCLUSIVE),
                truncate: $how.contains(OpenFlags::TRUNCATE),
                read: $flags.contains(DescriptorFlags::READ),
                write: $flags.contains(DescriptorFlags::WRITE),
                // The flag is that of a stream: `append-via-stream`.
                append: false,
                // Linux has no `O_RSYNC` of its own: it is `O_SYNC`.
                synchronized: if $flags.intersects(
                    DescriptorFlags::FILE_INTEGRITY_SYNC | DescriptorFlags::REQUESTED_WRITE_SYNC,
                ) {
                    Synchronized::File
                } else if $flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC) {
                    Synchronized::Data
                } else {
                    Synchronized::No
                },
            },
            directory: $how.contains(OpenFlags::DIRECTORY),
        }
    }};
}

/// Gives the guest an opened file.
fn add(component: &mut Component, opened: OpenedFile) -> wasmtime::Result<Directory> {
    let OpenedFile { descriptor: opened, stream } = opened;
    component.opened(open::file_of(&opened));
    if let Some(number) = stream {
        component.opened_stream(open::file_of(&opened), number);
    }
    Ok(component.ctx().table.push(opened)?)
}

async fn open_p2(
    mut store: StoreContextMut<'_, Component>,
    (directory, lookup, path, how, flags): (
        Directory,
        p2::PathFlags,
        String,
        p2::OpenFlags,
        p2::DescriptorFlags,
    ),
) -> Answer<Directory, p2::ErrorCode> {
    if descriptors_left(&mut store).await == 0 {
        // WASI p2 has no error code for a full descriptor table.
        return Ok((Err(p2::ErrorCode::InsufficientMemory),));
    }
    let component = store.data_mut();
    let place = match place(component, &directory)? {
        Ok(place) => place,
        Err(error) => return Ok((Err(errno::p2(&error)),)),
    };
    Ok((match place.open(&path, request!(p2: lookup, how, flags)).await {
        Ok(opened) => Ok(add(component, opened)?),
        Err(error) => Err(errno::p2(&error)),
    },))
}

async fn open_p3(
    accessor: &Accessor<Component>,
    (directory, lookup, path, how, flags): (
        Directory,
        p3::PathFlags,
        String,
        p3::OpenFlags,
        p3::DescriptorFlags,
    ),
) -> Answer<Directory, p3::ErrorCode> {
    // Access to the store must not last across an await, since other tasks of the guest run then.
    let mut count = Count::default();
    let left = loop {
        match accessor.with(|mut access| access.get().count_descriptors(&mut count)) {
            Some(left) => break left,
            None => turns::end().await,
        }
    };
    // The code of p2 for a full table; see `open_p2`.
    if left == 0 {
        return Ok((Err(p3::ErrorCode::InsufficientMemory),));
    }
    let place = match accessor.with(|mut access| place(access.get(), &directory))? {
        Ok(place) => place,
        Err(error) => return Ok((Err(errno::p3(&error)),)),
    };
    Ok((match place.open(&path, request!(p3: lookup, how, flags)).await {
        Ok(opened) => Ok(accessor.with(|mut access| add(access.get(), opened))?),
        Err(error) => Err(errno::p3(&error)),
    },))
}
