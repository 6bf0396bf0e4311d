//! One native container, and the delegate of a sandbox with its users.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{exit::Exit, signal::Signal},
    id::Id,
    lock::Mutex,
    metrics::lives::{self, CountedNative},
    native::delegate::Delegate,
    process::Info,
    stdio::paths::StdioPaths,
};

/// A native container.
pub(crate) struct NativeContainer {
    /// Its id.
    pub(crate) id: Id,
    /// Its bundle directory.
    pub(crate) bundle: PathBuf,
    /// The delegate that runs it.
    pub(crate) delegate: Arc<Delegate>,
    /// Pid of its init.
    pub(crate) pid: u32,
    /// The init's streams.
    pub(crate) stdio: StdioPaths,
    /// The init's exit. Set by one task, which waits for it.
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// Ids of its execs that have not been deleted: their ends are told if the delegate is killed.
    pub(super) execs: Mutex<BTreeSet<String>>,
    /// Cancelled when the container is deleted.
    pub(super) deleted: CancellationToken,
    /// True once a client has asked about its end during a stop (`sandbox::stop`).
    asked_about: AtomicBool,
    _counted: CountedNative,
}

/// The delegate of a sandbox, with the number of containers that exist or are being created.
pub(super) struct Current {
    pub(super) delegate: Arc<Delegate>,
    pub(super) users: usize,
}

impl NativeContainer {
    /// A container that its delegate has just created.
    pub(super) fn new(
        id: Id,
        bundle: PathBuf,
        delegate: Arc<Delegate>,
        pid: u32,
        stdio: StdioPaths,
    ) -> Self {
        let exit = watch::Sender::new(None);
        let execs = Mutex::default();
        let deleted = CancellationToken::new();
        let asked_about = AtomicBool::new(false);
        let _counted = lives::native_container();
        Self { id, bundle, delegate, pid, stdio, exit, execs, deleted, asked_about, _counted }
    }

    /// The init's exit, once it is known.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for the init's exit. No result after the deletion.
    pub(crate) async fn wait(&self) -> Option<Exit> {
        let mut exit = self.exit.subscribe();
        tokio::select! {
            // Never an error: the sender is in `self`.
            exit = exit.wait_for(Option::is_some) => exit.ok().and_then(|exit| *exit),
            () = self.deleted.cancelled() => self.exit(),
        }
    }

    /// Sends a signal to the init. An error is logged: the caller waits for the end with a limit.
    pub(super) async fn tell(&self, signal: Signal) {
        if self.exit().is_none()
            && let Err(error) = self.delegate.client.kill(self.id.as_str(), signal.number()).await
        {
            tracing::debug!(%error, container = %self.id, "a native container gets no signal");
        }
    }

    /// Notes an exec.
    pub(crate) fn exec_added(&self, exec: &str) {
        self.execs.lock().insert(exec.to_owned());
    }

    /// Forgets an exec.
    pub(crate) fn exec_deleted(&self, exec: &str) {
        self.execs.lock().remove(exec);
    }

    /// True for an exec that has not been deleted.
    pub(crate) fn has_exec(&self, exec: &str) -> bool {
        self.execs.lock().contains(exec)
    }

    /// Notes that a client has asked about its end.
    pub(super) fn note_question(&self) {
        self.asked_about.store(true, Ordering::Relaxed);
    }

    /// True once a client has asked about its end.
    // Relaxed: the flag guards no other data.
    pub(super) fn is_asked_about(&self) -> bool {
        self.asked_about.load(Ordering::Relaxed)
    }

    /// A process of it, for events. Without an exec, its init.
    pub(super) fn info(&self, exec: Option<Id>) -> Arc<Info> {
        let container = self.id.clone();
        Arc::new(Info { container, exec, pid: self.pid, stdio: self.stdio.clone() })
    }
}
