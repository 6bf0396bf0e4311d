//! Guest of a server in its two worlds: instantiation, call, and reuse where the world allows it.
//!
//! An instance of WASI p2 serves one request. An instance of p3 may serve more: a component of that
//! world declares by its world that it can. It serves one request after the other, not several at
//! once, so that a request that traps, spins or grows fails alone.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use runwasi_core::lock::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep_until,
};
use wasmtime::{
    Engine, Store,
    component::{Accessor, InstancePre},
};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView,
    p2::bindings::{
        Proxy, ProxyPre,
        http::types::{ErrorCode as CodeP2, Scheme},
    },
    p3::{
        self,
        bindings::{Service, ServicePre},
    },
};

use super::{error::Failure, settings::Settings};
use crate::{component::store::Component, timed_body::TimedBody};

/// Time that an instance waits for its next request.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(5);
/// Largest number of waiting instances with few requests under way.
const KEPT: usize = 16;
/// The same with many, as a divisor of their number.
const KEPT_OF_MANY: usize = 4;

/// Head of a guest's response, as the guest's call hands it over.
pub(super) type Head = Result<Response<WasiBody>, Failure>;

/// Linked and checked component: an instance only adds its memory.
pub(super) enum Guest {
    P2(ProxyPre<Component>),
    P3(ServicePre<Component>, IdleInstances),
}

/// Instances that wait for their next request.
#[derive(Default)]
pub(super) struct IdleInstances {
    /// In the order in which they began to wait. Locked to take and to put back.
    kept: Mutex<Vec<IdleInstance>>,
    /// [`Guest::tidy`] is awake or has a timer, so [`Guest::keep`] need not wake it.
    // With the flag, `keep` wakes it once and not for every request.
    watched: AtomicBool,
    wake: Notify,
}

pub(super) enum Instance {
    P2(Proxy),
    /// With the number of requests it has served.
    P3(Service, u32),
}

struct IdleInstance {
    store: Store<Component>,
    instance: Instance,
    since: Instant,
}

impl Guest {
    pub(super) fn p2(pre: InstancePre<Component>) -> wasmtime::Result<Self> {
        ProxyPre::new(pre).map(Self::P2)
    }

    pub(super) fn p3(pre: InstancePre<Component>) -> wasmtime::Result<Self> {
        ServicePre::new(pre).map(|pre| Self::P3(pre, IdleInstances::default()))
    }

    /// The same guest, linked for another pool.
    pub(super) fn in_another_pool(&self, pre: InstancePre<Component>) -> wasmtime::Result<Self> {
        match self {
            Self::P2(_) => Self::p2(pre),
            Self::P3(..) => Self::p3(pre),
        }
    }

    pub(super) async fn instantiate(
        &self,
        store: &mut Store<Component>,
    ) -> wasmtime::Result<Instance> {
        match self {
            Self::P2(pre) => pre.instantiate_async(store).await.map(Instance::P2),
            Self::P3(pre, _) => {
                pre.instantiate_async(store).await.map(|service| Instance::P3(service, 0))
            }
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::P2(pre) => pre.engine(),
            Self::P3(pre, _) => pre.engine(),
        }
    }

    /// True if an instance can serve several requests at once.
    pub(super) fn may_share(&self) -> bool {
        matches!(self, Self::P3(..))
    }

    /// Takes an instance that waits for a request.
    pub(super) fn kept(&self) -> Option<(Store<Component>, Instance)> {
        let Self::P3(_, idle) = self else { return None };
        // The newest, so that instances beyond the demand grow old and are dropped.
        let IdleInstance { store, instance, .. } = idle.kept().pop()?;
        Some((store, instance))
    }

    /// Keeps an instance after the return of its handler, or gives its store back. `under_way`: the
    /// requests that are worked on.
    pub(super) fn keep(
        &self,
        store: Store<Component>,
        instance: Instance,
        settings: &Settings,
        under_way: usize,
    ) -> Option<Store<Component>> {
        let Self::P3(_, idle) = self else { return Some(store) };
        let Instance::P3(service, served) = instance else { return Some(store) };
        let mut kept = idle.kept();
        if served + 1 >= settings.max_reuse || kept.len() >= KEPT.max(under_way / KEPT_OF_MANY) {
            return Some(store);
        }
        kept.push(IdleInstance {
            store,
            instance: Instance::P3(service, served + 1),
            since: Instant::now(),
        });
        // Unlocked before the wake-up: the first thing `tidy` does is to take this lock.
        drop(kept);
        // Pushed before the flag is read: see `tidy`.
        if !idle.watched.swap(true, Ordering::SeqCst) {
            idle.wake.notify_one();
        }
        None
    }

    /// Drops instances that have waited for too long. Never returns.
    pub(super) async fn tidy(&self) {
        // Instances of p2 do not wait.
        let Self::P3(_, idle) = self else { return std::future::pending().await };
        loop {
            match idle.tidy(Instant::now()) {
                Some(at) => sleep_until(at.into()).await,
                None => {
                    // Cleared before the look at `kept`. An instance that is put back before the
                    // look is found by it. One that is put back later finds the flag cleared.
                    idle.watched.store(false, Ordering::SeqCst);
                    if idle.kept().is_empty() {
                        // A wake-up between the look and this wait is stored as a permit.
                        idle.wake.notified().await;
                    }
                }
            }
        }
    }

    /// Drops all waiting instances. Returns `true` if there were any.
    pub(super) fn forget_kept(&self) -> bool {
        let Self::P3(_, idle) = self else { return false };
        // Taken out here and dropped without the lock: unmapping takes its time.
        let kept = std::mem::take(&mut *idle.kept());
        !kept.is_empty()
    }
}

impl IdleInstances {
    fn kept(&self) -> MutexGuard<'_, Vec<IdleInstance>> {
        self.kept.lock()
    }

    /// Drops instances that have waited for too long. Returns when to look again, if any are left.
    fn tidy(&self, now: Instant) -> Option<Instant> {
        let mut kept = self.kept();
        // The oldest come first, so the stale ones are a prefix.
        let stale = kept.iter().take_while(|kept| now >= kept.since + KEPT_FOR).count();
        let stale: Vec<_> = kept.drain(..stale).collect();
        let next = kept.first().map(|kept| kept.since + KEPT_FOR);
        // Unlocked before the instances are dropped: unmapping takes its time.
        drop(kept);
        drop(stale);
        next
    }
}

impl Instance {
    /// Calls the handler. `head` is sent when the handler has answered. The call ends when the
    /// handler has returned and has left nothing to be done.
    pub(super) async fn call(
        &self,
        store: &mut Store<Component>,
        request: Box<Request<TimedBody>>,
        head: oneshot::Sender<Head>,
    ) -> wasmtime::Result<()> {
        match self {
            Self::P2(proxy) => call_p2(proxy, store, request, head).await,
            Self::P3(service, _) => call_p3(service, store, request, head).await,
        }
    }
}

async fn call_p2(
    proxy: &Proxy,
    store: &mut Store<Component>,
    request: Box<Request<TimedBody>>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    let scheme = Scheme::Http;
    let request = store.data_mut().http().new_incoming_request(scheme, *request)?;
    // A head that cannot be sent is dropped: its receiver has given up the request.
    let send = move |answer: Result<_, CodeP2>| drop(head.send(answer.map_err(Failure::of_guest)));
    let out = store.data_mut().http().new_response_outparam_from_callback(send)?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Outcome of the request's body, which the library forwards to a guest that awaits its response's.
type BodyOutcome = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

async fn call_p3(
    service: &Service,
    store: &mut Store<Component>,
    request: Box<Request<TimedBody>>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    let call = async |accessor: &Accessor<Component>| {
        // An error: the request has been given up, as in `call_p2`. The head goes out before the
        // rest is waited for: the client reads meanwhile.
        let _ = head.send(answer_p3(service, accessor, request).await?);
        settled(accessor).await
    };
    store.run_concurrent(call).await?
}

/// Calls the handler until it has answered.
pub(super) async fn answer_p3(
    service: &Service,
    accessor: &Accessor<Component>,
    request: Box<Request<TimedBody>>,
) -> wasmtime::Result<Head> {
    let (request, sent) = accessor.with(|mut store| {
        let view = store.get().http();
        let (request, sent) = p3::Request::from_http(view.hooks, *request);
        // Boxed: its type would borrow from the store.
        let sent: BodyOutcome = Box::pin(sent);
        wasmtime::error::Ok((view.table.push(request)?, sent))
    })?;
    match service.wasi_http_handler().call_handle(accessor, request).await? {
        Ok(response) => accessor.with(|mut store| {
            let response = store.get().http().table.delete(response)?;
            Ok(Ok(response.into_http(&mut store, sent)?))
        }),
        Err(code) => Ok(Err(Failure::of_guest(code))),
    }
}

/// Waits until the guest has nothing left to do.
pub(super) async fn settled(accessor: &Accessor<Component>) -> wasmtime::Result<()> {
    // A handler of p3 may return a response before its tasks have written the body.
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    Ok(())
}
