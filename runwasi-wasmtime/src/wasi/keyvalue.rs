//! Data of `wasi:keyvalue` in memory, for its interfaces store, atomics and batch.
//!
//! All processes of a container and all their instances share the data, which is dropped with the
//! last process. Entries are charged to the container's memory and have a bound of their own. An
//! entry that does not fit is an error for the guest and does not end it. Every identifier names a
//! bucket, which is empty at first.
//!
//! (wasmtime's own crate gives each opening a copy of the data, so guests do not see each other's
//! entries.)

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, MutexGuard, Weak},
};

use runwasi_core::{InstanceSpec, lock::Mutex, resources::memory::Charge};
use wasmtime::component::{ComponentType, Lift, Lower};

/// Most bytes in all buckets of a container, for any memory limit.
const MAX_BYTES: u64 = 64 << 20;
const MAX_BUCKETS: usize = 64;
const MAX_KEY: usize = 4096;
/// Most bytes of the values of one call: some milliseconds to copy them from or to the guest.
const MAX_VALUES: usize = 8 << 20;
/// Overhead of an entry besides its key and value, in bytes.
const ENTRY: u64 = 128;
/// Most keys in one result of `list-keys`.
const PAGE: usize = 1000;
/// Most keys in one call of `batch`: a millisecond of lookups.
const BATCH: usize = 4096;

/// `error` of the interface.
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

/// `key-response` of the interface: one page of keys, and the cursor of the next page.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct KeyResponse {
    keys: Vec<Arc<str>>,
    cursor: Option<u64>,
}

/// A stored value.
// Shared with results: a copy for each would be charged to the container, too.
pub(crate) type Value = Arc<Vec<u8>>;

/// A container's data.
pub(crate) struct Store {
    /// Locked for one operation at a time, so that each is atomic. Never held across an await.
    data: Mutex<Data>,
}

pub(crate) struct Data {
    buckets: HashMap<String, Bucket>,
    bytes: u64,
    charge: Charge,
}

/// Entries of a bucket, each with a number that no other of it has had.
#[derive(Default)]
struct Bucket {
    // No hash table: it is moved in one piece when it grows.
    entries: BTreeMap<Arc<str>, (u64, Value)>,
    /// The keys by their numbers. A cursor of `list-keys` is a number, so that a guest that sets
    /// and deletes entries meanwhile misses no other, and no page is looked for from the begin.
    keys: BTreeMap<u64, Arc<str>>,
    /// Number of the last new entry.
    last: u64,
}

impl Bucket {
    fn set(&mut self, key: String, value: Value) {
        if let Some((_, old)) = self.entries.get_mut(key.as_str()) {
            *old = value;
            return;
        }
        let key = Arc::<str>::from(key);
        self.last += 1;
        self.keys.insert(self.last, key.clone());
        self.entries.insert(key, (self.last, value));
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        let (number, value) = self.entries.remove(key)?;
        self.keys.remove(&number);
        Some(value)
    }
}

/// Current store of a container, shared by its running processes.
// Weak: the data goes with the last process, and a later process starts with an empty store.
#[derive(Default)]
struct Slot(Mutex<Weak<Store>>);

impl Store {
    /// Returns the container's store.
    pub(crate) fn of(spec: &InstanceSpec) -> Arc<Self> {
        // Under one lock, so that two processes that start at once share one store.
        let slot = spec.extensions.get_or_make(Slot::default);
        let mut current = slot.0.lock();
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
        self.data.lock()
    }
}

/// Refuses a call of `batch` with too many keys.
pub(crate) fn fits_batch(keys: usize) -> Result<(), Error> {
    if keys > BATCH {
        return refused(format!("a call has {keys} keys, and {BATCH} are allowed"));
    }
    Ok(())
}

/// An error if the values of one call have too many bytes.
pub(crate) fn fits_values(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_VALUES {
        return refused(format!(
            "a call has values of {bytes} bytes, and {MAX_VALUES} are allowed"
        ));
    }
    Ok(())
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
        // Charged before the insertion, so a refused bucket does not exist.
        self.reserve(identifier.len() as u64 + ENTRY)?;
        self.buckets.insert(identifier.to_owned(), Bucket::default());
        Ok(())
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<&Value> {
        self.buckets.get(bucket)?.entries.get(key).map(|(_, value)| value)
    }

    /// The values of several keys. An error if they have more bytes than the guest can get.
    pub(crate) fn get_many(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Value)>>, Error> {
        // The guest gets a copy of each, also of a value that it asks for several times.
        // A value of the largest size fits with its key.
        let all = (MAX_VALUES + MAX_KEY) as u64 + ENTRY;
        let most = all.min(self.charge.memory().room());
        let mut bytes = 0;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.get(bucket, &key).cloned();
            bytes += value.as_ref().map_or(0, |value| size(&key, value));
            if bytes > most {
                return refused(format!(
                    "the values have more than {most} bytes, which is the rest of the container's \
                     memory limit (resources.memory.limit), {all} at most"
                ));
            }
            found.push(value.map(|value| (key, value)));
        }
        Ok(found)
    }

    pub(crate) fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), Error> {
        if key.len() > MAX_KEY {
            return refused(format!("a key has {MAX_KEY} bytes at most"));
        }
        let before = self.get(bucket, &key).map_or(0, |value| size(&key, value));
        let after = size(&key, &value);
        // Before the insertion: a value that does not fit leaves the old value in place.
        if after > before {
            self.reserve(after - before)?;
        } else {
            self.release(before - after);
        }
        self.buckets.entry(bucket.to_owned()).or_default().set(key, value.into());
        Ok(())
    }

    pub(crate) fn delete(&mut self, bucket: &str, key: &str) {
        let removed = self.buckets.get_mut(bucket).and_then(|bucket| bucket.remove(key));
        // A missing key is not an error of the interface and has nothing to release.
        self.release(removed.map_or(0, |value| size(key, &value)));
    }

    /// A page of keys behind the cursor, in the order in which they were set first.
    pub(crate) fn keys(&self, bucket: &str, cursor: Option<u64>) -> KeyResponse {
        // Guests choose it freely; beyond the last number it is harmless.
        let behind = (Bound::Excluded(cursor.unwrap_or(0)), Bound::Unbounded);
        let bucket = self.buckets.get(bucket).into_iter();
        let mut rest = bucket.flat_map(|bucket| bucket.keys.range(behind));
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let last = page.last().map(|(number, _)| **number);
        let cursor = rest.next().and(last);
        KeyResponse { keys: page.into_iter().map(|(_, key)| key.clone()).collect(), cursor }
    }

    /// Adds `delta` to a number, which is stored as decimal text. A missing number counts as 0.
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

    fn reserve(&mut self, bytes: u64) -> Result<(), Error> {
        if self.bytes + bytes > MAX_BYTES {
            return refused(format!("a container's keys and values are {MAX_BYTES} bytes at most"));
        }
        // The allocator has charged them, too.
        if let Err(error) = self.charge.reserve_host(bytes) {
            return refused(error.to_string());
        }
        self.bytes += bytes;
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        self.charge.release_host(bytes);
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
    fn a_batch_has_a_limited_number_of_keys() {
        assert_eq!(fits_batch(BATCH), Ok(()));
        let refused = fits_batch(1_000_000).unwrap_err();
        let told = "a call has 1000000 keys, and 4096 are allowed";
        assert_eq!(refused, Error::Other(told.into()));
    }

    #[test]
    fn entries_exist_and_are_charged_until_deletion() {
        let (memory, store) = store();
        let empty = memory.usage().used;
        let mut data = store.data();
        data.set("b", "k".into(), b"one".to_vec()).unwrap();
        data.set("b", "k".into(), b"a longer one".to_vec()).unwrap();
        data.set("b", "k".into(), b"two".to_vec()).unwrap();
        assert_eq!(data.get("b", "k"), Some(&b"two".to_vec().into()));
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
    fn only_numbers_are_incremented() {
        let (_, store) = store();
        let mut data = store.data();
        assert_eq!(data.increment("b", "n".into(), 2), Ok(2));
        assert_eq!(data.increment("b", "n".into(), 40), Ok(42));
        assert_eq!(data.get("b", "n"), Some(&b"42".to_vec().into()));
        assert!(data.increment("b", "n".into(), u64::MAX).is_err());
        data.set("b", "text".into(), b"x".to_vec()).unwrap();
        assert!(data.increment("b", "text".into(), 1).is_err());
        assert_eq!(data.get("b", "n"), Some(&b"42".to_vec().into()));
    }

    #[test]
    fn keys_are_listed_in_pages() {
        let (_, store) = store();
        let mut data = store.data();
        for n in 0..PAGE + 5 {
            data.set("b", format!("{n:05}"), Vec::new()).unwrap();
        }
        // An entry keeps its place.
        data.set("b", "00000".into(), b"again".to_vec()).unwrap();
        let first = data.keys("b", None);
        assert_eq!((first.keys.len(), &*first.keys[0]), (PAGE, "00000"));
        let last = data.keys("b", first.cursor);
        assert_eq!((last.keys.len(), last.cursor), (5, None));
        assert_eq!(*last.keys[0], format!("{PAGE:05}"));
        for beyond in [data.keys("b", Some(u64::MAX)), data.keys("other", None)] {
            assert!(beyond.keys.is_empty() && beyond.cursor.is_none());
        }
    }

    #[test]
    fn keys_that_are_deleted_while_they_are_listed_hide_no_others() {
        let (memory, store) = store();
        let empty = memory.usage().used;
        let mut data = store.data();
        let number = 3 * PAGE + 5;
        (0..number).for_each(|n| data.set("b", format!("{n}"), Vec::new()).unwrap());
        let mut found = 0;
        let mut cursor = None;
        loop {
            let page = data.keys("b", cursor);
            found += page.keys.len();
            page.keys.iter().for_each(|key| data.delete("b", key));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((found, memory.usage().used), (number, empty));
        assert!(data.keys("b", None).keys.is_empty());
    }

    #[test]
    fn results_are_bounded_by_the_rest_of_the_memory() {
        let (memory, store) = store();
        let mut data = store.data();
        data.set("b", "k".into(), vec![1; 1 << 20]).unwrap();
        let wanted = |times: usize| vec!["k".to_owned(); times];
        let found = data.get_many("b", wanted(7)).unwrap();
        assert!(found.iter().all(|found| found.as_ref().is_some_and(|(_, value)| value[0] == 1)));
        let Err(Error::Other(reason)) = data.get_many("b", wanted(400)) else { panic!() };
        assert!(reason.contains("resources.memory.limit"), "{reason}");
        let mut others = memory.charge();
        others.reserve(96 << 20).unwrap();
        assert!(data.get_many("b", wanted(5)).is_err());
        assert_eq!(data.get_many("b", vec!["absent".into(); 3]), Ok(vec![None, None, None]));
    }

    #[test]
    fn values_of_one_call_are_bounded() {
        assert_eq!(fits_values(MAX_VALUES), Ok(()));
        assert!(fits_values(MAX_VALUES + 1).is_err());
    }

    #[test]
    fn a_refused_entry_leaves_the_data_unchanged() {
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
