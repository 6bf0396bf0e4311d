//! Cache of linked code in this OS process: guests of one program share its code.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use runwasi_core::{artifact::FileIdentity, digest::Digest, lock::Mutex};
use wasmtime::{InstancePre, component};

use crate::{component::store::Component, module::store::Guest};

/// Most entries of linked code. Each entry holds a mapped file and some bookkeeping.
const KEPT: usize = 256;
/// Most entries of file identities.
const KNOWN: usize = 4096;

/// Interval between two notes on the disk that linked code is used.
const REFRESH: Duration = Duration::from_secs(60);

/// Compiled code, linked with its imports and ready to instantiate. Its guests keep it alive.
pub(crate) enum Ready {
    Module(InstancePre<Guest>),
    Component(component::InstancePre<Component>),
}

/// Cache of linked code. Clones share all entries.
#[derive(Clone, Default)]
pub(crate) struct ModuleCache {
    /// Locked for single lookups and changes.
    // A blocking mutex suffices: no holder waits or unmaps code.
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    /// Linked code, the most recently used entry last.
    ready: Vec<Entry>,
    /// Digests of files that need not be read again.
    known: HashMap<FileIdentity, Digest>,
}

struct Entry {
    digest: Digest,
    ready: Arc<Ready>,
    /// Time of the last use that the disk has.
    refreshed: Instant,
}

impl ModuleCache {
    /// Linked code of a file, if its digest is known.
    pub(crate) fn of_file(&self, identity: &FileIdentity) -> Option<Arc<Ready>> {
        let mut entries = self.entries.lock();
        let digest = *entries.known.get(identity)?;
        entries.get(&digest)
    }

    /// The digest of linked code that is still cached.
    pub(crate) fn digest_of(&self, ready: &Arc<Ready>) -> Option<Digest> {
        let entries = self.entries.lock();
        // From the end, where the most recently used entries are.
        let entry = entries.ready.iter().rev().find(|entry| Arc::ptr_eq(&entry.ready, ready))?;
        Some(entry.digest)
    }

    /// The digest of linked code whose use the caller has to note on the disk.
    // Other processes evict by the times there, and see no use of code in this memory.
    pub(crate) fn due(&self, ready: &Arc<Ready>, now: Instant) -> Option<Digest> {
        let mut entries = self.entries.lock();
        let mut known = entries.ready.iter_mut().rev();
        let entry = known.find(|entry| Arc::ptr_eq(&entry.ready, ready))?;
        if now.saturating_duration_since(entry.refreshed) < REFRESH {
            return None;
        }
        entry.refreshed = now;
        Some(entry.digest)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Ready>> {
        self.entries.lock().get(digest)
    }

    /// Adds linked code and returns the cached entry. Evicts the entry unused for longest.
    pub(crate) fn put(&self, digest: Digest, ready: Ready) -> Arc<Ready> {
        let mut entries = self.entries.lock();
        // Two threads may have loaded the same code. The first entry counts.
        if let Some(known) = entries.get(&digest) {
            return known;
        }
        let oldest = (entries.ready.len() == KEPT).then(|| entries.ready.remove(0));
        let ready = Arc::new(ready);
        // It comes from the disk, or goes there.
        entries.ready.push(Entry { digest, ready: ready.clone(), refreshed: Instant::now() });
        drop(entries);
        // Dropped after the lock, because unmapping code takes time.
        drop(oldest);
        ready
    }

    /// Records the digest of a file.
    pub(crate) fn remember(&self, identity: FileIdentity, digest: Digest) {
        let mut entries = self.entries.lock();
        // Cleared as a whole, because a lost entry costs only one more read of its file.
        if entries.known.len() == KNOWN {
            entries.known.clear();
        }
        entries.known.insert(identity, digest);
    }

    /// Removes all code that no guest runs, with the memory images the instance pool keeps mapped.
    pub(crate) fn forget_unused(&self) {
        let mut entries = self.entries.lock();
        let unused = entries
            .ready
            .extract_if(.., |entry| Arc::strong_count(&entry.ready) == 1)
            .collect::<Vec<_>>();
        drop(entries);
        // Dropped after the lock, because unmapping code takes time.
        drop(unused);
    }
}

impl Entries {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Ready>> {
        // From the end, where the most recently used entries are.
        let place = self.ready.iter().rposition(|entry| entry.digest == *digest)?;
        let found = self.ready.remove(place);
        let ready = found.ready.clone();
        self.ready.push(found);
        Some(ready)
    }
}
