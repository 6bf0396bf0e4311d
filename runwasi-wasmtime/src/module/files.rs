//! The open files of a module: which file is behind a descriptor of the guest, and how the guest
//! gets one that was opened outside wasmtime-wasi.
//!
//! wasmtime-wasi keeps the descriptors of preview 1 to itself, and only its own `path_open` makes
//! one. So a file that [`crate::wasi::open`] has opened is exchanged for a stand-in: the directory
//! of the call becomes `/dev` for a moment, wasmtime-wasi opens `null` or `/dev` itself there, and
//! the entry that it has made in the guest's table gets the file. The descriptors are followed
//! through `fd_close` and `fd_renumber`, so the entry of each is known.

use std::{collections::BTreeMap, fs::File, io, mem, sync::OnceLock};

use runwasi_core::{
    InstanceSpec,
    credentials::as_host,
    paths::Roots,
    resources::descriptors::{self, Held},
    stdio::Stdio,
};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{
    FsPerms, OpenMode, WasiView,
    filesystem::{Descriptor, Dir, WasiFilesystemView},
    p1::{
        WasiP1Ctx,
        wasi_snapshot_preview1::{self as library},
    },
    p2::bindings::filesystem::preopens,
};
use wiggle::GuestMemory;

use crate::wasi::{
    directory::Listing,
    open::{OpenedFile, STREAMS, file_of, open_at_start},
    paths::Place,
    stdio::Standard,
};

/// Values of `errno` in the specification.
pub(super) const SUCCESS: i32 = 0;
pub(super) const BADF: i32 = 8;
const MFILE: i32 = 33;
const NFILE: i32 = 41;
const NOTDIR: i32 = 54;
/// Of a stream, which has no positions.
pub(super) const SPIPE: i32 = 70;
/// Flag of a descriptor for calls that do not wait.
pub(super) const NONBLOCK: i32 = 1 << 2;
/// The right to read, in the rights of `path_open`.
const RIGHT_READ: i64 = 1 << 1;
/// Entries that a new table may have besides preopens: streams, and what became of them.
const OTHERS: u32 = 64;

/// Descriptors of one guest.
pub(super) struct FileTable {
    /// Keys of the table's entries by the guest's descriptors; absent before the first call.
    entries: Option<BTreeMap<u32, u32>>,
    /// Limit of file descriptors.
    limit: u32,
    /// Open file descriptors, counted for the container.
    counted: Held,
    /// Directories that are being read, by the guest's descriptors. Each has a file descriptor of
    /// its own.
    listings: BTreeMap<u32, Listing>,
    /// Standard streams that were opened by their names in `/dev`, by the guest's descriptors.
    streams: BTreeMap<u32, Standard>,
    /// The process's standard streams, by the guest's descriptors.
    own_streams: BTreeMap<u32, Standard>,
    /// Descriptors of standard streams whose calls do not wait (`O_NONBLOCK`). The streams of the
    /// host never do, and are shared: the flag is that of a descriptor alone.
    nonblocking: BTreeMap<u32, ()>,
    stdio: Stdio,
}

/// Readiness that a guest can wait for at a descriptor.
pub(super) enum Waited {
    File,
    Stream(Standard),
}

/// A directory of the guest, for one call.
pub(super) struct GuestDirectory {
    entry: u32,
    /// A copy of its description.
    pub(super) directory: Dir,
}

impl GuestDirectory {
    /// The directory for a call with a path.
    pub(super) fn place(&self, roots: &Roots) -> Place {
        Place::new(self.directory.clone(), roots.clone())
    }
}

impl FileTable {
    pub(super) fn new(spec: &InstanceSpec, mut counted: Held) -> Self {
        counted.set(open_at_start(spec));
        Self {
            entries: None,
            limit: spec.open_files,
            counted,
            listings: BTreeMap::new(),
            streams: BTreeMap::new(),
            own_streams: (0..STREAMS).map(|n| (n, Standard::of(&spec.stdio, n))).collect(),
            nonblocking: BTreeMap::new(),
            stdio: spec.stdio.clone(),
        }
    }

    /// The `errno` if the guest, its container or this OS process may open no further file.
    pub(super) fn lack(&mut self, wasi: &mut WasiP1Ctx) -> wasmtime::Result<Option<i32>> {
        let limit = self.limit.saturating_sub(STREAMS) as usize;
        if self.entries(wasi)?.len() >= limit || self.counted.left() == 0 {
            return Ok(Some(MFILE));
        }
        Ok((!descriptors::left_for_guests()).then_some(NFILE))
    }

    /// The directory behind a descriptor. The inner error is an `errno`.
    pub(super) fn directory(
        &mut self,
        wasi: &mut WasiP1Ctx,
        descriptor: i32,
    ) -> wasmtime::Result<Result<GuestDirectory, i32>> {
        let Some(&entry) = self.entries(wasi)?.get(&descriptor.cast_unsigned()) else {
            return Ok(Err(BADF));
        };
        Ok(match wasi.ctx().table.get(&key(entry))? {
            Descriptor::Dir(directory) => {
                Ok(GuestDirectory { entry, directory: directory.clone() })
            }
            Descriptor::File(_) => Err(NOTDIR),
        })
    }

    /// The file or directory behind a descriptor. None for a standard stream.
    pub(super) fn descriptor(
        &mut self,
        wasi: &mut WasiP1Ctx,
        descriptor: i32,
    ) -> wasmtime::Result<Option<Descriptor>> {
        let Some(&entry) = self.entries(wasi)?.get(&descriptor.cast_unsigned()) else {
            return Ok(None);
        };
        Ok(Some(wasi.ctx().table.get(&key(entry))?.clone()))
    }

    /// Gives the guest an opened file: returns its descriptor, or an `errno`. `descriptor` is that
    /// of the directory.
    pub(super) async fn add(
        &mut self,
        wasi: &mut WasiP1Ctx,
        descriptor: i32,
        directory: &GuestDirectory,
        opened: OpenedFile,
        flags: i32,
    ) -> wasmtime::Result<Result<u32, i32>> {
        let OpenedFile { descriptor: opened, stream } = opened;
        let stand_in = stand_in()?;
        let name = if matches!(opened, Descriptor::Dir(_)) { "." } else { "null" };
        let table = wasi.ctx().table;
        let entry = table.get_mut(&key(directory.entry))?;
        let taken = mem::replace(entry, Descriptor::Dir(stand_in.clone()));
        let next = next_entry(table)?;
        // Never waits: file calls in the stand-in are made at once.
        let added = library_open(wasi, descriptor, name, flags).await;
        let table = wasi.ctx().table;
        *table.get_mut(&key(directory.entry))? = taken;
        let added = match added? {
            Ok(added) => added,
            Err(errno) => return Ok(Err(errno)),
        };
        *table.get_mut(&key(next))? = opened;
        self.entries(wasi)?.insert(added, next);
        if let Some(number) = stream {
            self.streams.insert(added, Standard::of(&self.stdio, number));
            self.set_waits(added.cast_signed(), flags & NONBLOCK == 0);
        }
        self.counted.set(self.counted.number() + 1);
        Ok(Ok(added))
    }

    /// The standard stream behind a descriptor that was opened by its name in `/dev`.
    pub(super) fn stream(&self, descriptor: i32) -> Option<Standard> {
        self.streams.get(&descriptor.cast_unsigned()).cloned()
    }

    /// True if calls of a standard stream by this descriptor wait.
    pub(super) fn waits(&self, descriptor: i32) -> bool {
        !self.nonblocking.contains_key(&descriptor.cast_unsigned())
    }

    pub(super) fn set_waits(&mut self, descriptor: i32, waits: bool) {
        if waits {
            self.nonblocking.remove(&descriptor.cast_unsigned());
        } else {
            self.nonblocking.insert(descriptor.cast_unsigned(), ());
        }
    }

    /// The standard stream behind a descriptor, of the process or opened by its name.
    pub(super) fn any_stream(&self, descriptor: i32) -> Option<Standard> {
        let own = self.own_streams.get(&descriptor.cast_unsigned()).cloned();
        own.or_else(|| self.stream(descriptor))
    }

    /// The file or standard stream behind a descriptor. Absent for a directory.
    pub(super) fn waited(
        &mut self,
        wasi: &mut WasiP1Ctx,
        descriptor: i32,
    ) -> wasmtime::Result<Option<Waited>> {
        if let Some(stream) = self.any_stream(descriptor) {
            return Ok(Some(Waited::Stream(stream)));
        }
        let file = matches!(self.descriptor(wasi, descriptor)?, Some(Descriptor::File(_)));
        Ok(file.then_some(Waited::File))
    }

    /// The listing of a directory, which goes on behind `cookie`. To be given back by
    /// [`FileTable::keep_listing`], unless it is at its end.
    pub(super) fn listing(
        &mut self,
        descriptor: i32,
        found: &GuestDirectory,
        cookie: u64,
    ) -> io::Result<Listing> {
        match self.take_listing(descriptor) {
            // From the begin on, all entries are read again.
            Some(kept) if cookie != 0 => Ok(kept),
            _ => Listing::new(&found.directory.dir),
        }
    }

    /// Keeps a listing for the next call, unless the container may have no further descriptor.
    pub(super) fn keep_listing(&mut self, descriptor: i32, listing: Listing) {
        if self.counted.add() {
            self.listings.insert(descriptor.cast_unsigned(), listing);
        }
    }

    fn take_listing(&mut self, descriptor: i32) -> Option<Listing> {
        let listing = self.listings.remove(&descriptor.cast_unsigned())?;
        self.counted.remove();
        Some(listing)
    }

    /// Follows an `fd_close` that has succeeded.
    pub(super) fn closed(&mut self, descriptor: i32) {
        self.take_listing(descriptor);
        self.streams.remove(&descriptor.cast_unsigned());
        self.own_streams.remove(&descriptor.cast_unsigned());
        self.nonblocking.remove(&descriptor.cast_unsigned());
        self.counted.remove();
        if let Some(entries) = &mut self.entries {
            entries.remove(&descriptor.cast_unsigned());
        }
    }

    /// Follows an `fd_renumber` that has succeeded.
    pub(super) fn renumbered(&mut self, from: i32, to: i32) {
        if from == to {
            return;
        }
        self.counted.remove();
        for changed in [from, to] {
            self.take_listing(changed);
        }
        for streams in [&mut self.streams, &mut self.own_streams] {
            renumber(streams, from, to);
        }
        renumber(&mut self.nonblocking, from, to);
        if let Some(entries) = &mut self.entries {
            renumber(entries, from, to);
        }
    }

    /// Notes the preopens. To be called before the guest's first call that changes descriptors.
    pub(super) fn entries(
        &mut self,
        wasi: &mut WasiP1Ctx,
    ) -> wasmtime::Result<&mut BTreeMap<u32, u32>> {
        let entries = match self.entries.take() {
            Some(entries) => entries,
            None => preopened(wasi)?,
        };
        Ok(self.entries.insert(entries))
    }
}

/// Follows a descriptor to the number `to`, and closes the file of that one.
fn renumber<T>(known: &mut BTreeMap<u32, T>, from: i32, to: i32) {
    known.remove(&to.cast_unsigned());
    if let Some(found) = known.remove(&from.cast_unsigned()) {
        known.insert(to.cast_unsigned(), found);
    }
}

fn key(entry: u32) -> Resource<Descriptor> {
    Resource::new_borrow(entry)
}

/// The key that the next entry of the table gets.
fn next_entry(table: &mut ResourceTable) -> wasmtime::Result<u32> {
    // A table gives the key that was freed last.
    let next = table.push(())?;
    let key = next.rep();
    table.delete(next)?;
    Ok(key)
}

/// Entries of the preopens by their descriptors.
fn preopened(wasi: &mut WasiP1Ctx) -> wasmtime::Result<BTreeMap<u32, u32>> {
    // wasmtime-wasi makes its descriptors at the first call of a guest. Any error is one of the
    // argument: a guest may have no preopen.
    let mut answer = [0; 8];
    let mut memory = GuestMemory::Unshared(&mut answer);
    library::fd_prestat_get(wasi, &mut memory, STREAMS.cast_signed(), 0)?;
    let mut view = wasi.filesystem();
    let mut directories = Vec::new();
    for (resource, _) in preopens::Host::get_directories(&mut view)? {
        // Deleted: a second entry of the same directory, only for its file.
        directories.push(view.table.delete(resource)?);
    }
    let count = u32::try_from(directories.len())?;
    let mut entries = BTreeMap::new();
    for entry in 0..OTHERS.saturating_add(2 * count) {
        let Ok(descriptor) = view.table.get(&key(entry)) else { continue };
        let same = |directory| std::ptr::eq(&**file_of(descriptor), &**file_of(directory));
        if let Some(n) = directories.iter().position(same) {
            entries.insert(STREAMS + u32::try_from(n)?, entry);
        }
    }
    if entries.len() != directories.len() {
        return Err(wasmtime::Error::msg("the preopened directories are not in the guest's table"));
    }
    Ok(entries)
}

/// The directory in which wasmtime-wasi opens something harmless.
fn stand_in() -> io::Result<&'static Dir> {
    static STAND_IN: OnceLock<Dir> = OnceLock::new();
    if let Some(stand_in) = STAND_IN.get() {
        return Ok(stand_in);
    }
    let directory = as_host(|| File::open("/dev"))?;
    Ok(STAND_IN.get_or_init(|| Dir::new(directory, FsPerms::ReadOnly, OpenMode::READ, true)))
}

/// Calls `path_open` of wasmtime-wasi with a memory of its own: the guest's stays untouched.
async fn library_open(
    wasi: &mut WasiP1Ctx,
    directory: i32,
    name: &str,
    flags: i32,
) -> wasmtime::Result<Result<u32, i32>> {
    const ANSWER: usize = size_of::<u32>();
    let mut bytes = vec![0; ANSWER];
    bytes.extend(name.as_bytes());
    let length = i32::try_from(name.len())?;
    let at = ANSWER as i32;
    let mut memory = GuestMemory::Unshared(&mut bytes);
    let errno =
        library::path_open(wasi, &mut memory, directory, 0, at, length, 0, RIGHT_READ, 0, flags, 0)
            .await?;
    let answer = bytes.first_chunk::<ANSWER>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    Ok(if errno == SUCCESS { Ok(answer) } else { Err(errno) })
}
