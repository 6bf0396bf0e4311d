//! Limit of a guest's open files and sockets: `RLIMIT_NOFILE` of its process. It is checked before
//! each opening.
//!
//! A p2 or p3 guest has no descriptor numbers, so the limit counts open files and sockets. A file
//! in a stream can outlive its resource, so files are counted themselves. Sockets are counted in
//! the guest's table, and those of p3 that live on in streams like files. A listener accepts as
//! long as the last count, and what was closed since, leave [`Room`].

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fs::File,
    sync::{Arc, Weak},
};

use runwasi_core::{
    InstanceSpec,
    resources::descriptors::{self, Held},
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{p2, sockets};

use crate::{
    outbound::room::{OpenFiles, Room, SocketLife},
    wasi::open::open_at_start,
};

/// Entries of the table that one part of a count looks at: less than a millisecond. Other parts add
/// the way to it, two milliseconds for the largest table.
const PART: usize = 64 << 10;

/// Sockets in the table.
const SOCKETS: [TypeId; 4] = [
    TypeId::of::<p2::TcpSocket>(),
    TypeId::of::<p2::UdpSocket>(),
    TypeId::of::<sockets::TcpSocket>(),
    TypeId::of::<sockets::UdpSocket>(),
];

/// A count of the sockets in the table, in parts.
#[derive(Default)]
pub(super) struct Count {
    /// Entries that were looked at.
    entries: usize,
    sockets: usize,
    /// Number of sockets that were made before it.
    made: Option<usize>,
}

/// Open files of a guest, and its limit.
pub(super) struct Descriptors {
    limit: usize,
    files: OpenFiles,
    /// Open files and sockets, as counted at the last opening, in the account of the container.
    counted: Held,
    /// Number of sockets that a listener may accept until the next count.
    room: Arc<Room>,
    /// Number of sockets that were added to the table so far.
    made: usize,
    /// Lives of TCP sockets of p3, by their resources. A socket lives on in its streams.
    lives: HashMap<u32, Weak<SocketLife>>,
}

impl Descriptors {
    pub(super) fn new(spec: &InstanceSpec, counted: Held, room: Arc<Room>) -> Self {
        // The guest has these open from its start, so they count against its limit.
        let limit = spec.open_files.saturating_sub(open_at_start(spec)) as usize;
        let files = OpenFiles::default();
        room.set(limit, &files);
        Self { limit, files, counted, room, made: 0, lives: HashMap::new() }
    }

    /// Goes on with a count of what a guest with this table has open. Returns the number of files
    /// and sockets that it may still open, or nothing if the count is not at its end.
    pub(super) fn count(&mut self, table: &mut ResourceTable, count: &mut Count) -> Option<usize> {
        let made = *count.made.get_or_insert(self.made);
        let mut entries = table.iter_mut().skip(count.entries);
        let sockets = entries.by_ref().take(PART).filter(|entry| {
            let entry: &dyn Any = &**entry;
            SOCKETS.contains(&entry.type_id())
        });
        count.sockets += sockets.count();
        if entries.next().is_some() {
            count.entries += PART;
            return None;
        }
        // Sockets that other tasks of the guest have made during the count are in it, too.
        Some(self.left(count.sockets + (self.made - made)))
    }

    fn left(&mut self, sockets: usize) -> usize {
        let open = self.files.number() + sockets;
        self.counted.set(u32::try_from(open).unwrap_or(u32::MAX));
        let left = self.limit.saturating_sub(open);
        self.room.set(left, &self.files);
        if descriptors::left_for_guests() { left.min(self.counted.left() as usize) } else { 0 }
    }

    /// Counts a socket that was added to the table.
    pub(super) fn made(&mut self) {
        self.made += 1;
    }

    /// The life of the socket with this resource, to be held by a stream of it.
    pub(super) fn life(&mut self, resource: u32) -> Arc<SocketLife> {
        let known = self.lives.get(&resource).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let life = Arc::new(SocketLife);
            self.began(resource, &life);
            life
        })
    }

    /// Notes the life of a socket.
    pub(super) fn began(&mut self, resource: u32, life: &Arc<SocketLife>) {
        self.lives.insert(resource, Arc::downgrade(life));
    }

    /// Counts a dropped resource of a socket, for which a listener may accept one more, unless a
    /// stream still holds the socket.
    pub(super) fn closed(&mut self, resource: u32) {
        let life = self.lives.remove(&resource).and_then(|life| life.upgrade());
        if let Some(life) = life {
            // Counted in the table until now.
            self.files.add(&life);
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use runwasi_core::resources::descriptors::Descriptors as Container;

    use super::*;

    /// Nearly as many as a table has room for.
    const ENTRIES: usize = 900_000;

    fn descriptors(limit: usize) -> Descriptors {
        let container = Arc::new(Container::new(1000));
        let room = Arc::new(Room::new(container.clone()));
        Descriptors {
            limit,
            files: OpenFiles::default(),
            counted: container.hold(),
            room,
            made: 0,
            lives: HashMap::new(),
        }
    }

    /// Number that is left, and of parts of the count.
    fn counted(descriptors: &mut Descriptors, table: &mut ResourceTable) -> (usize, usize) {
        let mut count = Count::default();
        let mut parts = 1;
        loop {
            match descriptors.count(table, &mut count) {
                Some(left) => return (left, parts),
                None => parts += 1,
            }
        }
    }

    #[test]
    fn large_table_is_counted_in_parts() {
        let mut table = ResourceTable::new();
        let mut descriptors = descriptors(10);
        assert_eq!(counted(&mut descriptors, &mut table), (10, 1));
        for _ in 0..ENTRIES {
            table.push(7_u64).unwrap();
        }
        assert_eq!(counted(&mut descriptors, &mut table), (10, ENTRIES.div_ceil(PART)));
        let mut longest = std::time::Duration::ZERO;
        let mut count = Count::default();
        loop {
            let began = Instant::now();
            let left = descriptors.count(&mut table, &mut count);
            longest = longest.max(began.elapsed());
            if left.is_some() {
                break;
            }
        }
        println!("longest part of a count of {ENTRIES} entries: {longest:?}");
    }

    #[test]
    fn sockets_that_are_made_during_a_count_are_in_it() {
        let mut table = ResourceTable::new();
        for _ in 0..=PART {
            table.push(7_u64).unwrap();
        }
        let mut descriptors = descriptors(10);
        let mut count = Count::default();
        assert_eq!(descriptors.count(&mut table, &mut count), None);
        descriptors.made();
        assert_eq!(descriptors.count(&mut table, &mut count), Some(9));
    }

    #[test]
    fn socket_counts_until_its_last_stream_ends() {
        let mut table = ResourceTable::new();
        let mut descriptors = descriptors(2);
        let sending = descriptors.life(5);
        let receiving = descriptors.life(5);
        assert_eq!(counted(&mut descriptors, &mut table).0, 2, "the table counts its resource");
        descriptors.closed(5);
        assert_eq!(counted(&mut descriptors, &mut table).0, 1);
        drop(sending);
        assert_eq!(counted(&mut descriptors, &mut table).0, 1);
        drop(receiving);
        assert_eq!(counted(&mut descriptors, &mut table).0, 2);
        // Another socket with the same number.
        let other = descriptors.life(5);
        drop(other);
        descriptors.closed(5);
        assert_eq!(counted(&mut descriptors, &mut table).0, 2);
    }
}
