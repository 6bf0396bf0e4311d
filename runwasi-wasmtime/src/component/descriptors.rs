//! Limit of a guest's open files and sockets: `RLIMIT_NOFILE` of its process. It is checked before
//! each opening.
//!
//! A p2 or p3 guest has no descriptor numbers, so the limit counts open files and sockets. A file
//! in a stream can outlive its resource, so files are counted themselves. Sockets are counted in
//! the guest's table. Sockets of a p3 guest that live on only in streams, and sockets that such a
//! stream delivers, are bounded by the sizes of the guest's tables: beyond them the guest traps.

use std::{
    fs::File,
    sync::{Arc, Weak},
};

use runwasi_core::InstanceSpec;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{filesystem::Descriptor, p2, sockets};

use crate::wasi::open::file_of;

/// Number of standard streams.
const STANDARD: usize = 3;
/// Table entries for resources without a file descriptor: clocks, streams, requests.
const OTHERS: usize = 4096;

/// Open files of a guest, and its limit.
pub(super) struct Descriptors {
    limit: usize,
    // Weak, so that the count neither keeps a file open nor needs a notification of its end.
    files: Vec<Weak<File>>,
}

impl Descriptors {
    pub(super) fn new(spec: &InstanceSpec) -> Self {
        // The guest has these open from its start, so they count against its limit.
        let held = STANDARD + spec.rootfs.preopens().count();
        Self { limit: (spec.open_files as usize).saturating_sub(held), files: Vec::new() }
    }

    /// Capacity of each of the guest's resource tables.
    pub(super) fn table_capacity(&self) -> usize {
        self.limit.saturating_mul(2).saturating_add(OTHERS)
    }

    /// Number of files and sockets that a guest with this table may still open.
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

    /// Counts an opened file until it is closed.
    pub(super) fn opened(&mut self, descriptor: &Descriptor) {
        self.files.push(Arc::downgrade(file_of(descriptor)));
    }
}
