//! The guest of a server in its two worlds: instantiated, called, and kept for the next request where the world allows it.
//!
//! An instance of WASI p2 serves one request. One of p3 may serve more: a component of that world says that it can by being of it.
//! It serves one after the other, not several at once, so that a request that traps, spins or grows fails alone.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
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
    p2::bindings::{Proxy, ProxyPre, http::types::Scheme},
    p3::{
        self,
        bindings::{Service, ServicePre},
    },
};

use super::{error::Failure, request_body::RequestBody, settings::Settings};
use crate::component::store::Component;

/// How long an instance waits for its next request.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// How many do.
const KEPT: usize = 16;

/// The head of a guest's response, as the guest's call hands it over.
pub(super) type Head = Result<Response<WasiBody>, Failure>;

/// Linked and checked: everything but the memory.
pub(super) enum Guest {
    P2(ProxyPre<Component>),
    P3(ServicePre<Component>, IdleInstances),
}

/// Instances that wait for their next request.
#[derive(Default)]
pub(super) struct IdleInstances {
    /// The one that came first is the first. Locked to take and to put back.
    kept: Mutex<Vec<IdleInstance>>,
    /// Whether somebody sees to it that they leave; who puts back wakes him once, not for every request.
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

    /// An instance that has waited for a request. The one that came last: others may leave.
    pub(super) fn kept(&self) -> Option<(Store<Component>, Instance)> {
        let Self::P3(_, idle) = self else { return None };
        let IdleInstance { store, instance, .. } = idle.kept().pop()?;
        Some((store, instance))
    }

    /// Keeps an instance whose handler has returned, or gives back its store.
    pub(super) fn keep(
        &self,
        store: Store<Component>,
        instance: Instance,
        settings: &Settings,
    ) -> Option<Store<Component>> {
        let (Self::P3(_, idle), Instance::P3(service, served)) = (self, instance) else {
            return Some(store);
        };
        let mut kept = idle.kept();
        if served + 1 >= settings.max_reuse || kept.len() == KEPT {
            return Some(store);
        }
        kept.push(IdleInstance {
            store,
            instance: Instance::P3(service, served + 1),
            since: Instant::now(),
        });
        drop(kept);
        if !idle.watched.swap(true, Ordering::SeqCst) {
            idle.wake.notify_one();
        }
        None
    }

    /// Ends instances that have waited for too long. Never returns.
    pub(super) async fn tidy(&self) {
        let Self::P3(_, idle) = self else { return std::future::pending().await };
        loop {
            match idle.tidy(Instant::now()) {
                Some(at) => sleep_until(at.into()).await,
                None => {
                    // Who puts one back from now on wakes us.
                    idle.watched.store(false, Ordering::SeqCst);
                    if idle.kept().is_empty() {
                        idle.wake.notified().await;
                    }
                }
            }
        }
    }

    /// Drops all that wait; whether there were any.
    pub(super) fn forget_kept(&self) -> bool {
        let Self::P3(_, idle) = self else { return false };
        let kept = std::mem::take(&mut *idle.kept());
        !kept.is_empty()
    }
}

impl IdleInstances {
    fn kept(&self) -> MutexGuard<'_, Vec<IdleInstance>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops those that have waited for too long; the answer is when to look again, if any are left.
    fn tidy(&self, now: Instant) -> Option<Instant> {
        let mut kept = self.kept();
        let stale = kept.iter().take_while(|kept| now >= kept.since + KEPT_FOR).count();
        let stale: Vec<_> = kept.drain(..stale).collect();
        let next = kept.first().map(|kept| kept.since + KEPT_FOR);
        drop(kept);
        // Not under the lock: unmapping takes its time.
        drop(stale);
        next
    }
}

impl Instance {
    /// Calls the handler; `head` is sent when it has answered, the end is when it has returned and left nothing to be done.
    pub(super) async fn call(
        &self,
        store: &mut Store<Component>,
        request: Request<RequestBody>,
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
    request: Request<RequestBody>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    let scheme = Scheme::Http;
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    // Nobody waits for it any more if the request has been given up.
    let send =
        move |answer: Result<_, _>| drop(head.send(answer.map_err(|code| Failure::of_p2(&code))));
    let out = store.data_mut().http().new_response_outparam_from_callback(send)?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Whether the client has got all of a response, told to a guest that asks.
type Sent = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

async fn call_p3(
    service: &Service,
    store: &mut Store<Component>,
    request: Request<RequestBody>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    let call = async |accessor: &Accessor<Component>| {
        let (request, sent) = accessor.with(|mut store| {
            let view = store.get().http();
            let (request, sent) = p3::Request::from_http(view.hooks, request);
            // Boxed: its type would borrow from the store.
            let sent: Sent = Box::pin(sent);
            wasmtime::error::Ok((view.table.push(request)?, sent))
        })?;
        let answer = service.wasi_http_handler().call_handle(accessor, request).await?;
        let answer = match answer {
            Ok(response) => accessor.with(|mut store| {
                let response = store.get().http().table.delete(response)?;
                wasmtime::error::Ok(response.into_http(&mut store, sent)?)
            }),
            Err(code) => {
                let _ = head.send(Err(Failure::of_p3(&code)));
                return settled(accessor).await;
            }
        }?;
        let _ = head.send(Ok(answer));
        settled(accessor).await
    };
    store.run_concurrent(call).await?
}

/// Waits until the guest has nothing left to do for the request: its body may still be written.
async fn settled(accessor: &Accessor<Component>) -> wasmtime::Result<()> {
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    Ok(())
}
