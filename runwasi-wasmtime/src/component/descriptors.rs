//! How many files and sockets of the host a guest may have: `RLIMIT_NOFILE` of its process. Asked before
//! one more is made.
//!
//! A p2 or p3 guest has no numbers for them: what counts is what is open now. A file can outlive its resource in a stream, so
//! files are counted themselves; sockets are counted in the guest's table. What a p3 guest lets live on in streams only, and
//! the sockets that such a stream gives it, are bounded by the sizes of its tables: beyond them it traps.

use std::{
    fs::File,
    sync::{Arc, Weak},
};

use runwasi_core::InstanceSpec;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{filesystem::Descriptor, p2, sockets};

/// The standard streams.
const STANDARD: usize = 3;
/// Entries of a table that hold no file descriptor: clocks, streams, requests.
const OTHERS: usize = 4096;

/// What a guest has open.
pub(super) struct Descriptors {
    limit: usize,
    files: Vec<Weak<File>>,
}

impl Descriptors {
    pub(super) fn new(spec: &InstanceSpec) -> Self {
        let held = STANDARD + spec.rootfs.preopens().count();
        Self { limit: (spec.open_files as usize).saturating_sub(held), files: Vec::new() }
    }

    /// How many entries the guest's tables have.
    pub(super) fn table_capacity(&self) -> usize {
        self.limit.saturating_mul(2).saturating_add(OTHERS)
    }

    /// How many more a guest with this table may open.
    pub(super) fn left(&mut self, table: &mut ResourceTable) -> usize {
        self.files.retain(|file| file.strong_count() > 0);
        let sockets = table.iter_mut().filter(|entry| {
            entry.is::<p2::TcpSocket>()
                || entry.is::<p2::UdpSocket>()
                || entry.is::<sockets::TcpSocket>()
                || entry.is::<sockets::UdpSocket>()
        });
        self.limit.saturating_sub(self.files.len() + sockets.count())
    }

    /// Takes note of a file that was opened.
    pub(super) fn opened(&mut self, descriptor: &Descriptor) {
        let file: &Arc<File> = match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(directory) => &directory.dir,
        };
        self.files.push(Arc::downgrade(file));
    }
}
