//! First size of a guest's heap of collected objects: structs, arrays and exceptions.
//!
//! wasmtime's heap begins with nothing. It is doubled when it is full of objects in use, and a
//! guest ends whose doubled heap does not fit. Two faults follow, which a better first size mends:
//!
//! - A guest that drops most of what it makes has a heap of one page for ever, and collects after
//!   every 32 KiB.
//! - Of a limit between two powers of two, everything above the lower one cannot be used.
//!
//! ```text
//!   first size × 2 × 2 × … × 2 = what the container's limit leaves
//! ```

use wasmtime::{
    ArrayRef, ArrayRefPre, ArrayType, FieldType, GcHeapOutOfMemory, Mutability, RootScope,
    StorageType, Store, Val,
};

use crate::limits::Limited;

/// Page of a heap, in bytes.
const PAGE: u64 = 64 << 10;
/// Largest heap: its references have 32 bits.
const LARGEST: u64 = 4 << 30;
/// Part of the room that the first size is at most, as a power of two: guests that only throw
/// exceptions have a heap as well.
const LEAST_DOUBLINGS: u32 = 3;
/// Less than a page: header and alignment of an array.
const HEADER: u64 = 64;

/// Pages of the first size for a guest that lives as long as its process, at most.
// More would make the collections no cheaper: they cost what is in use, not what is free.
pub(crate) const OF_PROCESS: u64 = 64;
/// The same for a guest that answers requests, of which a container has many at once.
pub(crate) const OF_REQUEST: u64 = 8;

/// Enlarges the heap of a guest that has just been instantiated, if it has one.
pub(crate) fn enlarge<T: Limited + 'static>(
    store: &mut Store<T>,
    most: u64,
) -> wasmtime::Result<()> {
    // None, or one that counts references (see `config`): that frees at once what it can free.
    let present = store.gc_heap_capacity() as u64 / PAGE;
    if present == 0 {
        return Ok(());
    }
    let room = store.data_mut().limits().room() / PAGE;
    let wanted = first_pages(room + present, most);
    // Below twice the size, wasmtime would enlarge it to twice the size.
    if wanted > 2 * present { grow(store, wanted - present) } else { Ok(()) }
}

/// Pages of the first size, with this number of pages below the limit.
fn first_pages(room: u64, most: u64) -> u64 {
    let room = room.min(LARGEST / PAGE);
    let mut doublings = LEAST_DOUBLINGS;
    while room >> doublings > most {
        doublings += 1;
    }
    room >> doublings
}

/// Enlarges the heap by a number of pages.
fn grow<T: Limited + 'static>(store: &mut Store<T>, pages: u64) -> wasmtime::Result<()> {
    // The error of an allocation that does not fit is the only request for more that wasmtime
    // takes. The first attempt must not get more, or it would write to all of it.
    store.data_mut().limits().hold(true);
    let refused = allocate(store, pages);
    store.data_mut().limits().hold(false);
    match refused {
        // Also if another process of the container has taken the room meanwhile: then the heap
        // remains small.
        Err(error) => match error.downcast::<GcHeapOutOfMemory<()>>() {
            Ok(lack) => store.gc(Some(&lack)),
            Err(error) => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

/// Allocates an array for which so many pages are needed.
fn allocate<T: 'static>(store: &mut Store<T>, pages: u64) -> wasmtime::Result<()> {
    // Half of them: an array has to fit into both halves of the heap.
    let length = u32::try_from(pages * PAGE / 2 - HEADER)?;
    let bytes = FieldType::new(Mutability::Const, StorageType::I8);
    let bytes = ArrayType::new(store.engine(), bytes);
    let bytes = ArrayRefPre::new(&mut *store, bytes);
    let mut scope = RootScope::new(store);
    ArrayRef::new(&mut scope, &bytes, &Val::I32(0), length).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runwasi_core::resources::memory::Memory;
    use wasmtime::{Engine, Instance, Module};

    use super::*;
    use crate::{
        config::config,
        limits::Limits,
        settings::{GcCollector, Settings},
        shares::Shares,
    };

    #[test]
    fn first_size_doubles_up_to_the_limit() {
        // 63.5 MiB, 100 MiB, 1 GiB, and no limit.
        for (room, first) in [(1016, 63), (1600, 50), (16_384, 64), (u64::MAX, 64)] {
            assert_eq!(first_pages(room, OF_PROCESS), first, "{room}");
            let mut heap = first;
            while heap * 2 <= room.min(LARGEST / PAGE) {
                heap *= 2;
            }
            assert!(heap >= room.min(LARGEST / PAGE) / 100 * 96, "{heap} of {room}");
        }
        assert_eq!([8, 120].map(|room| first_pages(room, OF_PROCESS)), [1, 15]);
        assert_eq!(first_pages(1016, OF_REQUEST), 7);
    }

    impl Limited for Limits {
        fn limits(&mut self) -> &mut Limits {
            self
        }
    }

    /// Heap of a guest of this text under a limit, before and after the enlargement, in pages.
    async fn heap(text: &str, collector: GcCollector) -> [u64; 2] {
        let settings = Settings { gc_collector: collector, ..Settings::default() };
        let engine = Engine::new(&config(&settings)).unwrap();
        let memory = Arc::new(Memory::new(Some(64 << 20), false));
        let limits = Limits::new(memory.charge(), settings.memory_bytes()).unwrap();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(1);
        let module = Module::new(&engine, text).unwrap();
        Instance::new_async(&mut store, &module, &[]).await.unwrap();
        let before = store.gc_heap_capacity() as u64 / PAGE;
        let used = memory.usage().used;
        enlarge(&mut store, OF_PROCESS).unwrap();
        let after = store.gc_heap_capacity() as u64 / PAGE;
        assert_eq!(memory.usage().used - used, (after - before) * PAGE, "it is charged");
        assert_eq!(memory.usage().failures, 0, "the first attempt is no failure of the guest");
        [before, after]
    }

    #[tokio::test]
    async fn heap_takes_a_memory_of_the_containers_share() {
        let objects = "(type $t (struct)) (func (drop (struct.new $t)))";
        for collector in [GcCollector::Copying, GcCollector::Drc] {
            let settings = Settings { gc_collector: collector, ..Settings::default() };
            let engine = Engine::new(&config(&settings)).unwrap();
            for (text, own, used) in [
                ("(func)", 0, 0),
                ("(memory 1) (memory 0)", 2, 2),
                (objects, 0, 1),
                (format!("(memory 1) (memory 0) {objects}").as_str(), 2, 3),
            ] {
                let shares = Shares::of_ten(own);
                let share = shares.take().unwrap();
                let memory = Arc::new(Memory::new(None, false));
                let limits = Limits::new(memory.charge(), settings.memory_bytes()).unwrap();
                let mut store = Store::new(&engine, limits.count(share.memories()));
                store.limiter(|limits| limits);
                store.set_epoch_deadline(1);
                let module = Module::new(&engine, format!("(module {text})")).unwrap();
                Instance::new_async(&mut store, &module, &[]).await.unwrap();
                assert_eq!(shares.used_memories(), used, "{text}");
                drop((store, share));
                assert_eq!(shares.used_memories(), 0, "{text}");
            }
        }
    }

    #[tokio::test]
    async fn only_a_heap_of_the_copying_collector_is_enlarged() {
        let objects = "(module (type $t (struct)) (func (drop (struct.new $t))))";
        assert_eq!(heap(objects, GcCollector::Copying).await, [1, 63]);
        assert_eq!(heap(objects, GcCollector::Drc).await, [0, 0]);
        assert_eq!(heap("(module (func))", GcCollector::Copying).await, [0, 0]);
    }
}
