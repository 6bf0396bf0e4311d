//! State shared by all requests of a running server, and the way from a request to an instance.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use http::{Request, uri::Authority};
use runwasi_core::{EngineError, GuestContext, InstanceSpec, engine::notes::Notes};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::WasiView;

use super::{
    context_pool::ContextPool,
    error::Failure,
    further::Further,
    guest::{Guest, Head, Instance},
    settings::Settings,
    shared::Shared,
    written::Broken,
};
use crate::{
    component::store::{Component, Imports},
    epoch::Ticker,
    exit, gc_heap,
    limits::{self, Limited, OutOfMemory},
    shares::{Share, Shortage},
    timed_body::TimedBody,
    trace,
};

/// Interval between attempts to get an instance from the pool that all containers share.
// The pool does not notify when an instance becomes free.
const POOL_LOOK: Duration = Duration::from_millis(5);
/// The same while other requests are worked on, whose ends notify.
const OTHERS_LOOK: Duration = Duration::from_millis(50);

/// Slot of the concurrent requests. Free when all work for its request is done.
pub(super) type Slot = Arc<OwnedSemaphorePermit>;

pub(super) struct Serving {
    pub(super) spec: InstanceSpec,
    pub(super) settings: Settings,
    pub(super) spawner: Spawner,
    /// Authority of requests that name no host.
    pub(super) authority: Authority,
    guest: Arc<Guest>,
    /// Room for instances beyond the container's share of the engine's pool.
    further: Option<Further>,
    imports: Imports,
    context_pool: ContextPool,
    requests: Arc<Semaphore>,
    /// Notified of each instance that is free or gone, for one request that waits for it.
    freed: Notify,
    /// Absent if an instance serves one request at a time.
    pub(super) shared: Option<Arc<Shared>>,
    /// Counts requests for operators.
    pub(super) notes: Arc<Notes>,
}

/// Starts members of the container's group, in which guest code runs.
#[derive(Clone)]
pub(super) struct Spawner {
    context: GuestContext,
    ticker: Arc<Ticker>,
}

impl Spawner {
    pub(super) fn new(context: GuestContext, ticker: Arc<Ticker>) -> Self {
        Self { context, ticker }
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // Guest code yields only at ticks of the epoch, so the clock must tick during its polls.
        self.context.spawn(self.ticker.during(future));
    }
}

/// Settings with the number of concurrent requests for which the container's share has room.
fn within_share(mut settings: Settings, spec: &InstanceSpec, most: u32) -> Settings {
    let most = most.saturating_mul(settings.concurrent_reuse.min(settings.max_reuse));
    if settings.max_requests > most {
        // Without a warning if nothing was set: the default is more than a small pod has.
        tracing::info!(
            container = %spec.container,
            max_requests = settings.max_requests,
            most,
            "the container's share of the engine has room for fewer requests at once"
        );
        settings.max_requests = most;
    }
    settings
}

/// Lets a waiting request try again, when it is dropped.
pub(super) struct Freed<'a>(&'a Notify);

impl Drop for Freed<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Serving {
    /// `first` is the store of an instance that was made only to check that it can be made.
    pub(super) fn new(
        spec: InstanceSpec,
        mut settings: Settings,
        spawner: Spawner,
        (guest, mut further): (Arc<Guest>, Option<Further>),
        mut first: Store<Component>,
        mut imports: Imports,
    ) -> Self {
        // The code does not tell, its first instance does.
        if first.data_mut().limits().has_heap() {
            imports.shares = imports.shares.with_heap();
            further = further.map(Further::with_heap);
        }
        let context_pool = ContextPool::new(first.data_mut().ctx().ctx.filesystem().clone());
        context_pool.put_back(first.into_data().into_context());
        let authority = settings.address.to_string();
        // An address with its port is always an authority: the fallback only avoids a panic.
        let authority = authority.parse().unwrap_or_else(|_| Authority::from_static("localhost"));
        let of_further = further.as_ref().map_or(0, |further| further.shares().most_stores());
        let most = imports.shares.most_stores().saturating_add(of_further);
        if !guest.may_share() {
            settings.concurrent_reuse = 1;
        }
        let settings = within_share(settings, &spec, most);
        let shared = Shared::new(&settings);
        let requests = Arc::new(Semaphore::new(settings.max_requests as usize));
        let notes = spec.extensions.get_or_make(Notes::default);
        notes.serves();
        Self {
            spec,
            settings,
            spawner,
            authority,
            guest,
            further,
            imports,
            context_pool,
            requests,
            freed: Notify::new(),
            shared,
            notes,
        }
    }

    /// Takes a slot of the concurrent requests. Waits for `queue-timeout` at most.
    pub(super) async fn admit(&self) -> Result<Slot, Failure> {
        // A free slot is taken without a timer.
        if let Ok(slot) = self.requests.clone().try_acquire_owned() {
            return Ok(Arc::new(slot));
        }
        let slot =
            timeout(self.settings.queue_timeout, self.requests.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).map(Arc::new).ok_or(Failure::Busy)
    }

    /// Waits until no request is being worked on.
    pub(super) async fn idle(&self) {
        // This cannot fail: the semaphore is never closed. The permits may return at once, as the
        // server has stopped to accept.
        let _ = self.requests.acquire_many(self.settings.max_requests).await;
    }

    /// Runs the guest's handler until it returns. `head` is sent as soon as the guest has answered.
    // The request is boxed: each future on its way would have room for it twice.
    pub(super) async fn call(
        self: Arc<Self>,
        request: Box<Request<TimedBody>>,
        head: oneshot::Sender<Head>,
        slot: Slot,
    ) -> Result<(), Broken> {
        let parent = trace::current(&request);
        // Dropped after the store.
        let _freed = self.freed();
        let (mut store, instance) = self.instance(&slot).await?;
        // Of the present request: an instance of p3 has served others before.
        store.data_mut().outbound.parent = parent;
        // Dropped before the store, also if the request is given up.
        let running = store.data_mut().outbound.run();
        let called = {
            let call = pin!(instance.call(&mut store, request, head));
            limits::bounded(&self.spec.memory, call).await
        };
        match called {
            Ok(()) => {
                // Requests of a p3 instance go on after this one, those of p2 end with their store.
                if self.guest.may_share() {
                    running.returned();
                } else {
                    drop(running);
                }
                let under_way = self.under_way();
                if let Some(store) = self.guest.keep(store, instance, &self.settings, under_way) {
                    self.put_back(store);
                }
                Ok(())
            }
            Err(error) => {
                let error = store.data().explain(error);
                drop(running);
                // The body of the response ends with the store, as if it were complete. So the
                // failure is returned with it, unless the store holds the memory that is missing.
                let store = (!error.is::<OutOfMemory>()).then_some(store);
                Err(Broken { failure: self.failure_of(error, &slot), store })
            }
        }
    }

    /// Lets a waiting request try again, when the answer is dropped.
    pub(super) fn freed(&self) -> Freed<'_> {
        Freed(&self.freed)
    }

    /// Takes back what the next instance can use.
    pub(super) fn put_back(&self, store: Store<Component>) {
        self.context_pool.put_back(store.into_data().into_context());
    }

    /// Ends the instances that no request uses. To be called when there are none any more.
    pub(super) async fn end(&self) {
        self.guest.forget_kept();
        if let Some(shared) = &self.shared {
            shared.end().await;
        }
    }

    /// Takes a waiting instance or makes one. Waits for `queue-timeout` at most.
    async fn instance(
        self: &Arc<Self>,
        slot: &Slot,
    ) -> Result<(Store<Component>, Instance), Failure> {
        if let Some(kept) = self.guest.kept() {
            return Ok(kept);
        }
        let mut until = None;
        loop {
            let error = match self.instantiate().await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            let Some(lack) = Self::lack(&error) else { return Err(self.failed(error, slot)) };
            if lack == Failure::NoMemory {
                // The memory may be held by instances that wait for requests: they go first.
                if self.guest.forget_kept() {
                    continue;
                }
                if self.is_alone() {
                    return Err(lack);
                }
            }
            let now = Instant::now();
            // The wait begins with the first failure.
            let until = *until.get_or_insert(now + self.settings.queue_timeout);
            if now >= until {
                return Err(lack);
            }
            let look = if self.is_alone() { POOL_LOOK } else { OTHERS_LOOK };
            // Either end of the wait is a reason to try again.
            let _ = timeout_at(until.min(now + look), self.freed.notified()).await;
            if let Some(kept) = self.guest.kept() {
                return Ok(kept);
            }
        }
    }

    /// Failure for lack of room for an instance. Absent if the instance has failed.
    pub(super) fn lack(error: &wasmtime::Error) -> Option<Failure> {
        if error.is::<Shortage>() || error.is::<PoolConcurrencyLimitError>() {
            Some(Failure::Busy)
        } else {
            error.is::<OutOfMemory>().then_some(Failure::NoMemory)
        }
    }

    /// Waits until there may be room for an instance.
    pub(super) async fn wait_for_room(&self) {
        // Either end of the wait is a reason to try again.
        let _ = timeout(OTHERS_LOOK, self.freed.notified()).await;
    }

    /// Number of requests that are being worked on.
    fn under_way(&self) -> usize {
        (self.settings.max_requests as usize).saturating_sub(self.requests.available_permits())
    }

    /// True if no other request is being worked on, whose end would free memory.
    fn is_alone(&self) -> bool {
        self.under_way() <= 1
    }

    /// Makes an instance in the pool of the engine, or in the further one.
    pub(super) async fn instantiate(&self) -> wasmtime::Result<(Store<Component>, Instance)> {
        // Asked before anything is made: beyond its share, a server comes here with each request.
        let shortage = match self.imports.shares.take() {
            Ok(share) => return self.instantiate_with(share, &self.guest).await,
            Err(shortage) => shortage,
        };
        let Some(further) = &self.further else { return Err(shortage.into()) };
        // Before the pool is made, which a refused request does not need.
        let share = further.shares().take()?;
        match further.guest(&self.guest).await {
            Some(guest) => self.instantiate_with(share, guest).await,
            None => Err(shortage.into()),
        }
    }

    async fn instantiate_with(
        &self,
        share: Share,
        guest: &Guest,
    ) -> wasmtime::Result<(Store<Component>, Instance)> {
        let imports = self.imports.clone();
        let context = self.context_pool.take(&self.spec);
        let store = Component::with_context(guest.engine(), &self.spec, context, imports, share);
        // Handled like a growth beyond the limit: the new store's stack counts as memory, too.
        let mut store = store.map_err(OutOfMemory)?;
        let instance = guest.instantiate(&mut store).await?;
        // Only now: up to here, memory that is refused means that the instance does not fit.
        store.data_mut().started();
        gc_heap::enlarge(&mut store, gc_heap::OF_REQUEST)?;
        Ok((store, instance))
    }

    /// The failure of a request whose guest has not returned.
    fn failure_of(self: &Arc<Self>, error: wasmtime::Error, slot: &Slot) -> Failure {
        // The pool, or the container's share of it, has no stack left for the call.
        let lacks = matches!(error.downcast_ref(), Some(EngineError::Exhausted { .. }));
        if lacks || error.is::<PoolConcurrencyLimitError>() {
            return Failure::Busy;
        }
        // An end by choice, like a return.
        if exit::is_success(&error) {
            return Failure::Silent;
        }
        self.failed(error, slot)
    }

    /// The failure of a request by a trap or the like, which a member tells on the container's
    /// stderr. The request's slot is held until then: the server does not end before.
    fn failed(self: &Arc<Self>, error: wasmtime::Error, slot: &Slot) -> Failure {
        let serving = self.clone();
        let slot = slot.clone();
        self.spawner.spawn(async move {
            serving.tell(&error).await;
            drop(slot);
        });
        Failure::Failed
    }

    /// Writes a failure to the container's stderr. Waits for its reader, for a while.
    pub(super) async fn tell(&self, error: &wasmtime::Error) {
        exit::tell(error, &self.spec).await;
    }
}
