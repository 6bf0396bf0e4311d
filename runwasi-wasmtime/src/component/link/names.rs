//! `wasi:sockets/ip-name-lookup` of both previews, in place of wasmtime-wasi's functions, which use
//! the host's resolver.
//!
//! A p2 lookup proceeds without polls of its guest: it is a member of the process's group of
//! futures and ends when the guest drops its resource. A p3 lookup is part of the guest's own run.

use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    vec,
};

use tokio::{select, sync::oneshot};
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    WasiView, async_trait,
    p2::{
        DynPollable, Network, Pollable,
        bindings::sockets::network::{ErrorCode, IpAddress},
        subscribe,
    },
    p3::bindings::sockets::{
        ip_name_lookup::ErrorCode as P3ErrorCode, types::IpAddress as P3IpAddress,
    },
};

use super::P2_VERSION;
use crate::{component::store::Component, outbound::resolver::LookupError};

/// Replaces the functions of both previews.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut p2 = linker.instance(&format!("wasi:sockets/ip-name-lookup@{P2_VERSION}"))?;
    p2.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, rep| {
        let lookup = Resource::<Lookup>::new_own(rep);
        store.data_mut().ctx().table.delete(lookup)?;
        Ok(())
    })?;
    p2.func_wrap("resolve-addresses", begin)?;
    p2.func_wrap("[method]resolve-address-stream.resolve-next-address", next)?;
    p2.func_wrap("[method]resolve-address-stream.subscribe", wait)?;
    let mut p3 = linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?;
    p3.func_wrap_concurrent("resolve-addresses", |accessor, (name,): (String,)| {
        Box::pin(resolve_p3(accessor, name))
    })
}

/// A started p2 lookup.
enum Lookup {
    Running(oneshot::Receiver<LookupResult>),
    Done(Result<vec::IntoIter<IpAddr>, LookupError>),
}

type LookupResult = Result<Vec<IpAddr>, LookupError>;

impl Lookup {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<&mut Result<vec::IntoIter<IpAddr>, LookupError>> {
        if let Self::Running(answer) = self {
            // The sender is dropped only with the group of futures, at the end of the process.
            let found =
                std::task::ready!(Pin::new(answer).poll(cx)).unwrap_or(Err(LookupError::Permanent));
            *self = Self::Done(found.map(Vec::into_iter));
        }
        match self {
            Self::Done(done) => Poll::Ready(done),
            Self::Running(_) => Poll::Pending,
        }
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx).map(drop)).await;
    }
}

type Answered<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

fn begin(
    mut store: StoreContextMut<'_, Component>,
    (network, name): (Resource<Network>, String),
) -> Answered<Resource<Lookup>> {
    let component = store.data_mut();
    // The handle is the capability for lookups, so an invalid one traps. wasmtime-wasi gives a
    // handle to every guest.
    component.ctx().table.get(&network)?;
    let resolver = component.outbound.resolver().clone();
    let mut future = Box::pin(async move { resolver.look_up(&name).await });
    // Without a waker: a pending lookup is polled again in its own task, which registers one.
    let lookup = match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        // An immediate failure is the result of this call, not of a later one.
        Poll::Ready(Err(error)) => return Ok((Err(error.into()),)),
        Poll::Ready(Ok(found)) => Lookup::Done(Ok(found.into_iter())),
        Poll::Pending => {
            let (mut answer, receiver) = oneshot::channel();
            component.outbound.context.spawn(async move {
                select! {
                    // The send fails if the guest has just dropped the lookup.
                    found = future => drop(answer.send(found)),
                    // The guest has dropped the lookup.
                    () = answer.closed() => {}
                }
            });
            Lookup::Running(receiver)
        }
    };
    Ok((Ok(component.ctx().table.push(lookup)?),))
}

fn next(
    mut store: StoreContextMut<'_, Component>,
    (lookup,): (Resource<Lookup>,),
) -> Answered<Option<IpAddress>> {
    let lookup = store.data_mut().ctx().table.get_mut(&lookup)?;
    // Without a waker: the guest waits for the answer with `subscribe`, which registers one.
    Ok((match lookup.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Err(ErrorCode::WouldBlock),
        Poll::Ready(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
        Poll::Ready(Err(error)) => Err((*error).into()),
    },))
}

fn wait(
    mut store: StoreContextMut<'_, Component>,
    (lookup,): (Resource<Lookup>,),
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    Ok((subscribe(store.data_mut().ctx().table, lookup)?,))
}

async fn resolve_p3(
    accessor: &Accessor<Component>,
    name: String,
) -> wasmtime::Result<(Result<Vec<P3IpAddress>, P3ErrorCode>,)> {
    let resolver = accessor.with(|mut access| access.get().outbound.resolver().clone());
    let found = resolver.look_up(&name).await;
    Ok((found
        .map(|addresses| addresses.into_iter().map(P3IpAddress::from).collect())
        .map_err(P3ErrorCode::from),))
}

impl From<LookupError> for ErrorCode {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Denied => Self::AccessDenied,
            LookupError::Invalid => Self::InvalidArgument,
            LookupError::NoAddress => Self::NameUnresolvable,
            LookupError::Temporary => Self::TemporaryResolverFailure,
            LookupError::Permanent => Self::PermanentResolverFailure,
        }
    }
}

impl From<LookupError> for P3ErrorCode {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Denied => Self::AccessDenied,
            LookupError::Invalid => Self::InvalidArgument,
            LookupError::NoAddress => Self::NameUnresolvable,
            LookupError::Temporary => Self::TemporaryResolverFailure,
            LookupError::Permanent => Self::PermanentResolverFailure,
        }
    }
}
