//! Host functions of components that do their work in parts, because wasmtime-wasi's would hold the
//! worker as long as the guest asks for. [`crate::module`] does the same for preview 1.
//!
//! | function | part |
//! |---|---|
//! | `get-random-bytes`, `get-insecure-random-bytes` of p2 | [`RANDOM_PART`] bytes |
//! | `read-directory` of p2 | a batch of entries, read when the guest asks for them |
//! | `descriptor.write` of p2 | writes [`WRITE`] bytes at most, and returns their number |
//!
//! The functions of p3 may give fewer random bytes than asked for: the WASI context limits them. The
//! file streams of p3 are in `streams`.

use std::{fs::File, io, sync::Arc, vec};

use rustix::fs::FileType;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystemView},
    p2::{
        FsError,
        bindings::{
            filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor},
            random::{insecure, random},
        },
    },
    random::WasiRandomView,
};

use super::P2_VERSION;
use crate::{
    component::store::Component,
    turns,
    wasi::{
        context::RANDOM_PART,
        directory::{self, Entry},
    },
};

/// Most random bytes of one call: 5 ms to copy them to the guest.
const MAX_RANDOM: u64 = 16 << 20;
/// Most bytes that one call writes: half a millisecond in the page cache.
const WRITE: usize = 1 << 20;

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Bytes = wasmtime::Result<(Vec<u8>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    linker.instance(&format!("wasi:random/random@{P2_VERSION}"))?.func_wrap_async(
        "get-random-bytes",
        |store, (length,): (u64,)| {
            Box::new(random_bytes(store, length, |component, part| {
                random::Host::get_random_bytes(component.random(), part)
            }))
        },
    )?;
    linker.instance(&format!("wasi:random/insecure@{P2_VERSION}"))?.func_wrap_async(
        "get-insecure-random-bytes",
        |store, (length,): (u64,)| {
            Box::new(random_bytes(store, length, |component, part| {
                insecure::Host::get_insecure_random_bytes(component.random(), part)
            }))
        },
    )?;
    let mut files = linker.instance(&format!("wasi:filesystem/types@{P2_VERSION}"))?;
    files.resource(
        "directory-entry-stream",
        ResourceType::host::<Listing>(),
        |mut store, rep| {
            store.data_mut().ctx().table.delete(Resource::<Listing>::new_own(rep))?;
            Ok(())
        },
    )?;
    files.func_wrap_async("[method]descriptor.read-directory", |store, arguments| {
        Box::new(list(store, arguments))
    })?;
    files.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |store, arguments| Box::new(next(store, arguments)),
    )?;
    files.func_wrap_async("[method]descriptor.write", |store, arguments| {
        Box::new(write(store, arguments))
    })
}

async fn random_bytes(
    mut store: StoreContextMut<'_, Component>,
    length: u64,
    part: fn(&mut Component, u64) -> wasmtime::Result<Vec<u8>>,
) -> Bytes {
    if length > MAX_RANDOM {
        return Err(wasmtime::Error::msg(format!(
            "a call asks for {length} random bytes, and {MAX_RANDOM} are allowed"
        )));
    }
    let mut bytes = Vec::new();
    loop {
        let left = length - bytes.len() as u64;
        bytes.extend(part(store.data_mut(), left.min(RANDOM_PART))?);
        if bytes.len() as u64 >= length {
            return Ok((bytes,));
        }
        turns::end().await;
    }
}

/// Stream of the entries of a directory.
struct Listing {
    directory: Arc<File>,
    /// Cookie of the last entry of `batch`.
    cookie: u64,
    batch: vec::IntoIter<Entry>,
}

async fn list(
    mut store: StoreContextMut<'_, Component>,
    (directory,): (Resource<Descriptor>,),
) -> Answer<Resource<Listing>> {
    let component = store.data_mut();
    let table = component.ctx().table;
    let Descriptor::Dir(opened) = table.get(&directory)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let directory = opened.dir.clone();
    // The first batch tells whether the guest may read it.
    let entries = match directory::batch(&directory, 0) {
        Ok(entries) => entries,
        Err(error) => return Ok((Err(code(error)?),)),
    };
    let cookie = entries.last().map_or(0, |last| last.next);
    let listing = Listing { directory, cookie, batch: entries.into_iter() };
    Ok((Ok(component.ctx().table.push(listing)?),))
}

async fn next(
    mut store: StoreContextMut<'_, Component>,
    (listing,): (Resource<Listing>,),
) -> Answer<Option<DirectoryEntry>> {
    let component = store.data_mut();
    let listing = component.ctx().table.get_mut(&listing)?;
    loop {
        let Some(entry) = listing.batch.next() else {
            let entries = match directory::batch(&listing.directory, listing.cookie) {
                Ok(entries) => entries,
                Err(error) => return Ok((Err(code(error)?),)),
            };
            let Some(last) = entries.last() else { return Ok((Ok(None),)) };
            listing.cookie = last.next;
            listing.batch = entries.into_iter();
            continue;
        };
        if entry.is_relative() {
            continue;
        }
        let type_ = kind(entry.kind);
        return Ok((match String::from_utf8(entry.name) {
            Ok(name) => Ok(Some(DirectoryEntry { type_, name })),
            Err(_) => Err(ErrorCode::IllegalByteSequence),
        },));
    }
}

/// Type of a file, with those for which wasmtime-wasi has no other as `Unknown`.
fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
}

fn code(error: io::Error) -> wasmtime::Result<ErrorCode> {
    FsError::from(error).downcast()
}

async fn write(
    mut store: StoreContextMut<'_, Component>,
    (file, bytes, offset): (Resource<Descriptor>, WasmList<u8>, u64),
) -> Answer<u64> {
    // Not a `Vec`: wasmtime would copy everything before the function could limit it.
    let bytes = bytes.as_le_slice(&store);
    let part = bytes[..bytes.len().min(WRITE)].to_vec();
    let written = store.data_mut().filesystem().write(file, part, offset).await;
    Ok((match written {
        Ok(written) => Ok(written),
        Err(error) => Err(error.downcast()?),
    },))
}
