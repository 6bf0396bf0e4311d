//! The task that owns one process: its state, its instance and its group of futures. Started by `container`,
//! lives on the control runtime, so that no guest can delay it.
//!
//! It is the only place where a process changes state and, after its creation, the only publisher of its events, hence
//! their order: create, start, exit, delete, with exactly one exit.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tracing::Instrument;

use super::{
    Command, Info, Process, ProcessError, Status,
    execs::Execs,
    state::{Decision, Event as GroupEvent, Request, State},
};
use crate::{
    engine::{
        error::EngineError,
        exit::{Exit, ExitStatus},
        instance::{GuestContext, Instance, SignalResponse},
        signal::{Action, Signal},
    },
    events::{Event, Publisher},
    resources::memory::Memory,
    rootfs::Gone,
    scheduler::group::Group,
    shutdown::Tasks,
    stdio::Stdio,
};

/// Commands that may wait for one process. A client sends one and waits, so this bounds clients, not work.
const COMMANDS: usize = 32;

/// How long a delete waits for the container's file systems to go; containerd's patience is 5 s.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(4);

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) info: Arc<Info>,
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) stdio: Stdio,
    /// When the container's file systems are gone.
    pub(crate) unmounted: Gone,
    pub(crate) group: Group,
    /// The init's: the processes that end with it.
    pub(crate) execs: Option<Arc<Execs>>,
    /// The container's.
    pub(crate) memory: Arc<Memory>,
    pub(crate) publisher: Arc<dyn Publisher>,
    /// Runs when the process has been deleted, before the delete is answered: removes it from its container.
    pub(crate) on_deleted: Box<dyn FnOnce() + Send>,
}

type Reply = oneshot::Sender<Result<(), ProcessError>>;

struct Driver {
    info: Arc<Info>,
    /// Dropped at the end together with `stdio`: that closes the FIFOs, so that readers see the end of the output.
    guest: Option<(Arc<dyn Instance>, Stdio)>,
    unmounted: Gone,
    group: Group,
    /// To itself: what is typed at the terminal are commands, too. Weak, or it would ask itself for ever.
    own_commands: mpsc::WeakSender<Command>,
    /// Taken when they have ended.
    execs: Option<Arc<Execs>>,
    memory: Arc<Memory>,
    publisher: Arc<dyn Publisher>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    /// Set while futures of the process exist.
    run: Option<Run>,
}

/// The running half of a process.
struct Run {
    /// Resolves when the guest reports itself ready; closes when it will not any more, and is then `None`.
    ready: Option<oneshot::Receiver<()>>,
    /// Resolves with what `Instance::run` returned; closes when that was dropped.
    done: oneshot::Receiver<Result<ExitStatus, EngineError>>,
    /// Who waits for the start.
    starting: Option<Reply>,
    /// The signal that ends it, the first one counts.
    signal: Option<Signal>,
    /// Set when `run` is over: what it has spawned is being dropped, its output read.
    outcome: Option<Outcome>,
    /// A signal has come meanwhile: the output is not waited for. The outcome stands.
    hurried: bool,
}

enum Outcome {
    Returned(ExitStatus),
    Failed(EngineError),
    Dropped,
}

enum Next {
    Command(Command),
    Ready,
    NeverReady,
    Done(Outcome),
    Ended,
    NobodyAsks,
}

/// Starts the driver. The creation has been published.
pub(crate) fn spawn(parts: Parts, tasks: &Tasks) -> Process {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let (status, receiver) = watch::channel(Status { state: State::Created, exit: None });
    let info = parts.info;
    let own_commands = sender.downgrade();
    let terminal = parts.stdio.terminal();
    let process = Process {
        commands: sender,
        status: receiver,
        group: parts.group.clone(),
        terminal,
        info: info.clone(),
    };
    let mut driver = Driver {
        info: info.clone(),
        guest: Some((parts.instance, parts.stdio)),
        unmounted: parts.unmounted,
        group: parts.group,
        own_commands,
        execs: parts.execs,
        memory: parts.memory,
        publisher: parts.publisher,
        commands,
        status,
        run: None,
    };
    let exec = info.exec.as_ref().map_or("", |exec| exec.as_str());
    // For debugging only, though others are tempting: the subscriber keeps something of every span that ever lived at once, and a
    // node has ten thousand. What is logged above that level names its container itself.
    let span = tracing::debug_span!("process", container = %info.container, exec);
    tasks.spawn(async move { driver.run(parts.on_deleted).await }.instrument(span));
    process
}

impl Driver {
    async fn run(&mut self, on_deleted: Box<dyn FnOnce() + Send>) {
        loop {
            match self.next().await {
                // Boxed, or every driver would be as large as it is at its end for all its life.
                Next::Command(Command { request: Request::Delete, reply }) => {
                    match Box::pin(self.delete()).await {
                        Ok(()) => {
                            on_deleted();
                            let _ = reply.send(Ok(()));
                            return;
                        }
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Next::Command(command) => self.command(command).await,
                Next::Ready => self.ready(),
                Next::NeverReady => self.forget_ready(),
                Next::Done(outcome) => self.done(outcome),
                Next::Ended => self.ended().await,
                // Every handle is gone: the sandbox is being torn down.
                Next::NobodyAsks => return self.abandon().await,
            }
        }
    }

    /// Waits for whatever happens next.
    async fn next(&mut self) -> Next {
        let Some(run) = self.run.as_mut() else {
            return self.commands.recv().await.map_or(Next::NobodyAsks, Next::Command);
        };
        let (ending, hurried) = (run.outcome.is_some(), run.hurried);
        let ready = async {
            match run.ready.as_mut() {
                Some(ready) => ready.await.map_or(Next::NeverReady, |()| Next::Ready),
                None => std::future::pending().await,
            }
        };
        let stdio = self.guest.as_ref().map(|(_, stdio)| stdio);
        let ended = async {
            self.group.ended().await;
            if let Some(stdio) = stdio {
                stdio.drained(hurried).await;
            }
        };
        tokio::select! {
            ready = ready => ready,
            done = &mut run.done, if !ending => Next::Done(match done {
                Ok(Ok(status)) => Outcome::Returned(status),
                Ok(Err(error)) => Outcome::Failed(error),
                Err(_) => Outcome::Dropped,
            }),
            () = ended, if ending => Next::Ended,
            command = self.commands.recv() => command.map_or(Next::NobodyAsks, Next::Command),
        }
    }

    fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Carries out a request, or refuses it.
    async fn command(&mut self, Command { request, reply }: Command) {
        let next = match self.state().decide(request) {
            Decision::Accept(next) => next,
            Decision::Ignore => return drop(reply.send(Ok(()))),
            Decision::Deny(denial) => return drop(reply.send(Err(denial.into()))),
        };
        match request {
            Request::Start => return self.start(next, reply),
            Request::Kill(signal) => self.signal(signal).await,
            Request::Pause => {
                self.group.pause();
                self.enter(next);
                self.publish(Event::Paused { container: self.info.container.clone() });
            }
            Request::Resume => {
                self.group.resume();
                self.enter(next);
                self.publish(Event::Resumed { container: self.info.container.clone() });
            }
            Request::CloseStdin => {
                if let Some((_, stdio)) = &self.guest {
                    stdio.close_stdin();
                }
            }
            Request::Exec | Request::Probe | Request::Delete => {}
        }
        // A caller that has gone away takes nothing back.
        let _ = reply.send(Ok(()));
    }

    fn start(&mut self, next: State, reply: Reply) {
        let Some((instance, stdio)) = &self.guest else {
            return drop(reply.send(Err(ProcessError::Deleted)));
        };
        let commands = self.own_commands.clone();
        let interrupt = move |signal| {
            // Whoever types faster than the driver hears has typed it before.
            let (reply, _) = oneshot::channel();
            let command = Command { request: Request::Kill(signal), reply };
            drop(commands.upgrade().map(|commands| commands.try_send(command)));
        };
        if let Err(error) = stdio.begin(interrupt) {
            return drop(reply.send(Err(error.into())));
        }
        let (context, ready) = GuestContext::new(self.group.clone());
        let (sender, done) = oneshot::channel();
        let instance = instance.clone();
        self.group.spawn(async move {
            let result = instance.run(context.clone()).await;
            if result.is_ok() {
                context.ready();
            }
            // The driver waits for it as long as it lives.
            let _ = sender.send(result);
        });
        self.run = Some(Run {
            ready: Some(ready),
            done,
            starting: Some(reply),
            signal: None,
            outcome: None,
            hurried: false,
        });
        self.enter(next);
    }

    async fn signal(&mut self, signal: Signal) {
        let Some(run) = self.run.as_mut() else {
            // Created: nothing runs, it simply ends.
            return self.stop(ExitStatus::signalled(signal)).await;
        };
        if run.outcome.is_some() {
            run.hurried = true;
            return;
        }
        match signal.action() {
            Action::Ignore => {}
            Action::Stop => self.group.stop(),
            Action::Continue => self.group.proceed(),
            Action::Kill => {
                run.signal.get_or_insert(signal);
                self.group.abort();
            }
            Action::Terminate => {
                let response = self.guest.as_ref().map(|(instance, _)| instance.signal(signal));
                if response != Some(SignalResponse::Handled) {
                    run.signal.get_or_insert(signal);
                    self.group.abort();
                }
            }
        }
    }

    fn ready(&mut self) {
        if let Some(next) = self.state().after(GroupEvent::Ready) {
            self.enter(next);
        }
        self.forget_ready();
        let reply = self.run.as_mut().and_then(|run| run.starting.take());
        self.publish(Event::Started { process: self.info.clone() });
        if let Some(reply) = reply {
            let _ = reply.send(Ok(()));
        }
    }

    /// The receiver has resolved and must not be polled again.
    fn forget_ready(&mut self) {
        if let Some(run) = self.run.as_mut() {
            run.ready = None;
        }
    }

    /// `run` is over: whatever it has spawned ends with it.
    fn done(&mut self, outcome: Outcome) {
        // Taken: a receiver that has answered, even with "closed", must not be asked again.
        let ready = self.run.as_mut().and_then(|run| run.ready.take());
        if ready.is_some_and(|mut ready| ready.try_recv().is_ok()) {
            // Ready and done came at once, and the done was seen first.
            self.ready();
        }
        if let Some(run) = self.run.as_mut() {
            run.outcome = Some(outcome);
            // Who was killed is not kept by a reader either.
            run.hurried = run.signal.is_some();
        }
        self.group.abort();
    }

    async fn ended(&mut self) {
        let Some(run) = self.run.take() else { return };
        let (status, failure) = match run.outcome {
            Some(Outcome::Returned(status)) => (status, None),
            Some(Outcome::Failed(error)) => (ExitStatus::START_FAILED, Some(error)),
            Some(Outcome::Dropped) | None => {
                (run.signal.map_or(ExitStatus::TRAP, ExitStatus::signalled), None)
            }
        };
        match (run.starting, failure) {
            (Some(reply), failure) => {
                self.stop(status).await;
                let error = match (failure, run.signal) {
                    (Some(failure), _) => ProcessError::Start(failure),
                    (None, Some(_)) => ProcessError::KilledWhileStarting,
                    (None, None) => {
                        ProcessError::Start(EngineError::Failed("the instance panicked".into()))
                    }
                };
                let _ = reply.send(Err(error));
            }
            (None, Some(error)) => {
                tracing::error!(container = %self.info.container, %error, "the engine failed while the guest was running");
                self.stop(ExitStatus::TRAP).await;
            }
            (None, None) => self.stop(status).await,
        }
    }

    /// Ends the container's other processes, closes the streams, then tells everybody.
    async fn stop(&mut self, status: ExitStatus) {
        if let Some(execs) = self.execs.take() {
            Box::pin(execs.end()).await;
        }
        for _ in 0..self.memory.take_unreported_kills() {
            self.publish(Event::OutOfMemory { container: self.info.container.clone() });
        }
        self.guest = None;
        let exit = Exit::now(status);
        self.status.send_replace(Status { state: State::Stopped, exit: Some(exit) });
        self.publish(Event::Exited { process: self.info.clone(), exit });
    }

    async fn delete(&mut self) -> Result<(), ProcessError> {
        match self.state().decide(Request::Delete) {
            Decision::Deny(denial) => return Err(denial.into()),
            Decision::Accept(_) | Decision::Ignore => {}
        }
        if self.state() != State::Stopped {
            self.stop(ExitStatus::KILLED).await;
        }
        // containerd removes the snapshot next. Bounded: a host call that outlives its guest may still hold a file.
        if timeout(UNMOUNT_PATIENCE, self.unmounted.wait()).await.is_err() {
            tracing::warn!(container = %self.info.container, "deleted while its file systems are still in use");
        }
        let exit = self.status.borrow().exit;
        if let (Some(exit), None) = (exit, &self.info.exec) {
            self.publish(Event::Deleted { process: self.info.clone(), exit });
        }
        Ok(())
    }

    /// Ends what still runs; the exit is published so that containerd is not left guessing.
    async fn abandon(&mut self) {
        if self.run.is_some() {
            self.group.abort();
            self.group.ended().await;
        }
        if self.state() != State::Stopped {
            self.stop(ExitStatus::KILLED).await;
        }
    }

    fn enter(&self, state: State) {
        self.status.send_modify(|status| status.state = state);
    }

    fn publish(&self, event: Event) {
        self.publisher.publish(event);
    }
}
