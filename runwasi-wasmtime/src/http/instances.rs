//! What all requests of a running server share, and the way from a request to an instance of the guest.

use std::{future::Future, sync::Arc, time::Duration};

use http::{Request, uri::Authority};
use runwasi_core::{GuestContext, InstanceSpec};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, timeout},
};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store};
use wasmtime_wasi::WasiView;

use super::{
    context_pool::ContextPool,
    error::Failure,
    guest::{Guest, Head, Instance},
    request_body::RequestBody,
    settings::Settings,
};
use crate::{
    component::store::{Component, Imports},
    epoch::Ticker,
    exit,
    limits::OutOfMemory,
};

/// When the pool that all containers share is looked at again.
const POOL_LOOK: Duration = Duration::from_millis(5);

pub(super) struct Serving {
    pub(super) spec: InstanceSpec,
    pub(super) settings: Settings,
    pub(super) spawner: Spawner,
    /// Of requests that name no host.
    pub(super) authority: Authority,
    guest: Arc<Guest>,
    engine: Engine,
    imports: Imports,
    context_pool: ContextPool,
    requests: Arc<Semaphore>,
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
        self.context.spawn(self.ticker.during(future));
    }
}

/// Streams of HTTP/2 are members of the group each: they run on all workers, and one that spins delays no other.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

impl Serving {
    /// `first` has been instantiated to see that it can be.
    pub(super) fn new(
        spec: InstanceSpec,
        settings: Settings,
        spawner: Spawner,
        guest: Arc<Guest>,
        mut first: Store<Component>,
        imports: Imports,
    ) -> Self {
        let engine = first.engine().clone();
        let context_pool = ContextPool::new(first.data_mut().ctx().ctx.filesystem().clone());
        context_pool.put_back(first.into_data().into_context());
        let authority = settings.address.to_string();
        let authority = authority.parse().unwrap_or_else(|_| Authority::from_static("localhost"));
        let requests = Arc::new(Semaphore::new(settings.max_requests as usize));
        Self { spec, settings, spawner, authority, guest, engine, imports, context_pool, requests }
    }

    /// One of the requests that may be worked on at once, when it is free.
    pub(super) async fn admit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(slot) = self.requests.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let slot =
            timeout(self.settings.queue_timeout, self.requests.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or(Failure::Busy)
    }

    /// When no request is being worked on.
    pub(super) async fn idle(&self) {
        // Nobody closes it.
        let _ = self.requests.acquire_many(self.settings.max_requests).await;
    }

    /// Runs the guest's handler to its return. `head` is sent as soon as the guest has answered.
    pub(super) async fn call(
        self: Arc<Self>,
        request: Request<RequestBody>,
        head: oneshot::Sender<Head>,
    ) -> Result<(), Failure> {
        let (mut store, instance) = self.instance().await?;
        match instance.call(&mut store, request, head).await {
            Ok(()) => {
                if let Some(store) = self.guest.keep(store, instance, &self.settings) {
                    self.context_pool.put_back(store.into_data().into_context());
                }
                Ok(())
            }
            Err(error) => {
                // The story may wait for a reader, the memory need not.
                drop(store);
                // Of the stacks that calls run on.
                if error.is::<PoolConcurrencyLimitError>() {
                    return Err(Failure::Busy);
                }
                Err(self.failed(&error).await)
            }
        }
    }

    /// An instance, waited for as long as a request may wait.
    async fn instance(&self) -> Result<(Store<Component>, Instance), Failure> {
        if let Some(kept) = self.guest.kept() {
            return Ok(kept);
        }
        let mut until = None;
        loop {
            let error = match self.instantiate().await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            if error.is::<PoolConcurrencyLimitError>() {
                let now = Instant::now();
                if now >= *until.get_or_insert(now + self.settings.queue_timeout) {
                    return Err(Failure::Busy);
                }
                sleep(POOL_LOOK).await;
            } else if error.is::<OutOfMemory>() {
                // Those that wait for requests may be what is in the way.
                if !self.guest.forget_kept() {
                    return Err(Failure::NoMemory);
                }
            } else {
                return Err(self.failed(&error).await);
            }
        }
    }

    async fn instantiate(&self) -> wasmtime::Result<(Store<Component>, Instance)> {
        let context = self.context_pool.take(&self.spec);
        let store =
            Component::with_context(&self.engine, &self.spec, context, self.imports.clone());
        let mut store = store.map_err(OutOfMemory)?;
        let instance = self.guest.instantiate(&mut store).await?;
        store.data_mut().started();
        Ok((store, instance))
    }

    async fn failed(&self, error: &wasmtime::Error) -> Failure {
        exit::tell(error, &self.spec).await;
        Failure::Failed
    }
}
