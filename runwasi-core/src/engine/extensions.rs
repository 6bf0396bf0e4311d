//! What an engine keeps for a container, beyond one process: made by its first process that asks, shared with its execs, gone
//! with the container. Part of [`InstanceSpec`](crate::InstanceSpec).

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// One value of each type an engine asks for. Starts empty.
#[derive(Default)]
pub struct Extensions {
    /// Locked for a look, or for the making of a value.
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Extensions {
    /// The container's value of this type. `make` is called if there is none yet; it must not ask for another.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
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
        let one = extensions.get_or_make(|| 1u32);
        assert!(Arc::ptr_eq(&one, &extensions.get_or_make(|| 2u32)));
        assert_eq!((*one, *extensions.get_or_make(|| 3u64)), (1, 3));
        let weak = Arc::downgrade(&one);
        drop((one, extensions));
        assert!(weak.upgrade().is_none());
    }
}
