//! Instances of p3 that serve several requests at once, if the container's annotations allow it.
//!
//! An instance runs as a member of the container's group. A request takes a [`Place`] in one, sends
//! itself there, and keeps the place until its response is complete. An instance is *open* while it
//! takes requests. It is closed for good
//!
//! - by its last request, of which there are `max-reuse`,
//! - after a while without a request,
//! - when a request gets no answer: its client has gone, or `request-timeout` is over. Nothing can
//!   end a single call of a guest, so the instance ends as soon as its other requests are done, or
//!   when its guest is found to compute without an end,
//! - when it fails, with all its requests,
//! - when the server drains.
//!
//! The timers are outside the event loop of the store, which a guest that computes does not enter.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Request;
use runwasi_core::{lock::Mutex, traces::context::SpanContext};
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::{Instant, sleep, sleep_until},
};
use wasmtime::{Store, component::Accessor};
use wasmtime_wasi_http::p3::bindings::Service;

use super::{
    error::Failure,
    guest::{self, Head, KEPT_FOR},
    settings::Settings,
};
use crate::{component::store::Component, timed_body::TimedBody};

/// More instances than a container can have.
const MOST_INSTANCES: u32 = 1_000_000;

/// The instances of a server.
// Lock order: `waiting`, `open`, the state of an instance.
pub(super) struct Shared {
    /// Requests of an instance at once.
    at_once: u32,
    /// Requests of an instance in all.
    max_reuse: u32,
    /// Instances for which there is a worker.
    workers: usize,
    /// Requests that wait for a place, the oldest first.
    waiting: Mutex<VecDeque<oneshot::Sender<Answer>>>,
    /// Instances that take requests.
    open: Mutex<Vec<Arc<SharedInstance>>>,
    /// An instance is being made.
    making: AtomicBool,
    /// There was no room for an instance that no request waited for, and none has ended since.
    full: AtomicBool,
    /// Each running instance has one of them.
    running: Arc<Semaphore>,
}

/// Answer to a request that waits.
type Answer = Result<Place, Failure>;

/// An instance, as its requests see it.
struct SharedInstance {
    state: Mutex<State>,
    /// Notified when the instance is closed and its requests are done.
    left: Notify,
    /// Notified when a request gets no answer.
    abandoned: Notify,
    /// Asks the loop of the instance for a sign of life.
    ping: Notify,
    /// The sign.
    alive: AtomicBool,
}

struct State {
    /// Absent if the instance is closed.
    jobs: Option<UnboundedSender<Job>>,
    /// Places that are taken.
    under_way: u32,
    /// Places that have been taken so far.
    taken: u32,
    /// When the last place was given back.
    last: Instant,
    /// A request has had no answer.
    abandoned: bool,
    failed: bool,
}

/// A request on its way to an instance.
pub(super) struct Job {
    pub(super) request: Box<Request<TimedBody>>,
    /// Dropped without an answer if the instance ends.
    pub(super) head: oneshot::Sender<Head>,
    pub(super) parent: Option<SpanContext>,
}

/// Place of a request in an instance, until it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    instance: Arc<SharedInstance>,
    jobs: UnboundedSender<Job>,
    /// The request was sent and has no answer yet.
    waits: bool,
}

/// Runner of an instance: its requests, and its permit to run.
pub(super) struct Runner {
    instance: Arc<SharedInstance>,
    shared: Arc<Shared>,
    jobs: UnboundedReceiver<Job>,
    _running: Option<OwnedSemaphorePermit>,
}

/// The right to make an instance. Only one is made at a time: requests that come at once must not
/// make one each.
pub(super) struct Making {
    shared: Arc<Shared>,
    has_ended: bool,
}

/// The way to a place.
pub(super) enum Admission {
    Place(Place),
    /// All instances are full. The answer comes when a place is free.
    Later(oneshot::Receiver<Answer>),
}

impl Shared {
    /// Absent if an instance serves one request at a time.
    pub(super) fn new(settings: &Settings) -> Option<Arc<Self>> {
        let shared = Self {
            at_once: settings.concurrent_reuse,
            max_reuse: settings.max_reuse,
            // An error: the number is not known.
            workers: thread::available_parallelism().map_or(1, usize::from),
            waiting: Mutex::default(),
            open: Mutex::default(),
            making: AtomicBool::new(false),
            full: AtomicBool::new(false),
            running: Arc::new(Semaphore::new(MOST_INSTANCES as usize)),
        };
        (settings.concurrent_reuse > 1).then(|| Arc::new(shared))
    }

    /// Takes a place in the instance with the fewest requests, or queues for one. Gives the right
    /// to make an instance if a further one would have a worker, or if the others are full.
    pub(super) fn find(self: &Arc<Self>) -> (Admission, Option<Making>) {
        let mut waiting = self.waiting.lock();
        let (place, wants) = if waiting.is_empty() { self.place() } else { (None, true) };
        let found = place.map_or_else(
            || {
                let (sender, answer) = oneshot::channel();
                waiting.push_back(sender);
                Admission::Later(answer)
            },
            Admission::Place,
        );
        // Under the lock with which a maker ends: it has seen this request, or another one begins.
        // Relaxed: flags that publish no other memory.
        let makes = wants && !self.making.swap(true, Ordering::Relaxed);
        drop(waiting);
        (found, makes.then(|| Making { shared: self.clone(), has_ended: false }))
    }

    /// A place, if there is one, and whether a further instance is wanted.
    fn place(self: &Arc<Self>) -> (Option<Place>, bool) {
        let mut open = self.open.lock();
        let counts = open.iter().map(|instance| instance.state.lock().under_way);
        let Some((index, least)) = counts.enumerate().min_by_key(|(_, count)| *count) else {
            return (None, true);
        };
        if least >= self.at_once {
            return (None, true);
        }
        // Relaxed: as in `find`.
        let room = open.len() < self.workers && !self.full.load(Ordering::Relaxed);
        let Some(instance) = open.get(index).cloned() else { return (None, true) };
        let Some((jobs, is_last)) = instance.take(self.max_reuse) else { return (None, true) };
        if is_last {
            open.swap_remove(index);
        }
        drop(open);
        (Some(Place { shared: self.clone(), instance, jobs, waits: false }), room && least > 0)
    }

    /// Gives free places to requests that wait.
    fn serve_waiting(self: &Arc<Self>) {
        loop {
            let mut waiting = self.waiting.lock();
            // Their clients have gone.
            while waiting.front().is_some_and(oneshot::Sender::is_closed) {
                waiting.pop_front();
            }
            if waiting.is_empty() {
                return;
            }
            let (Some(place), _) = self.place() else { return };
            let first = waiting.pop_front();
            // Unlocked: a place that cannot be sent is dropped, which comes here again.
            drop(waiting);
            if let Some(first) = first {
                drop(first.send(Ok(place)));
            }
        }
    }

    /// True if an instance runs, whose end would leave room for another one.
    pub(super) fn is_running(&self) -> bool {
        self.running.available_permits() < MOST_INSTANCES as usize
    }

    /// Closes all instances and waits for their ends.
    pub(super) async fn end(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        open.iter().for_each(|instance| instance.close(|_| {}));
        // The semaphore is never closed.
        let _ = self.running.acquire_many(MOST_INSTANCES).await;
    }

    /// Closes an instance after `change`.
    fn close(&self, instance: &Arc<SharedInstance>, change: impl FnOnce(&mut State)) {
        self.open.lock().retain(|open| !Arc::ptr_eq(open, instance));
        instance.close(change);
    }

    /// Closes an instance that has had no request for a while. Returns when to look again.
    fn close_idle(&self, instance: &Arc<SharedInstance>) -> Instant {
        // Under the lock with which places are taken: none is taken meanwhile.
        let mut open = self.open.lock();
        let now = Instant::now();
        let since = {
            let state = instance.state.lock();
            if state.under_way == 0 { state.last } else { now }
        };
        let due = since + KEPT_FOR;
        if due > now {
            return due;
        }
        open.retain(|open| !Arc::ptr_eq(open, instance));
        instance.close(|_| {});
        // Looked at again until its end, which changes nothing.
        now + KEPT_FOR
    }
}

impl Making {
    /// Opens an instance. Requests that wait get its places.
    pub(super) fn open(&self) -> Runner {
        let shared = &self.shared;
        let (sender, jobs) = mpsc::unbounded_channel();
        let state = State {
            jobs: Some(sender),
            under_way: 0,
            taken: 0,
            last: Instant::now(),
            abandoned: false,
            failed: false,
        };
        let instance = Arc::new(SharedInstance {
            state: Mutex::new(state),
            left: Notify::new(),
            abandoned: Notify::new(),
            ping: Notify::new(),
            alive: AtomicBool::new(true),
        });
        shared.open.lock().push(instance.clone());
        // An error: there are more instances than can be.
        let running = shared.running.clone().try_acquire_owned().ok();
        shared.serve_waiting();
        Runner { instance, shared: shared.clone(), jobs, _running: running }
    }

    /// Gives the right back if no request waits for a place. Tells if it has.
    pub(super) fn end(&mut self) -> bool {
        let mut waiting = self.shared.waiting.lock();
        waiting.retain(|waits| !waits.is_closed());
        if waiting.is_empty() {
            self.has_ended = true;
            self.shared.making.store(false, Ordering::Relaxed);
        }
        self.has_ended
    }

    /// Marks that there is no room for an instance that no request waits for.
    pub(super) fn is_full(&self) {
        self.shared.full.store(true, Ordering::Relaxed);
    }

    /// Answers all requests that wait, and gives the right back.
    pub(super) fn fail(mut self, failure: Failure) {
        let waiting = {
            let mut waiting = self.shared.waiting.lock();
            self.has_ended = true;
            self.shared.making.store(false, Ordering::Relaxed);
            std::mem::take(&mut *waiting)
        };
        for waits in waiting {
            // An error: its client has gone.
            drop(waits.send(Err(failure)));
        }
    }
}

impl Drop for Making {
    /// For a maker that was dropped. Another one may have begun after an end of its own.
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.making.store(false, Ordering::Relaxed);
        }
    }
}

impl SharedInstance {
    /// Takes a place. Tells if it is the last one.
    fn take(&self, max_reuse: u32) -> Option<(UnboundedSender<Job>, bool)> {
        let mut state = self.state.lock();
        let jobs = state.jobs.clone()?;
        state.under_way += 1;
        state.taken += 1;
        let is_last = state.taken >= max_reuse;
        if is_last {
            state.jobs = None;
        }
        Some((jobs, is_last))
    }

    fn close(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        state.jobs = None;
        change(&mut state);
        if state.under_way == 0 {
            self.left.notify_one();
        }
        if state.abandoned {
            self.abandoned.notify_one();
        }
    }

    /// Gives a place back.
    fn leave(&self) {
        let mut state = self.state.lock();
        state.under_way -= 1;
        state.last = Instant::now();
        if state.under_way == 0 && state.jobs.is_none() {
            self.left.notify_one();
        }
    }

    /// Completes when the guest has no request left and no time for work of its own.
    async fn overdue(&self, patience: Duration) {
        self.left.notified().await;
        let abandoned = { self.state.lock().abandoned };
        if !abandoned {
            sleep(patience).await;
        }
    }

    /// Completes when a request was given up and the guest does nothing but compute.
    async fn stuck(&self, patience: Duration) {
        self.abandoned.notified().await;
        loop {
            self.alive.store(false, Ordering::Relaxed);
            self.ping.notify_one();
            sleep(patience).await;
            if !self.alive.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl Place {
    /// Sends the request to the instance.
    pub(super) fn send(&mut self, job: Job) {
        // An error: the instance has ended, and with the job the sender of its head is dropped.
        self.waits = self.jobs.send(job).is_ok();
    }

    /// Marks the request as answered.
    pub(super) fn answered(&mut self) {
        self.waits = false;
    }

    /// True if the instance has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.instance.state.lock().failed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            self.shared.close(&self.instance, |state| state.abandoned = true);
        }
        self.instance.leave();
        self.shared.serve_waiting();
    }
}

impl Runner {
    /// Serves requests until the instance is closed and the guest has nothing left to do, at most
    /// for `patience` after the last response. Returns false if the guest did not end by itself.
    /// After any other end, requests find that the instance has failed, before the store ends: by
    /// that end a response seems complete.
    pub(super) async fn run(
        &mut self,
        store: &mut Store<Component>,
        service: &Service,
        patience: Duration,
    ) -> wasmtime::Result<bool> {
        let Self { instance, shared, jobs, .. } = self;
        let mut failing = Failing { instance, shared, has_ended: false };
        let served =
            store.run_concurrent(async |accessor| serve(accessor, service, jobs, instance).await);
        let idle = async {
            let mut look = Instant::now() + KEPT_FOR;
            loop {
                sleep_until(look).await;
                look = shared.close_idle(instance);
            }
        };
        let ended = tokio::select! {
            biased;
            served = served => served.flatten().map(|()| true),
            () = instance.overdue(patience) => Ok(false),
            () = instance.stuck(patience) => Err(wasmtime::Error::msg(
                "a request was given up, and the guest has computed ever since",
            )),
            () = idle => pending().await,
        };
        failing.has_ended = ended.is_ok();
        ended
    }
}

impl Drop for Runner {
    /// Closes the instance, whatever has ended its run.
    fn drop(&mut self) {
        self.shared.close(&self.instance, |_| {});
        self.shared.full.store(false, Ordering::Relaxed);
    }
}

/// Marks an instance as failed when it is dropped, unless the instance has ended by then.
struct Failing<'a> {
    instance: &'a Arc<SharedInstance>,
    shared: &'a Shared,
    has_ended: bool,
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.close(self.instance, |state| state.failed = true);
        }
    }
}

/// Serves the requests of an instance until it is closed and the guest has nothing left to do.
async fn serve(
    accessor: &Accessor<Component>,
    service: &Service,
    jobs: &mut UnboundedReceiver<Job>,
    instance: &SharedInstance,
) -> wasmtime::Result<()> {
    let mut calls = FuturesUnordered::new();
    let alive = async {
        loop {
            instance.ping.notified().await;
            instance.alive.store(true, Ordering::Relaxed);
        }
    };
    let requests = async {
        loop {
            tokio::select! {
                biased;
                Some(ended) = calls.next(), if !calls.is_empty() => ended?,
                job = jobs.recv() => {
                    let Some(job) = job else { break };
                    // Of several at once, nothing tells which one an outgoing request belongs to.
                    let parent = job.parent.filter(|_| calls.is_empty());
                    calls.push(call(accessor, service, Job { parent, ..job }));
                }
            }
        }
        while let Some(ended) = calls.next().await {
            ended?;
        }
        guest::settled(accessor).await
    };
    tokio::select! {
        biased;
        ended = requests => ended,
        () = alive => Ok(()),
    }
}

/// Calls the handler, until it answers or its client has gone.
async fn call(accessor: &Accessor<Component>, service: &Service, job: Job) -> wasmtime::Result<()> {
    let Job { request, mut head, parent } = job;
    if head.is_closed() {
        return Ok(());
    }
    accessor.with(|mut store| store.get().outbound.parent = parent);
    tokio::select! {
        biased;
        answer = guest::answer_p3(service, accessor, request) => {
            // An error: the client has gone.
            let _ = head.send(answer?);
        }
        () = head.closed() => {}
    }
    Ok(())
}
