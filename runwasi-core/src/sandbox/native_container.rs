//! One native container, and the delegate of a sandbox with its users.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{exit_line::ExitLine, native_execs::NativeExecs, past_usage::ToldUsage};
use crate::{
    blocking::blocking,
    cgroups::kills::OomKills,
    engine::{
        exit::{Exit, ExitStatus},
        signal::Signal,
    },
    id::Id,
    lock::Mutex,
    metrics::lives::{self, CountedNative},
    native::delegate::Delegate,
    observe::{self, Cause, Exited, Subject},
    process::Info,
    stdio::paths::StdioPaths,
    traces::start::StartTrace,
};

/// A native container.
pub(crate) struct NativeContainer {
    /// Its id.
    pub(crate) id: Id,
    /// The container in the log.
    pub(crate) subject: Arc<Subject>,
    /// Its bundle directory.
    pub(crate) bundle: PathBuf,
    /// The delegate that runs it.
    pub(crate) delegate: Arc<Delegate>,
    /// Pid of its init.
    pub(crate) pid: u32,
    /// The init's streams.
    pub(crate) stdio: StdioPaths,
    /// The init's exit. The first one that is known stays.
    exit: watch::Sender<Option<Exit>>,
    /// True once the exit is in the log.
    exit_told: AtomicBool,
    /// Its execs that have not been deleted. Their ends are told if the delegate is killed.
    pub(super) execs: NativeExecs,
    /// Trace of the init's start.
    trace: StartTrace,
    /// OOM kills of its cgroup. Absent if the cgroup is not known.
    kills: Option<Arc<OomKills>>,
    /// Time of the init's start.
    started: OnceLock<Instant>,
    /// The line of the init's exit in the log.
    exit_line: Mutex<ExitLine>,
    /// Cancelled when the container is deleted.
    pub(super) deleted: CancellationToken,
    /// Held while its exit is written into its bundle, and for the note of its deletion.
    pub(super) leaving: tokio::sync::Mutex<()>,
    /// True once it is being removed after the death of its delegate.
    orphaned: AtomicBool,
    /// Cancelled when that is done, and its exits are told.
    pub(super) removed: CancellationToken,
    /// True once a client has asked about its end during a stop (`sandbox::stop`).
    asked_about: AtomicBool,
    /// Its usage by the delegate's last answers.
    pub(crate) told: ToldUsage,
    _counted: CountedNative,
}

/// A start of an init without its answer. At its end, also if its caller goes away, the exit is
/// logged.
pub(crate) struct Starting<'a>(&'a NativeContainer);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let held = self.0.exit_line.lock().answered();
        if let Some(exited) = held {
            observe::exited(&self.0.subject, None, &exited);
        }
    }
}

/// The delegate of a sandbox, with the number of containers that exist or are being created.
pub(super) struct Current {
    pub(super) delegate: Arc<Delegate>,
    pub(super) users: usize,
}

impl NativeContainer {
    /// A container that its delegate has just created.
    pub(super) fn new(
        (subject, trace): (Arc<Subject>, StartTrace),
        bundle: PathBuf,
        delegate: Arc<Delegate>,
        (pid, kills): (u32, Option<OomKills>),
        stdio: StdioPaths,
    ) -> Self {
        let id = subject.container.clone();
        let started = OnceLock::new();
        let exit = watch::Sender::new(None);
        let deleted = CancellationToken::new();
        Self {
            id,
            subject,
            bundle,
            delegate,
            pid,
            stdio,
            exit,
            exit_told: AtomicBool::new(false),
            execs: NativeExecs::default(),
            trace,
            kills: kills.map(Arc::new),
            started,
            exit_line: Mutex::default(),
            deleted,
            leaving: tokio::sync::Mutex::default(),
            orphaned: AtomicBool::new(false),
            removed: CancellationToken::new(),
            asked_about: AtomicBool::new(false),
            told: ToldUsage::default(),
            _counted: lives::native_container(),
        }
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

    /// Notes the start of its init. Its exit is not logged before the result is dropped.
    pub(crate) fn note_start(&self, at: Instant) -> Starting<'_> {
        self.started.get_or_init(|| at);
        self.exit_line.lock().starting();
        Starting(self)
    }

    /// The trace of a start. Without an exec, that of its init.
    pub(crate) fn trace(&self, exec: &str) -> StartTrace {
        match exec {
            "" => self.trace.clone(),
            exec => self.execs.trace(exec),
        }
    }

    /// Reads the number of OOM kills while its cgroup exists.
    pub(crate) async fn look_for_oom(&self) {
        let Some(kills) = self.kills.clone() else { return };
        let look = move || {
            kills.look();
            Ok(())
        };
        // An error: this process is ending.
        let _: Result<(), ()> = blocking(look, drop).await;
    }

    /// Cause of an exit with this status, all that the delegate tells. A program that returns 128 +
    /// n itself is told as one that signal n has ended.
    fn cause_of(&self, status: ExitStatus) -> Cause<'static> {
        // Only then: the kernel may have ended a child, which the program has survived.
        let killed = status == ExitStatus::KILLED;
        if killed && self.kills.as_ref().is_some_and(|kills| kills.take()) {
            return Cause::OutOfMemory;
        }
        status.signal().map_or(Cause::Exit, Cause::Signal)
    }

    /// Keeps the init's exit that the delegate has told, unless one is known. Returns the one that
    /// stays.
    // Before anything that waits: the delegate may end at any time, and its containers are taken
    // for killed ones then.
    pub(crate) fn keep_exit(&self, exit: Exit) -> Exit {
        let mut kept = exit;
        self.exit.send_if_modified(|known| {
            let is_new = known.is_none();
            kept = *known.get_or_insert(exit);
            is_new
        });
        kept
    }

    /// Keeps the init's exit and logs it once. Without a cause, that of its status.
    // Relaxed: the flag guards no other data.
    pub(crate) fn set_exit(&self, exit: Exit, cause: Option<Cause<'static>>) {
        let kept = self.keep_exit(exit);
        if !self.exit_told.swap(true, Ordering::Relaxed) {
            self.tell_init_exit(kept.status, cause);
        }
    }

    fn tell_init_exit(&self, status: ExitStatus, cause: Option<Cause<'static>>) {
        let cause = cause.unwrap_or_else(|| self.cause_of(status));
        let run = self.started.get().map(Instant::elapsed);
        let exited = Exited { status, cause, run, usage: None };
        let now = self.exit_line.lock().exited(exited);
        if let Some(exited) = now {
            observe::exited(&self.subject, None, &exited);
        }
    }

    /// Logs the exit of an exec. Without a cause, that of its status.
    pub(crate) fn tell_exec_exit(&self, exec: &Id, exit: Exit, cause: Option<Cause<'static>>) {
        let cause = cause.unwrap_or_else(|| self.cause_of(exit.status));
        let exited = Exited { status: exit.status, cause, run: None, usage: None };
        observe::exited(&self.subject, Some(exec), &exited);
    }

    /// Notes an exec.
    pub(crate) fn exec_added(&self, exec: &str, trace: StartTrace) {
        self.execs.add(exec, trace);
    }

    /// Notes a request to start an exec. True for the first one, and for the first after a refused
    /// one.
    pub(crate) fn exec_started(&self, exec: &str) -> bool {
        self.execs.start(exec)
    }

    /// Notes that the request to start an exec was refused.
    pub(crate) fn exec_refused(&self, exec: &str) {
        self.execs.refuse(exec);
    }

    /// Notes the exit of an exec.
    pub(crate) fn exec_ended(&self, exec: &str, exit: Exit) {
        self.execs.set_exit(exec, exit);
    }

    /// Forgets an exec.
    pub(crate) fn exec_deleted(&self, exec: &str) {
        self.execs.remove(exec);
    }

    /// The exit of an exec in a container that has ended at a time. An exec that was not started
    /// has ended with its container. No result for an unknown exec.
    pub(crate) fn exit_of_exec(&self, exec: &str, at: SystemTime) -> Option<Exit> {
        let killed = || Exit { status: ExitStatus::KILLED, at };
        self.execs.has(exec).then(|| self.execs.exit(exec).unwrap_or_else(killed))
    }

    /// True for the one caller that removes it after the end of its delegate.
    // Relaxed: the flag guards no other data.
    pub(super) fn claim_removal(&self) -> bool {
        !self.orphaned.swap(true, Ordering::Relaxed)
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
