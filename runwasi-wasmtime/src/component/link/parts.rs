//! Host functions of components that do their work in parts, because wasmtime-wasi's would hold the
//! worker as long as the guest asks for. [`crate::module`] does the same for preview 1.
//!
//! | function | part |
//! |---|---|
//! | `get-random-bytes`, `get-insecure-random-bytes` of p2 | [`RANDOM_PART`] bytes |
//! | `read-directory` of p2 | a batch of entries, read when the guest asks for them |
//! | `descriptor.write` of p2 | writes [`WRITE`] bytes at most, and returns their number |
//!
//! The functions of p3 may give fewer random bytes than asked for: the WASI context limits them.
//! The file streams of p3 are in `streams_p3`.

use std::{fs::File, io, vec};

use rustix::fs::FileType;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};
use wasmtime_wasi::{
    WasiView,
    filesystem::{Descriptor, WasiFilesystemView},
    p2::bindings::{
        filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor},
        random::{insecure, random},
    },
    random::WasiRandomView,
};

use super::P2_VERSION;
use crate::{
    component::store::{Component, descriptors_left},
    turns,
    wasi::{
        context::RANDOM_PART,
        directory::{Entry, Listing},
        errno,
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
        ResourceType::host::<Entries>(),
        |mut store, rep| {
            store.data_mut().ctx().table.delete(Resource::<Entries>::new_own(rep))?;
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
struct Entries {
    listing: Listing,
    /// Cookie of the last entry of `batch`.
    cookie: u64,
    batch: vec::IntoIter<Entry>,
}

impl Entries {
    fn new(directory: &File) -> io::Result<Self> {
        let mut entries =
            Self { listing: Listing::new(directory)?, cookie: 0, batch: Vec::new().into_iter() };
        // The first batch tells whether the guest may read the directory.
        entries.read()?;
        Ok(entries)
    }

    /// Reads the next batch. It is empty at the end.
    fn read(&mut self) -> io::Result<()> {
        let batch = self.listing.behind(self.cookie)?.to_vec();
        self.cookie = batch.last().map_or(self.cookie, |last| last.next);
        self.batch = batch.into_iter();
        Ok(())
    }
}

async fn list(
    mut store: StoreContextMut<'_, Component>,
    (directory,): (Resource<Descriptor>,),
) -> Answer<Resource<Entries>> {
    if descriptors_left(&mut store).await == 0 {
        // As for `open-at`: WASI p2 has no error code for a full descriptor table.
        return Ok((Err(ErrorCode::InsufficientMemory),));
    }
    let component = store.data_mut();
    let table = component.ctx().table;
    let Descriptor::Dir(opened) = table.get(&directory)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let entries = match Entries::new(&opened.dir) {
        Ok(entries) => entries,
        Err(error) => return Ok((Err(errno::p2(&error)),)),
    };
    component.opened(entries.listing.file());
    Ok((Ok(component.ctx().table.push(entries)?),))
}

async fn next(
    mut store: StoreContextMut<'_, Component>,
    (entries,): (Resource<Entries>,),
) -> Answer<Option<DirectoryEntry>> {
    let component = store.data_mut();
    let entries = component.ctx().table.get_mut(&entries)?;
    loop {
        let Some(entry) = entries.batch.next() else {
            if let Err(error) = entries.read() {
                return Ok((Err(errno::p2(&error)),));
            }
            if entries.batch.as_slice().is_empty() {
                return Ok((Ok(None),));
            }
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
pub(super) fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
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
