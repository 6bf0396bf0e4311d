//! What guests of this OS process run, or ran lately: all guests of an image share one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runwasi_core::image::{Digest, Identity};
use wasmtime::{InstancePre, component};

use crate::{component::store::Component, module::store::Guest};

/// Modules kept for the next guest; each holds a mapped file and some bookkeeping.
const KEPT: usize = 256;
/// Files that are remembered.
const KNOWN: usize = 4096;

/// Code that only has to be instantiated: linked with what guests may import. Kept by its guests.
pub(crate) enum Ready {
    Module(InstancePre<Guest>),
    Component(component::InstancePre<Component>),
}

/// All clones speak of the same.
#[derive(Clone, Default)]
pub(crate) struct Loaded {
    /// Locked for look-ups.
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    /// The most recently used last.
    ready: Vec<(Digest, Arc<Ready>)>,
    /// Files that need not be read again to know what they hold.
    known: HashMap<Identity, Digest>,
}

impl Loaded {
    /// What a file holds that was read before.
    pub(crate) fn of_file(&self, identity: &Identity) -> Option<Arc<Ready>> {
        let mut shelf = self.lock();
        let digest = *shelf.known.get(identity)?;
        shelf.get(&digest)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Ready>> {
        self.lock().get(digest)
    }

    /// Of two who have loaded the same, the first counts.
    pub(crate) fn put(&self, digest: Digest, ready: Ready) -> Arc<Ready> {
        let mut shelf = self.lock();
        if let Some(known) = shelf.get(&digest) {
            return known;
        }
        let oldest = (shelf.ready.len() == KEPT).then(|| shelf.ready.remove(0));
        let ready = Arc::new(ready);
        shelf.ready.push((digest, ready.clone()));
        drop(shelf);
        // Not under the lock: unmapping takes its time.
        drop(oldest);
        ready
    }

    /// That the file with this identity holds this.
    pub(crate) fn remember(&self, identity: Identity, digest: Digest) {
        let mut shelf = self.lock();
        if shelf.known.len() == KNOWN {
            shelf.known.clear();
        }
        shelf.known.insert(identity, digest);
    }

    /// Drops what is run by nobody; with it goes what the instance pool keeps mapped of it.
    pub(crate) fn forget_unused(&self) {
        let mut shelf = self.lock();
        let unused = shelf.ready.extract_if(.., |(_, ready)| Arc::strong_count(ready) == 1).collect::<Vec<_>>();
        drop(shelf);
        drop(unused);
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Ready>> {
        let place = self.ready.iter().rposition(|(known, _)| known == digest)?;
        let found = self.ready.remove(place);
        let ready = found.1.clone();
        self.ready.push(found);
        Some(ready)
    }
}
