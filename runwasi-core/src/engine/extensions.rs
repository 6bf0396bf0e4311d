//! Values of an engine, or of its embedder, for one container. The first process that needs a value
//! creates it, execs share it, and it is dropped with the container. Part of
//! [`InstanceSpec`](crate::InstanceSpec).

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use crate::lock::Mutex;

/// At most one value of each type. Empty at first.
#[derive(Default)]
pub struct Extensions {
    // Locked for lookups and during the creation of a value, so that concurrent processes get one
    // value.
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Extensions {
    /// Returns the container's value of this type, if it has one.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let values = self.values.lock();
        values.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Returns the container's value of this type, and creates it with `make` if it is missing.
    /// `make` must not use these extensions.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        // `make` runs under the lock, which a nested call would wait for forever.
        let mut values = self.values.lock();
        if let Some(extensions) = values.get(&TypeId::of::<T>())
            && let Ok(extensions) = extensions.clone().downcast()
        {
            return extensions;
        }
        let made = Arc::new(make());
        values.insert(TypeId::of::<T>(), made.clone());
        made
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_type() {
        let extensions = Extensions::default();
        assert_eq!(extensions.get::<u32>(), None);
        let one = extensions.get_or_make(|| 1u32);
        assert!(Arc::ptr_eq(&one, &extensions.get_or_make(|| 2u32)));
        assert_eq!((*one, *extensions.get_or_make(|| 3u64)), (1, 3));
        assert_eq!(extensions.get::<u32>().as_deref(), Some(&1));
        let weak = Arc::downgrade(&one);
        drop((one, extensions));
        assert!(weak.upgrade().is_none());
    }
}
