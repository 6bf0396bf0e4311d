//! Limit of a guest's open files and sockets: `RLIMIT_NOFILE` of its process. It is checked before
//! each opening.
//!
//! A p2 or p3 guest has no descriptor numbers, so the limit counts open files and sockets. A file
//! in a stream can outlive its resource, so files are counted themselves. Sockets are counted in
//! the guest's table. A listener accepts as long as the last count, and what was closed since, leave
//! [`Room`]. Sockets of a p3 guest that live on only in streams are bounded by the sizes of the
//! guest's tables and by its memory limit.

use std::{fs::File, sync::Arc};

use runwasi_core::{
    InstanceSpec,
    resources::descriptors::{self, Held},
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{p2, sockets};

use crate::{
    outbound::room::{OpenFiles, Room},
    wasi::open::open_at_start,
};

/// Open files of a guest, and its limit.
pub(super) struct Descriptors {
    limit: usize,
    files: OpenFiles,
    /// Open files and sockets, as counted at the last opening, in the account of the container.
    counted: Held,
    /// Number of sockets that a listener may accept until the next count.
    room: Arc<Room>,
}

impl Descriptors {
    pub(super) fn new(spec: &InstanceSpec, counted: Held, room: Arc<Room>) -> Self {
        // The guest has these open from its start, so they count against its limit.
        let limit = spec.open_files.saturating_sub(open_at_start(spec)) as usize;
        let files = OpenFiles::default();
        room.set(limit, &files);
        Self { limit, files, counted, room }
    }

    /// Number of files and sockets that a guest with this table may still open.
    pub(super) fn left(&mut self, table: &mut ResourceTable) -> usize {
        let sockets = table.iter_mut().filter(|entry| {
            entry.is::<p2::TcpSocket>()
                || entry.is::<p2::UdpSocket>()
                || entry.is::<sockets::TcpSocket>()
                || entry.is::<sockets::UdpSocket>()
        });
        let open = self.files.number() + sockets.count();
        self.counted.set(u32::try_from(open).unwrap_or(u32::MAX));
        let left = self.limit.saturating_sub(open);
        self.room.set(left, &self.files);
        if descriptors::left_for_guests() { left.min(self.counted.left() as usize) } else { 0 }
    }

    /// Counts a dropped socket, for which a listener may accept one more.
    pub(super) fn closed(&mut self) {
        if !self.room.closed() {
            self.counted.remove();
        }
    }

    /// Counts an opened file until it is closed.
    pub(super) fn opened(&mut self, file: &Arc<File>) {
        self.files.add(file);
        self.room.opened();
    }
}
