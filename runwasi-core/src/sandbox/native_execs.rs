//! The execs of a native container that have not been deleted, as far as the sandbox knows them.
//!
//! Their delegate tells their exits to containerd. It is killed with the exits untold of those that
//! run, which the sandbox then tells.

use std::collections::BTreeMap;

use crate::{engine::exit::Exit, lock::Mutex, traces::start::StartTrace};

/// The execs of one container, by id.
#[derive(Default)]
pub(super) struct NativeExecs(Mutex<BTreeMap<String, NativeExec>>);

#[derive(Default)]
struct NativeExec {
    /// Trace of its start.
    trace: StartTrace,
    /// True since the request to start it, unless that was refused.
    started: bool,
    /// Its exit, once it is known.
    exit: Option<Exit>,
}

/// Exit of an exec at the end of its delegate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExecExit {
    pub(super) id: String,
    pub(super) exit: Exit,
    /// True if the delegate has told it.
    pub(super) told: bool,
}

impl NativeExecs {
    pub(super) fn add(&self, id: &str, trace: StartTrace) {
        let exec = NativeExec { trace, ..NativeExec::default() };
        self.0.lock().insert(id.to_owned(), exec);
    }

    pub(super) fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.lock().contains_key(id)
    }

    pub(super) fn trace(&self, id: &str) -> StartTrace {
        self.0.lock().get(id).map(|exec| exec.trace.clone()).unwrap_or_default()
    }

    /// Notes a request to start it. True for the first one, and for the first after a refused one.
    pub(super) fn start(&self, id: &str) -> bool {
        let mut execs = self.0.lock();
        execs.get_mut(id).is_some_and(|exec| !std::mem::replace(&mut exec.started, true))
    }

    /// Notes that the request to start it was refused.
    pub(super) fn refuse(&self, id: &str) {
        if let Some(exec) = self.0.lock().get_mut(id) {
            exec.started = false;
        }
    }

    /// Notes its exit. The first one counts.
    pub(super) fn set_exit(&self, id: &str, exit: Exit) {
        if let Some(exec) = self.0.lock().get_mut(id) {
            exec.exit.get_or_insert(exit);
        }
    }

    /// Its exit, if it is known.
    pub(super) fn exit(&self, id: &str) -> Option<Exit> {
        self.0.lock().get(id).and_then(|exec| exec.exit)
    }

    /// Gives those that run this exit. Returns the exits of all that were started.
    pub(super) fn end(&self, exit: Exit) -> Vec<ExecExit> {
        let mut execs = self.0.lock();
        let started = execs.iter_mut().filter(|(_, exec)| exec.started);
        let ended = started.map(|(id, exec)| {
            let told = exec.exit.is_some();
            ExecExit { id: id.clone(), exit: *exec.exit.get_or_insert(exit), told }
        });
        ended.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::exit::ExitStatus;

    #[test]
    fn only_started_execs_end_and_a_known_exit_stays() {
        let execs = NativeExecs::default();
        for id in ["added", "ended", "refused", "runs"] {
            execs.add(id, StartTrace::default());
            assert!(id == "added" || execs.start(id), "{id} was started before");
        }
        // A second request, whose refusal says nothing about the first.
        assert!(!execs.start("runs"));
        execs.refuse("refused");
        let killed = Exit::now(ExitStatus::KILLED);
        let own = Exit::now(ExitStatus::code(3));
        execs.set_exit("ended", own);
        execs.set_exit("ended", killed);
        let exit = |id: &str, exit, told| ExecExit { id: id.to_owned(), exit, told };
        assert_eq!(execs.end(killed), [exit("ended", own, true), exit("runs", killed, false)]);
        assert_eq!(execs.exit("runs"), Some(killed));
        assert_eq!(execs.exit("added"), None);
    }
}
