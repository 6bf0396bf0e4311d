//! Exec processes of one container.
//!
//! The driver of the init ends them before it reports its own end, as the kernel does with the
//! processes of a pid namespace.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Process, state::Request};
use crate::{engine::signal::Signal, id::Id};

/// Why a process could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecsError {
    /// The container has a process of that id, or one is being prepared.
    #[error("already exists")]
    AlreadyExists,
    /// The init has ended meanwhile.
    #[error("the container has ended")]
    Ended,
}

/// Exec processes of a container, including those being prepared.
#[derive(Default)]
pub(crate) struct Execs {
    /// Locked for single look-ups and changes, never across an await.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// True after the init's end: no process is added any more.
    closed: bool,
    /// The value is absent while the process is being prepared.
    // The id is taken from the reservation on: of two `Exec` calls for it one must fail.
    processes: HashMap<Id, Option<Process>>,
}

impl Execs {
    /// Reserves an id for a process that is being prepared.
    pub(crate) fn reserve(self: &Arc<Self>, id: &Id) -> Result<ExecReservation, ExecsError> {
        let mut table = self.table();
        if table.closed {
            return Err(ExecsError::Ended);
        }
        if table.processes.contains_key(id) {
            return Err(ExecsError::AlreadyExists);
        }
        table.processes.insert(id.clone(), None);
        Ok(ExecReservation { execs: self.clone(), id: Some(id.clone()) })
    }

    /// The process of that id, unless it is still being prepared.
    pub(crate) fn get(&self, id: &str) -> Option<Process> {
        self.table().processes.get(id).cloned().flatten()
    }

    /// All processes except those being prepared.
    pub(crate) fn all(&self) -> Vec<Process> {
        self.table().processes.values().flatten().cloned().collect()
    }

    /// Forgets a process that has been deleted.
    pub(crate) fn forget(&self, id: &Id) {
        self.table().processes.remove(id);
    }

    /// Kills all processes, waits for their ends and refuses further ones.
    pub(crate) async fn end(&self) {
        // First: no later call would kill a process that is added after this one.
        self.table().closed = true;
        let processes = self.all();
        for process in &processes {
            // An error: the process has ended and needs no signal.
            let _ = process.request(Request::Kill(Signal::KILL)).await;
        }
        for process in &processes {
            // An error: the process has been deleted meanwhile.
            let _ = process.wait().await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A poisoned table is consistent: every change is a single insertion or removal.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved id. Dropping it without [`ExecReservation::fill`] frees the id.
pub(crate) struct ExecReservation {
    execs: Arc<Execs>,
    id: Option<Id>,
}

impl ExecReservation {
    /// Adds the process that `make` returns, unless the init has ended meanwhile.
    pub(crate) fn fill(mut self, make: impl FnOnce() -> Process) -> Result<(), ExecsError> {
        // Locked over the check and the insertion: `end` closes the table before, or kills the
        // process after. The drop of `self` locks, too, but `table` is dropped before it.
        let mut table = self.execs.table();
        if table.closed {
            return Err(ExecsError::Ended);
        }
        if let Some(id) = self.id.take() {
            table.processes.insert(id, Some(make()));
        }
        Ok(())
    }
}

impl Drop for ExecReservation {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.execs.forget(&id);
        }
    }
}
