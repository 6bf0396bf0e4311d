//! Driver: the task that owns one process, its state, its instance and its group of futures.
//!
//! It runs on the control runtime, so no guest can delay it. It is the only place where a process
//! changes state and, after the creation, the only publisher of the events of its process. Their
//! order is therefore create, start, exit, delete, with exactly one exit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tracing::Instrument;

use super::{
    Command, Info, Process, ProcessError, Status,
    execs::Execs,
    outcome::Outcome,
    state::{Decision, Event as GroupEvent, Request, State},
};
use crate::{
    blocking,
    engine::{
        error::EngineError,
        exit::{Exit, ExitStatus},
        fault::FaultRecord,
        instance::{GuestContext, Instance, SignalResponse},
        signal::{Action, Signal},
    },
    events::{Event, Publisher},
    metrics::lives::{self, Condition, CountedProcess, Kind, Phase},
    observe::{self, Cause, ExitUsage, Exited, Step, Subject},
    panics,
    resources::memory::Memory,
    rootfs::Gone,
    scheduler::group::Group,
    shutdown::Tasks,
    start_memory,
    stdio::{Drain, Stdio, Unread},
    sys,
    traces::{Span, start::StartTrace},
};

/// Capacity of the command channel of a process.
// A client sends one command and waits for the answer, so this bounds clients, not work.
const COMMANDS: usize = 32;

/// How long a delete waits for the container's file systems to go.
// Less than containerd's own patience of 5 s.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(4);

/// How long a delete waits for the return of the guest's memory.
// It takes milliseconds; the blocking pool may have other work.
const TRIM_PATIENCE: Duration = Duration::from_millis(200);

/// Threads of this OS process that were given up so far.
static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);

/// Parts of a driver.
pub(crate) struct Parts {
    pub(crate) info: Arc<Info>,
    /// The container in the log.
    pub(crate) subject: Arc<Subject>,
    /// Fault of the instance.
    pub(crate) faults: Arc<FaultRecord>,
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) stdio: Stdio,
    /// Resolves when the container's file systems are gone.
    pub(crate) unmounted: Gone,
    pub(crate) group: Group,
    /// The exec processes that end with an init; absent in an exec.
    pub(crate) execs: Option<Arc<Execs>>,
    /// Memory account of the container.
    pub(crate) memory: Arc<Memory>,
    pub(crate) publisher: Arc<dyn Publisher>,
    /// Trace of the start.
    pub(crate) trace: StartTrace,
    /// Removes the process from its container. Called after the deletion, before the delete is
    /// answered.
    pub(crate) on_deleted: Box<dyn FnOnce() + Send>,
}

type Reply = oneshot::Sender<Result<(), ProcessError>>;

struct Driver {
    info: Arc<Info>,
    subject: Arc<Subject>,
    faults: Arc<FaultRecord>,
    /// Instance and streams, until the process ends.
    // Dropped together: the instance may hold a clone of the streams, and readers see the end of
    // the output when the last clone closes the FIFOs.
    guest: Option<(Arc<dyn Instance>, Stdio)>,
    /// Output without a reader, from the end of the process to its deletion.
    unread: Option<Unread>,
    unmounted: Gone,
    group: Group,
    /// Command channel of this driver, for the signals that are typed at the terminal.
    // Weak: a strong sender would keep the channel open after the last handle is gone.
    own_commands: mpsc::WeakSender<Command>,
    /// Taken by the end of the process, which ends them.
    execs: Option<Arc<Execs>>,
    memory: Arc<Memory>,
    /// Resolves when the memory of a large guest was returned to the system, which a delete awaits.
    returned: Option<oneshot::Receiver<()>>,
    publisher: Arc<dyn Publisher>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    counted: CountedProcess,
    trace: StartTrace,
    /// Present while futures of the process exist.
    run: Option<Run>,
}

/// The running half of a process.
struct Run {
    /// Time of the request to start.
    begun: Instant,
    /// Present until the guest is ready.
    span: Option<Span>,
    /// Resolves when the guest reports itself ready, closes when it never will. Absent after
    /// either.
    ready: Option<oneshot::Receiver<()>>,
    /// Resolves with the result of `Instance::run`, closes when that future was dropped.
    done: oneshot::Receiver<Result<ExitStatus, EngineError>>,
    /// Reply to the start request, until it is answered.
    starting: Option<Reply>,
    /// Signal that ends the process. The first one counts.
    signal: Option<Signal>,
    /// Set when `run` is over. Until [`Next::Ended`] the futures that it has spawned are dropped
    /// and its output is read.
    outcome: Option<Outcome>,
    /// Wait for the readers of the output, after the outcome. A signal hurries it.
    drain: Drain,
}

enum Next {
    Command(Command),
    /// The guest has reported itself ready.
    Ready,
    /// `run` has been dropped or has failed without such a report.
    NeverReady,
    /// `run` is over.
    Done(Outcome),
    /// The last future of the group is gone, and the output is read.
    Ended,
    /// Output that had no reader at the end has been read.
    Read,
    /// The last handle of the process is gone.
    Closed,
}

/// Starts the driver. The creation of the process has been published.
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
    let kind = info.kind();
    let mut driver = Driver {
        info: info.clone(),
        subject: parts.subject,
        faults: parts.faults,
        guest: Some((parts.instance, parts.stdio)),
        unread: None,
        unmounted: parts.unmounted,
        group: parts.group,
        own_commands,
        execs: parts.execs,
        memory: parts.memory,
        returned: None,
        publisher: parts.publisher,
        commands,
        status,
        counted: CountedProcess::created(kind),
        trace: parts.trace,
        run: None,
    };
    let exec = info.exec.as_ref().map_or("", |exec| exec.as_str());
    // At debug level only: the subscriber keeps memory for every span that ever lived at the same
    // time, and a node has ten thousand. Events of higher levels name their container themselves.
    let span = tracing::debug_span!("process", container = %info.container, exec);
    tasks.spawn(async move { driver.run(parts.on_deleted).await }.instrument(span));
    process
}

impl Driver {
    async fn run(&mut self, on_deleted: Box<dyn FnOnce() + Send>) {
        loop {
            match self.next().await {
                // Boxed: the future of a delete would enlarge every driver for its whole life.
                Next::Command(Command { request: Request::Delete, reply }) => {
                    match Box::pin(self.delete()).await {
                        Ok(()) => {
                            // Before the reply: a client that has it may take the id again.
                            on_deleted();
                            // The caller may have gone. The process is deleted all the same.
                            let _ = reply.send(Ok(()));
                            return;
                        }
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Next::Command(command) => self.command(command).await,
                Next::Ready => self.ready(),
                Next::NeverReady => drop(self.take_ready()),
                Next::Done(outcome) => self.done(outcome),
                Next::Ended => self.ended().await,
                Next::Read => self.unread = None,
                // Every handle is gone: the sandbox is being torn down.
                Next::Closed => return self.abandon().await,
            }
        }
    }

    /// Waits for the next command or event.
    async fn next(&mut self) -> Next {
        let Some(run) = self.run.as_mut() else {
            return tokio::select! {
                command = self.commands.recv() => command.map_or(Next::Closed, Next::Command),
                () = Unread::read(self.unread.as_mut()) => Next::Read,
            };
        };
        // Every branch below may be dropped unfinished: the receivers are borrowed and keep their
        // messages, and `Group::ended` and `drained` may be called again. `run.drain` keeps the
        // deadline of `drained`, which commands would extend otherwise.
        let ending = run.outcome.is_some();
        let killed = run.signal.is_some();
        let ready = async {
            match run.ready.as_mut() {
                Some(ready) => ready.await.map_or(Next::NeverReady, |()| Next::Ready),
                None => std::future::pending().await,
            }
        };
        let stdio = self.guest.as_ref().map(|(_, stdio)| stdio);
        let ended = async {
            self.group.ended_or_held().await;
            if let Some(stdio) = stdio {
                stdio.drained(&mut run.drain, &self.info.container).await;
            }
        };
        let held = async {
            self.group.ended_or_held().await;
            // Without such a thread `done` resolves, perhaps with a status.
            if self.group.held() == 0 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ready = ready => ready,
            never = self.group.look_after() => match never {},
            // Not after its answer: a resolved receiver must not be polled again.
            done = &mut run.done, if !ending => Next::Done(match done {
                Ok(Ok(status)) => Outcome::Returned(status),
                Ok(Err(error)) => Outcome::Failed(error),
                Err(_) => Outcome::Dropped,
            }),
            () = ended, if ending => Next::Ended,
            // The future of `run` may be one that waits in the kernel: its result never comes.
            () = held, if killed && !ending => Next::Done(Outcome::Dropped),
            command = self.commands.recv() => command.map_or(Next::Closed, Next::Command),
        }
    }

    fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Carries out a request, or refuses it.
    async fn command(&mut self, Command { request, reply }: Command) {
        // A caller that has gone takes nothing back: the results of all sends may be dropped.
        let next = match self.state().decide(request) {
            Decision::Accept(next) => next,
            Decision::Ignore => return drop(reply.send(Ok(()))),
            Decision::Deny(denial) => {
                if let (Request::Kill(_), Some(unread)) = (request, &self.unread) {
                    // Boxed: few processes need it, and every driver would have room for it.
                    Box::pin(unread.begun()).await;
                }
                return drop(reply.send(Err(denial.into())));
            }
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
            Request::Exec | Request::Update | Request::Probe | Request::Delete => {}
        }
        // As above: the request is carried out even without a caller.
        let _ = reply.send(Ok(()));
    }

    fn start(&mut self, next: State, reply: Reply) {
        // Present in state `Created`: only `stop` takes it, and it leaves the state `Stopped`.
        let Some((instance, stdio)) = &self.guest else {
            return drop(reply.send(Err(ProcessError::Deleted)));
        };
        let commands = self.own_commands.clone();
        let interrupt = move |signal| {
            // No caller waits for the answer.
            let (reply, _) = oneshot::channel();
            let command = Command { request: Request::Kill(signal), reply };
            // The copying of the terminal must not wait for the driver. A full channel loses the
            // signal, but a user typing faster than the driver reads has typed it before.
            drop(commands.upgrade().map(|commands| commands.try_send(command)));
        };
        // Before any change of state: after a failure the process is still `Created`.
        if let Err(error) = stdio.begin(interrupt) {
            return drop(reply.send(Err(error.into())));
        }
        let begun = Instant::now();
        let (context, ready) = GuestContext::new(self.group.clone());
        let (sender, done) = oneshot::channel();
        let instance = instance.clone();
        self.group.spawn(async move {
            let result = instance.run(context.clone()).await;
            // A guest that returns a status counts as started, see `Instance::run`.
            if result.is_ok() {
                context.ready();
            }
            // An error: the driver is gone, and with it every reader of the result.
            let _ = sender.send(result);
        });
        self.run = Some(Run {
            begun,
            span: Some(self.trace.part("instantiate")),
            ready: Some(ready),
            done,
            starting: Some(reply),
            signal: None,
            outcome: None,
            drain: Drain::default(),
        });
        self.enter(next);
    }

    async fn signal(&mut self, signal: Signal) {
        let Some(run) = self.run.as_mut() else {
            // Created: no future exists yet, so there is no end to wait for.
            let status = ExitStatus::signalled(signal);
            return self.stop(status, Cause::Signal(signal), None).await;
        };
        if run.outcome.is_some() {
            // The outcome stands, so the signal can only end the wait for readers.
            run.drain.hurry();
            return;
        }
        match signal.action() {
            Action::Ignore => {}
            Action::Stop => self.group.stop(),
            Action::Continue => self.group.proceed(),
            // The exit follows as `Next::Ended`, when every future has yielded and is dropped.
            Action::Kill => {
                run.signal.get_or_insert(signal);
                self.group.abort();
            }
            Action::Terminate => {
                let deliver = |(instance, _): &(Arc<dyn Instance>, _)| instance.signal(signal);
                // A panic of it is that of one guest, whose driver goes on. It leaves the default
                // action.
                let response =
                    self.guest.as_ref().and_then(|guest| panics::contained(|| deliver(guest)));
                // A handled signal leaves the end, and its status, to `run`.
                if response != Some(SignalResponse::Handled) {
                    run.signal.get_or_insert(signal);
                    self.group.abort();
                }
            }
        }
    }

    fn ready(&mut self) {
        // Before the reply: a client that has it finds the process running.
        if let Some(next) = self.state().after(GroupEvent::Ready) {
            self.enter(next);
        }
        drop(self.take_ready());
        if let Some(run) = &mut self.run {
            drop(run.span.take());
            if self.info.kind() == Kind::Container {
                start_memory::container_started();
                lives::took_since(Phase::Instantiate, run.begun);
            }
        }
        self.trace.started();
        let reply = self.run.as_mut().and_then(|run| run.starting.take());
        self.publish(Event::Started { process: self.info.clone() });
        let took = self.run.as_ref().map_or(Duration::ZERO, |run| run.begun.elapsed());
        observe::started(&self.subject, self.info.exec.as_ref(), took);
        if let Some(reply) = reply {
            // The caller may have gone. The guest runs all the same.
            let _ = reply.send(Ok(()));
        }
    }

    /// Takes the ready receiver. One that has answered, even with "closed", must not be polled
    /// again.
    fn take_ready(&mut self) -> Option<oneshot::Receiver<()>> {
        self.run.as_mut()?.ready.take()
    }

    /// Handles the end of `run`, which ends every future that it has spawned.
    fn done(&mut self, outcome: Outcome) {
        // Both may have resolved at once, and `select!` has chosen the end first. The start event
        // must come before the exit.
        if self.take_ready().is_some_and(|mut ready| ready.try_recv().is_ok()) {
            self.ready();
        }
        if let Some(run) = self.run.as_mut() {
            run.outcome = Some(outcome);
            // A reader that is slow must not delay the end of a killed process either.
            if run.signal.is_some() {
                run.drain.hurry();
            }
        }
        self.group.abort();
    }

    /// Handles the end of the group: reports the exit and answers a start that is still waiting.
    async fn ended(&mut self) {
        let Some(run) = self.run.take() else { return };
        let outcome = run.outcome.unwrap_or(Outcome::Dropped);
        if run.starting.is_none()
            && let Outcome::Failed(error) = &outcome
        {
            // The start was answered long ago, so the log is the only place for the error.
            tracing::error!(
                container = %self.info.container,
                %error,
                "the engine failed while the guest was running"
            );
        }
        self.give_up();
        // Before the reply: a client that has it finds the process stopped.
        let status = outcome.status(run.signal, run.starting.is_some());
        if run.starting.is_some() && self.info.exec.is_some() {
            // As containerd's own shims, which know no exit of an exec that has not started:
            // clients would take its status for one of the program.
            self.end(status).await;
        } else {
            // A clone of the handle: the cause borrows from it, and not from the driver.
            let faults = self.faults.clone();
            let cause = outcome.cause(run.signal, faults.get());
            self.stop(status, cause, Some(run.begun.elapsed())).await;
        }
        if let Some(reply) = run.starting {
            let error = outcome.start_error(run.signal);
            observe::refused(&self.subject, self.info.exec.as_ref(), Step::Start, &error);
            self.trace.failed(&error);
            // The caller may have gone. The exit event tells containerd in any case.
            let _ = reply.send(Err(error));
        }
    }

    /// Reports the threads that the kernel does not let go. Each is free again when its call
    /// returns.
    fn give_up(&self) {
        let threads = self.group.held();
        if threads > 0 {
            lives::gave_up_threads(threads);
            // Relaxed: a counter that publishes no other memory.
            let total = GIVEN_UP.fetch_add(threads, Ordering::Relaxed) + threads;
            if let Some(files) = self.group.files() {
                files.given_up(threads, total);
            }
        }
    }

    /// Ends the process, then reports the exit. `run` is absent for a process that never ran.
    async fn stop(&mut self, status: ExitStatus, cause: Cause<'_>, run: Option<Duration>) {
        let exit = self.end(status).await;
        let process = self.info.clone();
        // With the cause: of two ends with the same status one may be a trap.
        self.publish(Event::Exited { process, exit, cause: cause.beyond_status() });
        let memory = self.memory.usage();
        let usage = ExitUsage {
            cpu: self.group.own_cpu(),
            memory_peak: memory.peak,
            memory_limit: memory.limit,
            throttled: self.group.cpu().throttled_time,
        };
        let exited = Exited { status, cause, run, usage: Some(usage) };
        observe::exited(&self.subject, self.info.exec.as_ref(), &exited);
    }

    /// Ends the container's other processes and closes the streams.
    async fn end(&mut self, status: ExitStatus) -> Exit {
        // First: as in a pid namespace, the execs end before the end of their init is known.
        if let Some(execs) = self.execs.take() {
            // Boxed: needed once, by an init only, but part of the size of every driver.
            Box::pin(execs.end()).await;
        }
        for _ in 0..self.memory.take_unreported_kills() {
            self.publish(Event::OutOfMemory { container: self.info.container.clone() });
        }
        self.unread = self.guest.as_ref().and_then(|(_, stdio)| stdio.unread());
        // Closes the other FIFOs before any client learns of the exit.
        let guest = self.guest.take();
        // The last reference to the instance, and so code of the engine: its panic is no reason to
        // end other containers.
        panics::contained(|| drop(guest));
        if self.memory.take_large_host() {
            self.returned = Some(return_memory());
        }
        let exit = Exit::now(status);
        // Before the event: a client that reacts to it finds the process stopped. `send_replace`
        // stores the value without a receiver, too.
        self.status.send_replace(Status { state: State::Stopped, exit: Some(exit) });
        self.counted.set(Condition::Stopped);
        exit
    }

    async fn delete(&mut self) -> Result<(), ProcessError> {
        match self.state().decide(Request::Delete) {
            Decision::Deny(denial) => return Err(denial.into()),
            Decision::Accept(_) | Decision::Ignore => {}
        }
        match (self.state(), &self.info.exec) {
            (State::Stopped, _) => {}
            // As containerd's own shims: an exec that never ran has neither a status nor an exit.
            (_, Some(_)) => {
                self.end(ExitStatus::SUCCESS).await;
            }
            (_, None) => self.stop(ExitStatus::KILLED, Cause::NeverStarted, None).await,
        }
        // containerd removes the snapshot next. The wait is bounded, since a host call that
        // outlives its guest may still hold a file.
        // A thread that was given up keeps its file: there is nothing to wait for.
        let patience = if self.group.held() > 0 { Duration::ZERO } else { UNMOUNT_PATIENCE };
        if timeout(patience, self.unmounted.wait()).await.is_err() {
            tracing::warn!(
                container = %self.info.container,
                "deleted while its file systems are still in use"
            );
        }
        self.unread = None;
        if let Some(returned) = self.returned.take() {
            // An error: it is returned later.
            let _ = timeout(TRIM_PATIENCE, returned).await;
        }
        let exit = self.status.borrow().exit;
        // Not for an exec: containerd's own shims publish no delete event for it either.
        if let (Some(exit), None) = (exit, &self.info.exec) {
            self.publish(Event::Deleted { process: self.info.clone(), exit });
        }
        observe::deleted(&self.subject, self.info.exec.as_ref());
        Ok(())
    }

    /// Ends a process without handles. Its exit is still published, so containerd learns of it.
    async fn abandon(&mut self) {
        let run = self.run.as_ref().map(|run| run.begun.elapsed());
        if run.is_some() {
            self.group.abort();
            self.group.ended_or_held().await;
            self.give_up();
        }
        if self.state() != State::Stopped {
            self.stop(ExitStatus::KILLED, Cause::Signal(Signal::KILL), run).await;
        }
    }

    fn enter(&mut self, state: State) {
        self.counted.set(condition(state));
        self.status.send_modify(|status| status.state = state);
    }

    fn publish(&self, event: Event) {
        self.publisher.publish(event);
    }
}

/// Returns to the system what a guest has left in the allocator: the next one may run on a worker
/// with another heap, and comes on top. The receiver ends with that.
fn return_memory() -> oneshot::Receiver<()> {
    let (done, returned) = oneshot::channel();
    let trim = move || {
        sys::trim_memory();
        // An error: nothing waits any more.
        let _ = done.send(());
    };
    blocking::eventually(&Handle::current(), trim);
    returned
}

fn condition(state: State) -> Condition {
    match state {
        State::Created => Condition::Created,
        State::Starting => Condition::Starting,
        State::Running => Condition::Running,
        State::Paused => Condition::Paused,
        State::Stopped => Condition::Stopped,
    }
}
