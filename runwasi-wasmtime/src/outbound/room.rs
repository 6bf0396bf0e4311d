//! Sockets that a listener may accept without a call of its guest, and so without a count of what
//! the guest has open.
//!
//! ```text
//!   count ─▶ what the process and its container may still open
//!     − accepted since
//!     + sockets dropped since, which the store tells
//!     − files opened since, + files closed since, which are looked at
//! ```

use std::{
    any::Any,
    sync::{Arc, Weak},
    time::Duration,
};

use runwasi_core::{
    lock::Mutex,
    resources::descriptors::{self, Descriptors},
};
use tokio::time::sleep;

/// Interval between looks for a descriptor that was closed.
const LOOK: Duration = Duration::from_millis(20);

/// Open files of a store, and sockets that only streams hold. Cheap to clone.
// Weak, so that the count neither keeps a file open nor needs a notification of its end: a stream
// may be the last to hold it. A mutex, because the store adds files, and a listener looks at them.
#[derive(Clone, Default)]
pub(crate) struct OpenFiles(Arc<Mutex<Vec<Weak<dyn Any + Send + Sync>>>>);

impl OpenFiles {
    /// Counts a file until it is closed.
    pub(crate) fn add<T: Any + Send + Sync>(&self, file: &Arc<T>) {
        let file = Arc::downgrade(file);
        self.0.lock().push(file);
    }

    /// Number of open files.
    pub(crate) fn number(&self) -> usize {
        self.forget_closed();
        self.0.lock().len()
    }

    /// Number of files that were closed since the last look.
    fn forget_closed(&self) -> usize {
        let mut files = self.0.lock();
        let before = files.len();
        files.retain(|file| file.strong_count() > 0);
        before - files.len()
    }
}

/// Held by what keeps a socket of p3 open: its resource, its streams, and a stream of those that it
/// accepts.
pub(crate) struct SocketLife;

/// Number of sockets that a process may still accept.
pub(crate) struct Room {
    /// Account of the container's descriptors, with those of the last count.
    container: Arc<Descriptors>,
    // A mutex, since the numbers change together.
    since: Mutex<Since>,
}

/// Changes since the last count.
#[derive(Default)]
struct Since {
    /// Descriptors that the limit of the process leaves.
    left: usize,
    /// Open descriptors that the account of the container lacks; negative if it has closed ones.
    unaccounted: i64,
    /// Files of the count.
    files: OpenFiles,
}

impl Room {
    /// No room until the first count.
    pub(crate) fn new(container: Arc<Descriptors>) -> Self {
        Self { container, since: Mutex::default() }
    }

    /// Begins anew after a count of the process's open descriptors, these files among them. `left`
    /// is what its own limit leaves.
    pub(crate) fn set(&self, left: usize, files: &OpenFiles) {
        *self.since.lock() = Since { left, unaccounted: 0, files: files.clone() };
    }

    /// Counts a file that was opened since the count, and is among its files.
    pub(crate) fn opened(&self) {
        let mut since = self.since.lock();
        since.left = since.left.saturating_sub(1);
        since.unaccounted += 1;
    }

    /// Counts a dropped socket. True for one that was accepted since the count, and is not in the
    /// account of the container.
    pub(crate) fn closed(&self) -> bool {
        let mut since = self.since.lock();
        since.left += 1;
        let accepted = since.unaccounted > 0;
        since.unaccounted -= i64::from(accepted);
        accepted
    }

    /// Waits for room and takes it.
    pub(super) async fn taken(&self) -> bool {
        while !descriptors::left_for_guests() || !self.take() {
            // Descriptors are closed by other stores, and by the host: nothing notifies of them
            // all.
            sleep(LOOK).await;
        }
        true
    }

    /// Takes room for one socket, if there is any.
    fn take(&self) -> bool {
        let mut since = self.since.lock();
        let closed = since.files.forget_closed();
        since.left += closed;
        since.unaccounted -= i64::try_from(closed).unwrap_or_default();
        let fits = since.left > 0 && i64::from(self.container.left()) > since.unaccounted;
        if fits {
            since.left -= 1;
            since.unaccounted += 1;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A room of which a container has so many descriptors.
    fn room(container: u32) -> (Arc<Descriptors>, Room) {
        let container = Arc::new(Descriptors::new(container));
        (container.clone(), Room::new(container))
    }

    fn file() -> Arc<File> {
        Arc::new(File::open("/dev/null").unwrap())
    }

    #[test]
    fn dropped_socket_makes_room_for_one_more() {
        let (_, room) = room(100);
        room.set(2, &OpenFiles::default());
        assert!(room.take() && room.take() && !room.take());
        room.closed();
        assert!(room.take() && !room.take());
    }

    #[test]
    fn closed_file_makes_room_for_one_more() {
        let (_, room) = room(100);
        let opened = [file(), file()];
        let files = OpenFiles::default();
        opened.iter().for_each(|file| files.add(file));
        assert_eq!(files.number(), 2);
        room.set(0, &files);
        // A stream holds it after the drop of its resource.
        let held = opened[0].clone();
        assert!(!room.take());
        drop(opened);
        assert!(room.take() && !room.take());
        drop(held);
        assert!(room.take() && !room.take());
    }

    #[test]
    fn file_that_is_opened_after_the_count_takes_room() {
        let (_, room) = room(100);
        let files = OpenFiles::default();
        room.set(1, &files);
        let file = file();
        files.add(&file);
        room.opened();
        assert!(!room.take());
        drop(file);
        assert!(room.take() && !room.take());
    }

    #[test]
    fn descriptors_that_another_process_closes_make_room() {
        let (container, room) = room(3);
        let mut other = container.hold();
        other.set(3);
        room.set(9, &OpenFiles::default());
        assert!(!room.take());
        other.set(1);
        assert!(room.take() && room.take() && !room.take());
        assert!(room.closed(), "the account of the container lacks it");
        assert!(room.take() && !room.take());
    }

    #[test]
    fn file_that_is_closed_makes_room_in_the_container() {
        let (container, room) = room(1);
        let mut own = container.hold();
        let file = file();
        let files = OpenFiles::default();
        files.add(&file);
        own.set(1);
        room.set(9, &files);
        assert!(!room.take());
        drop(file);
        // Still in the account of the container.
        assert!(room.take());
        assert!(!room.take());
    }
}
