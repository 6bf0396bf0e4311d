//! The sandboxes that a daemon serves, by their sockets.

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
};

use runwasi_core::{Id, bootstrap::socket::SocketFile, lock::Mutex, sandbox::Sandbox};
use tokio::sync::OnceCell;

use crate::{journal::Times, state_dir::Record};

/// A sandbox that is served.
pub(crate) struct ServedSandbox {
    pub(crate) sandbox: Sandbox,
    pub(crate) namespace: Id,
    pub(crate) group: Id,
    /// Its socket's file.
    pub(crate) own: Option<SocketFile>,
    pub(crate) record: Record,
    /// Times of its containers.
    pub(crate) times: Arc<Times>,
}

/// The sandboxes of a daemon, including those that are being created.
#[derive(Default)]
pub(crate) struct Sandboxes {
    /// Locked for single look-ups and changes, never across an await.
    map: Mutex<HashMap<PathBuf, Slot>>,
}

/// Single-flight creation of one sandbox: concurrent requests wait for the same cell.
type Slot = Arc<OnceCell<Arc<ServedSandbox>>>;

impl Sandboxes {
    /// The sandbox at `socket`, created by `make` if it does not exist. Of several concurrent calls
    /// one creates it.
    pub(crate) async fn get_or_make<E>(
        &self,
        socket: &Path,
        make: impl Future<Output = Result<Arc<ServedSandbox>, E>>,
    ) -> Result<Arc<ServedSandbox>, E> {
        // Looked up and inserted under one lock: concurrent calls get the same cell.
        let slot = self.map().entry(socket.to_owned()).or_default().clone();
        let unmade = Unmade { sandboxes: self, socket, slot };
        // After a failure, the next waiting call runs its own `make`.
        unmade.slot.get_or_try_init(|| make).await.cloned()
    }

    /// The sandbox at `socket`, unless it is still being created.
    pub(crate) fn get(&self, socket: &Path) -> Option<Arc<ServedSandbox>> {
        self.map().get(socket)?.get().cloned()
    }

    /// Forgets a sandbox, unless another one has taken its place.
    pub(crate) fn forget(&self, served: &Arc<ServedSandbox>) {
        let mut map = self.map();
        // Compared by pointer: `forget` is called twice after a failed removal, and the second time
        // the next sandbox may have the same socket.
        let socket = &served.record.socket;
        if map
            .get(socket)
            .and_then(|slot| slot.get())
            .is_some_and(|known| Arc::ptr_eq(known, served))
        {
            map.remove(socket);
        }
    }

    /// All sandboxes that have been created, sorted by namespace and group.
    pub(crate) fn all(&self) -> Vec<Arc<ServedSandbox>> {
        let mut all: Vec<_> = self.map().values().filter_map(|slot| slot.get().cloned()).collect();
        all.sort_by(|a, b| {
            (a.namespace.as_str(), a.group.as_str()).cmp(&(b.namespace.as_str(), b.group.as_str()))
        });
        all
    }

    /// True without any sandbox, including those that are being created.
    pub(crate) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<PathBuf, Slot>> {
        self.map.lock()
    }
}

/// Removes the entry of a sandbox when its creation has failed or was cancelled and no other call
/// waits for it.
// A drop and not a statement: the future of a call is dropped when its client disconnects.
struct Unmade<'a> {
    sandboxes: &'a Sandboxes,
    socket: &'a Path,
    slot: Slot,
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        // Locked before the count is read: clones are made under this lock only.
        let mut map = self.sandboxes.map();
        // Two owners: the map and this call.
        if !self.slot.initialized()
            && Arc::strong_count(&self.slot) <= 2
            && map.contains_key(self.socket)
        {
            map.remove(self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_or_cancelled_creation_leaves_no_entry() {
        let sandboxes = Sandboxes::default();
        let socket = Path::new("/s");
        let failing = async || {
            sandboxes.get_or_make(socket, async { Err::<Arc<ServedSandbox>, _>("no") }).await.err()
        };
        assert_eq!(failing().await, Some("no"));
        assert!(sandboxes.is_empty());
        assert_eq!(tokio::join!(failing(), failing()), (Some("no"), Some("no")));
        assert!(sandboxes.is_empty());
        let given_up =
            sandboxes.get_or_make(socket, std::future::pending::<Result<Arc<ServedSandbox>, ()>>());
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(10), given_up).await.is_err()
        );
        assert!(sandboxes.is_empty());
    }
}
