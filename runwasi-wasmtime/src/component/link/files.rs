//! Replacements for wasmtime-wasi's file functions of components, for the reasons given in
//! [`crate::module::preview1`].
//!
//! | function | reason |
//! |---|---|
//! | `open-at` | refuses FIFOs and sockets: opening a FIFO blocks its thread beyond any kill |
//! | `open-at` | enforces the limit of open files and sockets |
//! | `rename-at`, `link-at`, `symlink-at` | no path changes between that check and the opening |
//!
//! For a guest with its own user, wasmtime-wasi makes the file calls on the thread that polls the
//! guest. No other call of a component blocks this thread: `poll` of p2 and the clocks of both
//! previews wait as futures. (A component adapted from preview 1 has the adapter's `poll_oneoff`,
//! which calls `poll` of p2.)
//!
//! A p2 call suspends its guest until it returns, a p3 call does not. A guest that starts an
//! opening of p3 and then calls a renaming of p2 therefore deadlocks with itself until it is
//! killed. A guest that uses only one of the previews cannot.

use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView},
    p2::{
        FsError,
        bindings::filesystem::types::{
            DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
        },
    },
    p3::{bindings::filesystem::types as p3, filesystem::FilesystemError},
};

use crate::component::store::Component;

/// Versions under which wasmtime-wasi links its functions. A test checks that ours are called
/// (`guests/components.rs`).
const P2: &str = "wasi:filesystem/types@0.2.12";
const P3: &str = "wasi:filesystem/types@0.3.0";

type Directory = Resource<Descriptor>;
type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut p2 = linker.instance(P2)?;
    p2.func_wrap_async("[method]descriptor.open-at", |store, arguments| {
        Box::new(open_p2(store, arguments))
    })?;
    p2.func_wrap_async("[method]descriptor.rename-at", |store, arguments| {
        Box::new(rename_p2(store, arguments))
    })?;
    p2.func_wrap_async("[method]descriptor.link-at", |store, arguments| {
        Box::new(link_p2(store, arguments))
    })?;
    p2.func_wrap_async("[method]descriptor.symlink-at", |store, arguments| {
        Box::new(symlink_p2(store, arguments))
    })?;
    let mut p3 = linker.instance(P3)?;
    p3.func_wrap_concurrent("[method]descriptor.open-at", |store, arguments| {
        Box::pin(open_p3(store, arguments))
    })?;
    p3.func_wrap_concurrent("[method]descriptor.rename-at", |store, arguments| {
        Box::pin(rename_p3(store, arguments))
    })?;
    p3.func_wrap_concurrent("[method]descriptor.link-at", |store, arguments| {
        Box::pin(link_p3(store, arguments))
    })?;
    p3.func_wrap_concurrent("[method]descriptor.symlink-at", |store, arguments| {
        Box::pin(symlink_p3(store, arguments))
    })
}

/// Borrows the same resource for one more call.
fn again(directory: &Directory) -> Directory {
    Resource::new_borrow(directory.rep())
}

/// Converts a result for the guest.
fn answer<T>(result: Result<T, FsError>) -> Answer<T, ErrorCode> {
    Ok((match result {
        Ok(value) => Ok(value),
        // Errors of the file system go to the guest. Other errors trap.
        Err(error) => Err(error.downcast()?),
    },))
}

async fn open_p2(
    mut store: StoreContextMut<'_, Component>,
    (directory, lookup, path, how, flags): (
        Directory,
        PathFlags,
        String,
        OpenFlags,
        DescriptorFlags,
    ),
) -> Answer<Directory, ErrorCode> {
    let component = store.data_mut();
    let names = component.names.clone();
    // Held from the check to the opening: no process of the container can exchange the file.
    let _unchanged = names.read().await;
    if component.descriptors_left() == 0 {
        // WASI p2 has no error code for a full descriptor table.
        return Ok((Err(ErrorCode::InsufficientMemory),));
    }
    let mut files = component.filesystem();
    // A failed check decides nothing: the opening reports the error, or creates the file.
    if let Ok(seen) = files.stat_at(again(&directory), lookup, path.clone()).await
        && matches!(
            seen.type_,
            // wasmtime-wasi reports FIFOs and sockets as `Unknown`.
            DescriptorType::Fifo | DescriptorType::Socket | DescriptorType::Unknown
        )
    {
        return Ok((Err(ErrorCode::Access),));
    }
    let opened = files.open_at(directory, lookup, path, how, flags).await;
    if let Ok(opened) = &opened {
        note(component, opened)?;
    }
    answer(opened)
}

fn note(component: &mut Component, opened: &Directory) -> wasmtime::Result<()> {
    // A clone, because `opened` borrows the whole component, and the table is a part of it.
    let descriptor = component.ctx().table.get(opened)?.clone();
    component.opened(&descriptor);
    Ok(())
}

async fn rename_p2(
    mut store: StoreContextMut<'_, Component>,
    (from, old, to, new): (Directory, String, Directory, String),
) -> Answer<(), ErrorCode> {
    let component = store.data_mut();
    // A clone, because the guard must not borrow the component, which the call borrows mutably.
    let names = component.names.clone();
    let _changing = names.write().await;
    answer(component.filesystem().rename_at(from, old, to, new).await)
}

async fn link_p2(
    mut store: StoreContextMut<'_, Component>,
    (from, lookup, old, to, new): (Directory, PathFlags, String, Directory, String),
) -> Answer<(), ErrorCode> {
    let component = store.data_mut();
    let names = component.names.clone();
    let _changing = names.write().await;
    answer(component.filesystem().link_at(from, lookup, old, to, new).await)
}

async fn symlink_p2(
    mut store: StoreContextMut<'_, Component>,
    (directory, target, path): (Directory, String, String),
) -> Answer<(), ErrorCode> {
    let component = store.data_mut();
    let names = component.names.clone();
    let _changing = names.write().await;
    answer(component.filesystem().symlink_at(directory, target, path).await)
}

/// Accessor for calls of wasmtime-wasi's own p3 functions.
fn files(accessor: &Accessor<Component>) -> Accessor<Component, WasiFilesystem> {
    accessor.with_getter::<WasiFilesystem>(Component::filesystem)
}

fn answer_p3<T>(result: Result<T, FilesystemError>) -> Answer<T, p3::ErrorCode> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
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
    use p3::{DescriptorType, HostDescriptorWithStore};
    // Access to the store must not last across an await, since other tasks of the guest run then.
    let (names, left) = accessor.with(|mut access| {
        let component = access.get();
        (component.names.clone(), component.descriptors_left())
    });
    let _unchanged = names.read().await;
    // The code of p2 for a full table; see `open_p2`.
    if left == 0 {
        return Ok((Err(p3::ErrorCode::InsufficientMemory),));
    }
    let files = files(accessor);
    let seen = WasiFilesystem::stat_at(&files, again(&directory), lookup, path.clone()).await;
    if let Ok(seen) = seen
        && matches!(
            seen.type_,
            DescriptorType::Fifo | DescriptorType::Socket | DescriptorType::Other(_)
        )
    {
        return Ok((Err(p3::ErrorCode::Access),));
    }
    let opened = WasiFilesystem::open_at(&files, directory, lookup, path, how, flags).await;
    if let Ok(opened) = &opened {
        accessor.with(|mut access| note(access.get(), opened))?;
    }
    answer_p3(opened)
}

async fn rename_p3(
    accessor: &Accessor<Component>,
    (from, old, to, new): (Directory, String, Directory, String),
) -> Answer<(), p3::ErrorCode> {
    use p3::HostDescriptorWithStore;
    let names = accessor.with(|mut access| access.get().names.clone());
    let _changing = names.write().await;
    answer_p3(WasiFilesystem::rename_at(&files(accessor), from, old, to, new).await)
}

async fn link_p3(
    accessor: &Accessor<Component>,
    (from, lookup, old, to, new): (Directory, p3::PathFlags, String, Directory, String),
) -> Answer<(), p3::ErrorCode> {
    use p3::HostDescriptorWithStore;
    let names = accessor.with(|mut access| access.get().names.clone());
    let _changing = names.write().await;
    answer_p3(WasiFilesystem::link_at(&files(accessor), from, lookup, old, to, new).await)
}

async fn symlink_p3(
    accessor: &Accessor<Component>,
    (directory, target, path): (Directory, String, String),
) -> Answer<(), p3::ErrorCode> {
    use p3::HostDescriptorWithStore;
    let names = accessor.with(|mut access| access.get().names.clone());
    let _changing = names.write().await;
    answer_p3(WasiFilesystem::symlink_at(&files(accessor), directory, target, path).await)
}
