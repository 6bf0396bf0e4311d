//! Limit of a guest's open files and sockets: `RLIMIT_NOFILE` of its process. It is checked before
//! each opening.
//!
//! A p2 or p3 guest has no descriptor numbers, so the limit counts open files and sockets. A file
//! in a stream can outlive its resource, so files are counted themselves. Sockets are counted in
//! the guest's table. A listener of p3 accepts as long as the last count has left [`Room`]. Sockets
//! of a p3 guest that live on only in streams are bounded by the sizes of the guest's tables and by
//! its memory limit.

use std::{
    fs::File,
    sync::{Arc, Weak},
};

use runwasi_core::{
    InstanceSpec,
    resources::descriptors::{self, Held},
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{p2, sockets};

use crate::{outbound::Room, wasi::open::open_at_start};

/// Open files of a guest, and its limit.
pub(super) struct Descriptors {
    limit: usize,
    // Weak, so that the count neither keeps a file open nor needs a notification of its end.
    files: Vec<Weak<File>>,
    /// Open files and sockets, as counted at the last opening, in the account of the container.
    counted: Held,
    /// Number of sockets that a listener may accept until the next count.
    room: Arc<Room>,
}

impl Descriptors {
    pub(super) fn new(spec: &InstanceSpec, counted: Held, room: Arc<Room>) -> Self {
        // The guest has these open from its start, so they count against its limit.
        let limit = spec.open_files.saturating_sub(open_at_start(spec)) as usize;
        room.set(limit.min(counted.left() as usize));
        Self { limit, files: Vec::new(), counted, room }
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
        let open = self.files.len() + sockets.count();
        self.counted.set(u32::try_from(open).unwrap_or(u32::MAX));
        let left = self.limit.saturating_sub(open).min(self.counted.left() as usize);
        self.room.set(left);
        if descriptors::left_for_guests() { left } else { 0 }
    }

    /// Counts an opened file until it is closed.
    pub(super) fn opened(&mut self, file: &Arc<File>) {
        self.files.push(Arc::downgrade(file));
    }
}
