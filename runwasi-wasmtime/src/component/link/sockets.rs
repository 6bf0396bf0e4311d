//! Creation of guests' sockets in the network namespace of the sandbox, and the count of those that
//! are accepted and dropped.
//!
//! Only the creation of a socket runs inside the namespace, see [`Network::run`]. Later calls on
//! the socket act in its namespace from any thread. wasmtime-wasi's functions that create sockets
//! run there unchanged, with a context and a table of their own: the guest's context cannot leave
//! its store, and allows no sockets.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use runwasi_core::network::Network;
use tokio::runtime::Handle;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTable, ResourceType},
};
use wasmtime_wasi::{
    WasiView,
    p2::{
        self, DynInputStream, DynOutputStream, SocketError,
        bindings::sockets::{network as p2_network, tcp, tcp_create_socket, udp_create_socket},
    },
    p3::bindings::sockets::types as p3_types,
    sockets::{self, WasiSocketsCtx, WasiSocketsCtxView, WasiSocketsView},
};

use super::P2_VERSION;
use crate::{
    component::store::{Component, descriptors_left},
    outbound::room::SocketLife,
};

/// Replaces the functions that create sockets, accept them from a listener or drop them.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(&format!("wasi:sockets/tcp-create-socket@{P2_VERSION}"))?;
    tcp.func_wrap_async(
        "create-tcp-socket",
        |store, (family,): (p2_network::IpAddressFamily,)| Box::new(create_tcp_p2(store, family)),
    )?;
    let mut udp = linker.instance(&format!("wasi:sockets/udp-create-socket@{P2_VERSION}"))?;
    udp.func_wrap_async(
        "create-udp-socket",
        |store, (family,): (p2_network::IpAddressFamily,)| Box::new(create_udp_p2(store, family)),
    )?;
    let mut listeners = linker.instance(&format!("wasi:sockets/tcp@{P2_VERSION}"))?;
    listeners.func_wrap_async(
        "[method]tcp-socket.accept",
        |store, (listener,): (Resource<p2::TcpSocket>,)| Box::new(accept_p2(store, listener)),
    )?;
    listeners.resource(
        "tcp-socket",
        ResourceType::host::<p2::TcpSocket>(),
        close::<p2::TcpSocket>,
    )?;
    let mut datagrams = linker.instance(&format!("wasi:sockets/udp@{P2_VERSION}"))?;
    datagrams.resource(
        "udp-socket",
        ResourceType::host::<p2::UdpSocket>(),
        close::<p2::UdpSocket>,
    )?;
    let mut p3 = linker.instance("wasi:sockets/types@0.3.0")?;
    p3.func_wrap_async(
        "[static]tcp-socket.create",
        |store, (family,): (p3_types::IpAddressFamily,)| Box::new(create_tcp_p3(store, family)),
    )?;
    let tcp = ResourceType::host::<sockets::TcpSocket>();
    p3.resource("tcp-socket", tcp, close::<sockets::TcpSocket>)?;
    let udp = ResourceType::host::<sockets::UdpSocket>();
    p3.resource("udp-socket", udp, close::<sockets::UdpSocket>)?;
    p3.func_wrap_async(
        "[static]udp-socket.create",
        |store, (family,): (p3_types::IpAddressFamily,)| Box::new(create_udp_p3(store, family)),
    )?;
    Ok(())
}

type Created<T, E> = wasmtime::Result<(Result<Resource<T>, E>,)>;

async fn create_tcp_p2(
    mut store: StoreContextMut<'_, Component>,
    family: p2_network::IpAddressFamily,
) -> Created<p2::TcpSocket, p2_network::ErrorCode> {
    if descriptors_left(&mut store).await == 0 {
        return Ok((Err(p2_network::ErrorCode::NewSocketLimit),));
    }
    let component = store.data_mut();
    let create = move |mut scratch: Scratch| {
        let made = tcp_create_socket::Host::create_tcp_socket(&mut scratch.view(), family)?;
        scratch.table.delete(made).map_err(SocketError::trap)
    };
    let made = component.outbound.network().run(inside(component, create))?;
    pushed(component, made.map_err(SocketError::downcast))
}

async fn create_udp_p2(
    mut store: StoreContextMut<'_, Component>,
    family: p2_network::IpAddressFamily,
) -> Created<p2::UdpSocket, p2_network::ErrorCode> {
    if descriptors_left(&mut store).await == 0 {
        return Ok((Err(p2_network::ErrorCode::NewSocketLimit),));
    }
    let component = store.data_mut();
    let mut scratch = Scratch::of(component);
    let creating = async move {
        let made = udp_create_socket::Host::create_udp_socket(&mut scratch.view(), family).await?;
        scratch.table.delete(made).map_err(SocketError::trap)
    };
    let made = begun_inside(component.outbound.network().clone(), Box::pin(creating)).await?;
    pushed(component, made.map_err(SocketError::downcast))
}

async fn create_tcp_p3(
    mut store: StoreContextMut<'_, Component>,
    family: p3_types::IpAddressFamily,
) -> Created<sockets::TcpSocket, p3_types::ErrorCode> {
    if descriptors_left(&mut store).await == 0 {
        return Ok((Err(p3_types::ErrorCode::Other(Some("too many open sockets".into()))),));
    }
    let component = store.data_mut();
    let life = Arc::new(SocketLife);
    // The socket may live on in a stream of those that it accepts.
    let ctx = component.outbound.sockets_of(life.clone());
    let create = move |mut scratch: Scratch| {
        scratch.ctx = ctx;
        let made = p3_types::HostTcpSocket::create(&mut scratch.view(), family)?;
        scratch.table.delete(made).map_err(wasmtime_wasi::p3::sockets::SocketError::trap)
    };
    let made = component.outbound.network().run(inside(component, create))?;
    let made = pushed(component, made.map_err(wasmtime_wasi::p3::sockets::SocketError::downcast))?;
    if let (Ok(socket),) = &made {
        component.socket_lives(socket.rep(), &life);
    }
    Ok(made)
}

async fn create_udp_p3(
    mut store: StoreContextMut<'_, Component>,
    family: p3_types::IpAddressFamily,
) -> Created<sockets::UdpSocket, p3_types::ErrorCode> {
    if descriptors_left(&mut store).await == 0 {
        return Ok((Err(p3_types::ErrorCode::Other(Some("too many open sockets".into()))),));
    }
    let component = store.data_mut();
    let mut scratch = Scratch::of(component);
    let creating = async move {
        let made = p3_types::HostUdpSocket::create(&mut scratch.view(), family).await?;
        scratch.table.delete(made).map_err(wasmtime_wasi::p3::sockets::SocketError::trap)
    };
    let made = begun_inside(component.outbound.network().clone(), Box::pin(creating)).await?;
    pushed(component, made.map_err(wasmtime_wasi::p3::sockets::SocketError::downcast))
}

type Accepted = (Resource<p2::TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

/// Calls wasmtime-wasi's `accept`, unless the guest is at its limit of open files and sockets.
async fn accept_p2(
    mut store: StoreContextMut<'_, Component>,
    listener: Resource<p2::TcpSocket>,
) -> wasmtime::Result<(Result<Accepted, p2_network::ErrorCode>,)> {
    if descriptors_left(&mut store).await == 0 {
        return Ok((Err(p2_network::ErrorCode::NewSocketLimit),));
    }
    let component = store.data_mut();
    // Outside the namespace: an accepted socket belongs to the namespace of its listener.
    Ok((match tcp::HostTcpSocket::accept(&mut component.sockets(), listener) {
        Ok(accepted) => {
            component.made_socket();
            Ok(accepted)
        }
        Err(error) => Err(error.downcast()?),
    },))
}

/// Drops a socket, and lets a listener of the process accept one more.
fn close<T: 'static>(
    mut store: StoreContextMut<'_, Component>,
    socket: u32,
) -> wasmtime::Result<()> {
    let component = store.data_mut();
    component.ctx().table.delete(Resource::<T>::new_own(socket))?;
    component.closed_socket(socket);
    Ok(())
}

/// Context and table for one call of wasmtime-wasi that creates a socket.
struct Scratch {
    ctx: WasiSocketsCtx,
    table: ResourceTable,
}

impl Scratch {
    fn of(component: &Component) -> Self {
        Self { ctx: component.outbound.sockets(), table: ResourceTable::new() }
    }

    fn view(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// Wraps work for the thread of the namespace.
fn inside<T>(
    component: &Component,
    work: impl FnOnce(Scratch) -> T + Send + 'static,
) -> impl FnOnce() -> T + Send + 'static {
    let runtime = Handle::current();
    let scratch = Scratch::of(component);
    move || {
        // The socket registers with this runtime's driver, which later reports its readiness.
        let _entered = runtime.enter();
        work(scratch)
    }
}

/// Awaits a future that creates a socket in its first poll. Only this poll runs in the namespace.
async fn begun_inside<T: Send + 'static>(
    network: Network,
    mut future: Pin<Box<dyn Future<Output = T> + Send>>,
) -> wasmtime::Result<T> {
    let runtime = Handle::current();
    let (future, first) = network.run(move || {
        let _entered = runtime.enter();
        // Without a waker: if the future is pending, the `await` below polls it again at once. That
        // poll finds what has happened since, or registers the waker of this task.
        let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (future, first)
    })?;
    match first {
        Poll::Ready(made) => Ok(made),
        // Further polls only wait for the socket, so they need not run in the namespace.
        Poll::Pending => Ok(future.await),
    }
}

/// Adds a created socket to the guest's table.
fn pushed<T: Send + 'static, E>(
    component: &mut Component,
    made: Result<T, wasmtime::Result<E>>,
) -> Created<T, E> {
    match made {
        Ok(socket) => {
            component.made_socket();
            Ok((Ok(component.ctx().table.push(socket)?),))
        }
        // Errors of the socket go to the guest. Other errors trap.
        Err(error) => Ok((Err(error?),)),
    }
}
