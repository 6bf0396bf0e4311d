//! The exec processes of one container. The init's driver ends them before it reports its own end, as the
//! kernel does with the processes of a pid namespace.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Process, state::Request};
use crate::{engine::signal::Signal, id::Id};

/// Why a process could not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecsError {
    /// The container has a process of that id, or it is being made.
    #[error("already exists")]
    AlreadyExists,
    /// The init has ended meanwhile.
    #[error("the container has ended")]
    Ended,
}

/// A container's exec processes, made or being made.
#[derive(Default)]
pub(crate) struct Execs {
    /// Locked for single look-ups and changes, never across an await.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The init has ended: no process joins any more.
    closed: bool,
    /// `None` while the process is being made.
    processes: HashMap<Id, Option<Process>>,
}

impl Execs {
    /// Takes an id for a process that is going to be made.
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

    /// The process of that id, if it is made.
    pub(crate) fn get(&self, id: &str) -> Option<Process> {
        self.table().processes.get(id).cloned().flatten()
    }

    /// All that are made.
    pub(crate) fn all(&self) -> Vec<Process> {
        self.table().processes.values().flatten().cloned().collect()
    }

    /// Forgets a process that has been deleted.
    pub(crate) fn forget(&self, id: &Id) {
        self.table().processes.remove(id);
    }

    /// Kills all, waits for their ends, and lets none join any more.
    pub(crate) async fn end(&self) {
        self.table().closed = true;
        let processes = self.all();
        for process in &processes {
            // What has ended already needs no signal.
            let _ = process.request(Request::Kill(Signal::KILL)).await;
        }
        for process in &processes {
            // An error: it has been deleted meanwhile.
            let _ = process.wait().await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id taken; given back unless it is filled.
pub(crate) struct ExecReservation {
    execs: Arc<Execs>,
    id: Option<Id>,
}

impl ExecReservation {
    /// Makes the process, unless the init has ended since.
    pub(crate) fn fill(mut self, make: impl FnOnce() -> Process) -> Result<(), ExecsError> {
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
