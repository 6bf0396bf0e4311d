//! Instances of p3 that serve several requests at once, if the container's annotations allow it.
//!
//! An instance runs as a member of the container's group. A request takes a [`Place`] in one, sends
//! itself there, and keeps the place until its response is complete. An instance is *open* while it
//! takes requests. It is closed for good
//!
//! - by its last request, of which there are `max-reuse`,
//! - after a while without a request,
//! - when a request gets no answer: its client has gone, or `request-timeout` is over. Nothing can
//!   end a single call of a guest, so the instance ends as soon as its other requests are done,
//! - when it fails, with all its requests,
//! - when the server drains.

use std::{pin::pin, sync::Arc, thread, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Request;
use runwasi_core::{lock::Mutex, traces::context::SpanContext};
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::{Instant, sleep},
};
use wasmtime::{Store, component::Accessor};
use wasmtime_wasi_http::p3::bindings::Service;

use super::{
    guest::{self, Head, KEPT_FOR},
    settings::Settings,
};
use crate::{component::store::Component, timed_body::TimedBody};

/// More instances than a container can have.
const MOST_INSTANCES: u32 = 1_000_000;

/// The instances of a server.
pub(super) struct Shared {
    /// Requests of an instance at once.
    at_once: u32,
    /// Requests of an instance in all.
    max_reuse: u32,
    /// Instances for which there is a worker.
    workers: usize,
    /// Instances that take requests. Locked for a look or a change.
    open: Mutex<Vec<Arc<SharedInstance>>>,
    /// Held by a request that makes an instance.
    making: tokio::sync::Mutex<()>,
    /// Notified of a place that has become free, for one request that waits for it.
    freed: Notify,
    /// Each running instance has one of them.
    running: Arc<Semaphore>,
}

/// An instance, as its requests see it.
struct SharedInstance {
    state: Mutex<State>,
    /// Notified when the instance is closed and its requests are done.
    left: Notify,
}

struct State {
    /// Absent if the instance is closed.
    jobs: Option<UnboundedSender<Job>>,
    /// Places that are taken.
    under_way: u32,
    /// Places that have been taken so far.
    taken: u32,
    /// A request has had no answer.
    abandoned: bool,
    failed: bool,
}

/// A request on its way to an instance.
pub(super) struct Job {
    pub(super) request: Request<TimedBody>,
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

/// What runs an instance: its requests, and its permit to run.
pub(super) struct Runner {
    instance: Arc<SharedInstance>,
    shared: Arc<Shared>,
    jobs: UnboundedReceiver<Job>,
    _running: Option<OwnedSemaphorePermit>,
}

/// Which instance a request takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// None if a further instance had a worker of its own.
    Spread,
    /// Any that has a free place.
    Any,
}

impl Shared {
    /// Absent if an instance serves one request at a time.
    pub(super) fn new(settings: &Settings) -> Option<Arc<Self>> {
        let shared = Self {
            at_once: settings.concurrent_reuse,
            max_reuse: settings.max_reuse,
            // An error: the number is not known.
            workers: thread::available_parallelism().map_or(1, usize::from),
            open: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            running: Arc::new(Semaphore::new(MOST_INSTANCES as usize)),
        };
        (settings.concurrent_reuse > 1).then(|| Arc::new(shared))
    }

    /// Takes a place in the instance with the fewest requests.
    pub(super) fn place(self: &Arc<Self>, choice: Choice) -> Option<Place> {
        let mut open = self.open.lock();
        let counts = open.iter().map(|instance| instance.state.lock().under_way);
        let (index, least) = counts.enumerate().min_by_key(|(_, count)| *count)?;
        let spread = choice == Choice::Spread && least > 0 && open.len() < self.workers;
        if spread || least >= self.at_once {
            return None;
        }
        let instance = open.get(index)?.clone();
        let (jobs, is_last) = instance.take(self.max_reuse)?;
        if is_last {
            open.swap_remove(index);
        }
        drop(open);
        Some(Place { shared: self.clone(), instance, jobs, waits: false })
    }

    /// Waits for a place in an instance that there is.
    pub(super) async fn next_place(self: &Arc<Self>) -> Place {
        loop {
            self.freed.notified().await;
            if let Some(place) = self.place(Choice::Any) {
                return place;
            }
        }
    }

    /// Serializes the making of instances: requests that come at once must not make one each.
    pub(super) fn making(&self) -> &tokio::sync::Mutex<()> {
        &self.making
    }

    /// Opens an instance. Returns its first place.
    pub(super) fn open(self: &Arc<Self>) -> (Place, Runner) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let state = State {
            jobs: (self.max_reuse > 1).then(|| sender.clone()),
            under_way: 1,
            taken: 1,
            abandoned: false,
            failed: false,
        };
        let instance = SharedInstance { state: Mutex::new(state), left: Notify::new() };
        let instance = Arc::new(instance);
        if self.max_reuse > 1 {
            self.open.lock().push(instance.clone());
        }
        // Requests that wait find the other places.
        self.freed.notify_waiters();
        // An error: there are more instances than can be.
        let running = self.running.clone().try_acquire_owned().ok();
        let runner =
            Runner { instance: instance.clone(), shared: self.clone(), jobs, _running: running };
        (Place { shared: self.clone(), instance, jobs: sender, waits: false }, runner)
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

    /// Closes an instance that has no request.
    fn close_idle(&self, instance: &Arc<SharedInstance>) {
        // Under the lock with which places are taken: none is taken meanwhile.
        let mut open = self.open.lock();
        if instance.state.lock().under_way == 0 {
            open.retain(|open| !Arc::ptr_eq(open, instance));
            instance.close(|_| {});
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
    }

    /// Gives a place back.
    fn leave(&self) {
        let mut state = self.state.lock();
        state.under_way -= 1;
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
        self.shared.freed.notify_one();
    }
}

impl Runner {
    /// Serves requests until the instance is closed and the guest has nothing left to do, at most
    /// for `patience` after the last response. Returns false if the guest did not end by itself.
    pub(super) async fn run(
        &mut self,
        store: &mut Store<Component>,
        service: &Service,
        patience: Duration,
    ) -> wasmtime::Result<bool> {
        let Self { instance, shared, jobs, .. } = self;
        let served = store.run_concurrent(async |accessor| {
            serve(accessor, service, jobs, || shared.close_idle(instance)).await
        });
        // Not within the guest's event loop, which a guest that computes never enters.
        tokio::select! {
            biased;
            served = served => served?.map(|()| true),
            () = instance.overdue(patience) => Ok(false),
        }
    }

    /// Closes the instance. From here on its requests find that it has failed. To be called before
    /// the store is dropped, by which bodies of responses end.
    pub(super) fn fail(&self) {
        self.shared.close(&self.instance, |state| state.failed = true);
    }
}

impl Drop for Runner {
    /// Closes the instance, whatever has ended its run.
    fn drop(&mut self) {
        self.shared.close(&self.instance, |_| {});
    }
}

/// Serves the requests of an instance. `idle` is called when there has been none for a while.
async fn serve(
    accessor: &Accessor<Component>,
    service: &Service,
    jobs: &mut UnboundedReceiver<Job>,
    idle: impl Fn(),
) -> wasmtime::Result<()> {
    let mut calls = FuturesUnordered::new();
    let mut last = Instant::now();
    let mut look = pin!(sleep(KEPT_FOR));
    loop {
        tokio::select! {
            biased;
            Some(ended) = calls.next(), if !calls.is_empty() => {
                ended?;
                last = Instant::now();
            }
            job = jobs.recv() => match job {
                Some(job) => {
                    // Of several at once, nothing tells which one an outgoing request belongs to.
                    let parent = job.parent.filter(|_| calls.is_empty());
                    calls.push(call(accessor, service, Job { parent, ..job }));
                }
                None => break,
            },
            () = &mut look => {
                let now = Instant::now();
                if now >= last + KEPT_FOR {
                    idle();
                    last = now;
                }
                // One timer for all requests.
                look.as_mut().reset(last + KEPT_FOR);
            }
        }
    }
    while let Some(ended) = calls.next().await {
        ended?;
    }
    guest::settled(accessor).await
}

/// Calls the handler, until it answers or its client has gone.
async fn call(accessor: &Accessor<Component>, service: &Service, job: Job) -> wasmtime::Result<()> {
    let Job { request, mut head, parent } = job;
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
