//! `wasi:keyvalue`: store, atomics and batch, in memory.
//!
//! All processes of a container and all their instances see the same data; they go with the last process. What is kept is
//! charged to the container's memory and has a bound of its own besides: what does not fit is the guest's error, not its end.
//! Every identifier names a bucket, which is empty at first.
//!
//! (The library's crate for it gives every opening a copy of its own, so nothing one guest sets is seen by another.)

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use runwasi_core::{InstanceSpec, resources::memory::Charge};
use wasmtime::component::{ComponentType, Lift, Lower};

/// What all buckets of a container may hold, whatever its memory limit.
const MAX_BYTES: u64 = 64 << 20;
const MAX_BUCKETS: usize = 64;
const MAX_KEY: usize = 4096;
/// What an entry takes besides its key and value.
const ENTRY: u64 = 128;
/// Keys in one answer of `list-keys`.
const PAGE: usize = 1000;

/// Of the interface.
#[derive(Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// Of the interface: one page of keys, and where the next begins.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// A container's data.
pub(crate) struct Store {
    /// Locked for one operation, so that each is atomic; never across an await.
    data: Mutex<Data>,
}

pub(crate) struct Data {
    buckets: HashMap<String, BTreeMap<String, Vec<u8>>>,
    bytes: u64,
    charge: Charge,
}

/// The store of a container whose processes come and go.
#[derive(Default)]
struct Slot(Mutex<Weak<Store>>);

impl Store {
    /// The container's.
    pub(crate) fn of(spec: &InstanceSpec) -> Arc<Self> {
        let slot = spec.extensions.get_or_make(Slot::default);
        let mut current = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Self::new(spec.memory.charge()));
            *current = Arc::downgrade(&made);
            made
        })
    }

    fn new(charge: Charge) -> Self {
        Self { data: Mutex::new(Data { buckets: HashMap::new(), bytes: 0, charge }) }
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Other(why.into()))
}

impl Data {
    pub(crate) fn open(&mut self, identifier: &str) -> Result<(), Error> {
        if self.buckets.contains_key(identifier) {
            return Ok(());
        }
        if identifier.len() > MAX_KEY || self.buckets.len() >= MAX_BUCKETS {
            return refused(format!(
                "a container has {MAX_BUCKETS} buckets, with names of {MAX_KEY} bytes, and no more"
            ));
        }
        self.take(identifier.len() as u64 + ENTRY)?;
        self.buckets.insert(identifier.to_owned(), BTreeMap::new());
        Ok(())
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<&Vec<u8>> {
        self.buckets.get(bucket)?.get(key)
    }

    pub(crate) fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), Error> {
        if key.len() > MAX_KEY {
            return refused(format!("a key has {MAX_KEY} bytes at most"));
        }
        let before = self.get(bucket, &key).map_or(0, |value| size(&key, value));
        let after = size(&key, &value);
        // Only then is the old one given up: what does not fit changes nothing.
        if after > before {
            self.take(after - before)?;
        } else {
            self.give_back(before - after);
        }
        self.buckets.entry(bucket.to_owned()).or_default().insert(key, value);
        Ok(())
    }

    pub(crate) fn delete(&mut self, bucket: &str, key: &str) {
        let removed = self.buckets.get_mut(bucket).and_then(|entries| entries.remove(key));
        self.give_back(removed.map_or(0, |value| size(key, &value)));
    }

    pub(crate) fn keys(&self, bucket: &str, cursor: Option<u64>) -> KeyResponse {
        let start = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        let mut rest = self.buckets.get(bucket).into_iter().flat_map(BTreeMap::keys).skip(start);
        let keys: Vec<_> = rest.by_ref().take(PAGE).cloned().collect();
        let cursor = rest.next().map(|_| (start + keys.len()) as u64);
        KeyResponse { keys, cursor }
    }

    /// Numbers are kept as text, in decimal.
    pub(crate) fn increment(
        &mut self,
        bucket: &str,
        key: String,
        delta: u64,
    ) -> Result<u64, Error> {
        let current = match self.get(bucket, &key) {
            None => Some(0),
            Some(value) => {
                std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok())
            }
        };
        let Some(current) = current else { return refused("the value is no number") };
        let Some(sum) = current.checked_add(delta) else { return refused("the sum is too large") };
        self.set(bucket, key, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        if self.bytes + bytes > MAX_BYTES {
            return refused(format!("a container's keys and values are {MAX_BYTES} bytes at most"));
        }
        if let Err(error) = self.charge.reserve(bytes) {
            return refused(error.to_string());
        }
        self.bytes += bytes;
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        self.charge.release(bytes);
        self.bytes -= bytes;
    }
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY
}

#[cfg(test)]
mod tests {
    use runwasi_core::resources::memory::Memory;

    use super::*;

    fn store() -> (Arc<Memory>, Store) {
        let memory = Arc::new(Memory::new(Some(100 << 20), false));
        let store = Store::new(memory.charge());
        store.data().open("b").unwrap();
        (memory, store)
    }

    #[test]
    fn what_is_set_is_there_until_it_is_deleted() {
        let (memory, store) = store();
        let empty = memory.usage().used;
        let mut data = store.data();
        data.set("b", "k".into(), b"one".to_vec()).unwrap();
        data.set("b", "k".into(), b"a longer one".to_vec()).unwrap();
        data.set("b", "k".into(), b"two".to_vec()).unwrap();
        assert_eq!(data.get("b", "k"), Some(&b"two".to_vec()));
        assert_eq!(data.get("other", "k"), None);
        assert_eq!(memory.usage().used, empty + size("k", b"two"));
        data.delete("b", "k");
        data.delete("b", "k");
        assert_eq!((data.get("b", "k"), memory.usage().used), (None, empty));
        drop(data);
        drop(store);
        assert_eq!(memory.usage().used, 0);
    }

    #[test]
    fn numbers_are_counted_up_and_nothing_else_is() {
        let (_, store) = store();
        let mut data = store.data();
        assert_eq!(data.increment("b", "n".into(), 2), Ok(2));
        assert_eq!(data.increment("b", "n".into(), 40), Ok(42));
        assert_eq!(data.get("b", "n"), Some(&b"42".to_vec()));
        assert!(data.increment("b", "n".into(), u64::MAX).is_err());
        data.set("b", "text".into(), b"x".to_vec()).unwrap();
        assert!(data.increment("b", "text".into(), 1).is_err());
        assert_eq!(data.get("b", "n"), Some(&b"42".to_vec()));
    }

    #[test]
    fn keys_are_listed_in_pages() {
        let (_, store) = store();
        let mut data = store.data();
        for n in 0..PAGE + 5 {
            data.set("b", format!("{n:05}"), Vec::new()).unwrap();
        }
        let first = data.keys("b", None);
        assert_eq!((first.keys.len(), first.cursor), (PAGE, Some(PAGE as u64)));
        let last = data.keys("b", first.cursor);
        assert_eq!((last.keys.len(), last.cursor), (5, None));
        assert_eq!(last.keys[0], format!("{PAGE:05}"));
        let beyond = data.keys("b", Some(u64::MAX));
        assert!(beyond.keys.is_empty() && beyond.cursor.is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let (memory, store) = store();
        let mut data = store.data();
        data.set("b", "k".into(), vec![1; 1 << 20]).unwrap();
        let used = memory.usage().used;
        assert!(data.set("b", "k".into(), vec![2; 65 << 20]).is_err(), "the bound of the store");
        let mut others = memory.charge();
        others.reserve(90 << 20).unwrap();
        assert!(data.set("b", "k".into(), vec![2; 20 << 20]).is_err(), "the container's memory");
        drop(others);
        assert_eq!(data.get("b", "k").map(|value| value[0]), Some(1));
        assert_eq!(memory.usage().used, used);
        assert!(data.set("b", "k".repeat(MAX_KEY + 1), Vec::new()).is_err());
        for n in 1..MAX_BUCKETS {
            data.open(&format!("more{n}")).unwrap();
        }
        assert!(data.open("one too many").is_err());
        assert!(data.open("b").is_ok());
    }
}
