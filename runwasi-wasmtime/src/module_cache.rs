//! What guests of this OS process run, or ran lately: all guests of an image share one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runwasi_core::{artifact::FileIdentity, digest::Digest};
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
pub(crate) struct ModuleCache {
    /// Locked for look-ups.
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    /// The most recently used last.
    ready: Vec<(Digest, Arc<Ready>)>,
    /// Files that need not be read again to know what they hold.
    known: HashMap<FileIdentity, Digest>,
}

impl ModuleCache {
    /// What a file holds that was read before.
    pub(crate) fn of_file(&self, identity: &FileIdentity) -> Option<Arc<Ready>> {
        let mut entries = self.lock();
        let digest = *entries.known.get(identity)?;
        entries.get(&digest)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Ready>> {
        self.lock().get(digest)
    }

    /// Of two who have loaded the same, the first counts.
    pub(crate) fn put(&self, digest: Digest, ready: Ready) -> Arc<Ready> {
        let mut entries = self.lock();
        if let Some(known) = entries.get(&digest) {
            return known;
        }
        let oldest = (entries.ready.len() == KEPT).then(|| entries.ready.remove(0));
        let ready = Arc::new(ready);
        entries.ready.push((digest, ready.clone()));
        drop(entries);
        // Not under the lock: unmapping takes its time.
        drop(oldest);
        ready
    }

    /// That the file with this identity holds this.
    pub(crate) fn remember(&self, identity: FileIdentity, digest: Digest) {
        let mut entries = self.lock();
        if entries.known.len() == KNOWN {
            entries.known.clear();
        }
        entries.known.insert(identity, digest);
    }

    /// Drops what is run by nobody; with it goes what the instance pool keeps mapped of it.
    pub(crate) fn forget_unused(&self) {
        let mut entries = self.lock();
        let unused = entries
            .ready
            .extract_if(.., |(_, ready)| Arc::strong_count(ready) == 1)
            .collect::<Vec<_>>();
        drop(entries);
        drop(unused);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Ready>> {
        let place = self.ready.iter().rposition(|(known, _)| known == digest)?;
        let found = self.ready.remove(place);
        let ready = found.1.clone();
        self.ready.push(found);
        Some(ready)
    }
}
