//! The sandboxes that a daemon serves, by their sockets.

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runwasi_core::{Id, bootstrap::socket::SocketFile, sandbox::Sandbox};
use tokio::sync::OnceCell;

use crate::state_dir::Record;

/// A sandbox that is served.
pub(crate) struct ServedSandbox {
    pub(crate) sandbox: Sandbox,
    pub(crate) namespace: Id,
    pub(crate) group: Id,
    /// Its socket's file.
    pub(crate) own: Option<SocketFile>,
    pub(crate) record: Record,
}

/// All sandboxes, those being made included.
#[derive(Default)]
pub(crate) struct Sandboxes {
    /// Locked for single look-ups and changes, never across an await.
    map: Mutex<HashMap<PathBuf, Slot>>,
}

/// Filled once: who asks for a sandbox that is being made waits for it.
type Slot = Arc<OnceCell<Arc<ServedSandbox>>>;

impl Sandboxes {
    /// The sandbox behind `socket`; if there is none, the one that `make` makes. Of several callers at once one makes it.
    pub(crate) async fn get_or_make<E>(
        &self,
        socket: &Path,
        make: impl Future<Output = Result<Arc<ServedSandbox>, E>>,
    ) -> Result<Arc<ServedSandbox>, E> {
        let slot = self.map().entry(socket.to_owned()).or_default().clone();
        let place = Unmade { sandboxes: self, socket, slot };
        place.slot.get_or_try_init(|| make).await.cloned()
    }

    /// The sandbox behind `socket`.
    pub(crate) fn get(&self, socket: &Path) -> Option<Arc<ServedSandbox>> {
        self.map().get(socket)?.get().cloned()
    }

    /// Forgets a sandbox; another one that has taken its place stays.
    pub(crate) fn forget(&self, served: &Arc<ServedSandbox>) {
        let mut map = self.map();
        let socket = &served.record.socket;
        if map
            .get(socket)
            .and_then(|slot| slot.get())
            .is_some_and(|known| Arc::ptr_eq(known, served))
        {
            map.remove(socket);
        }
    }

    /// All that are served now.
    pub(crate) fn all(&self) -> Vec<Arc<ServedSandbox>> {
        let mut all: Vec<_> = self.map().values().filter_map(|slot| slot.get().cloned()).collect();
        all.sort_by(|a, b| {
            (a.namespace.as_str(), a.group.as_str()).cmp(&(b.namespace.as_str(), b.group.as_str()))
        });
        all
    }

    /// Whether there is none, nor one being made.
    pub(crate) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<PathBuf, Slot>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the place back when the making has failed or was given up and nobody else waits for it.
struct Unmade<'a> {
    sandboxes: &'a Sandboxes,
    socket: &'a Path,
    slot: Slot,
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        let mut map = self.sandboxes.map();
        // Two: the map's and ours.
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
    async fn a_sandbox_that_could_not_be_made_leaves_no_place_behind() {
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
