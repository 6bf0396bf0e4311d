//! What `make bench-http` compares with: the loop of `wasmtime serve` 48, made of the same crates with the settings that
//! command has if no flag is given. The command itself is not used, because its crate would build wasmtime a second time.
//!
//! The same are: an engine with wasmtime's own defaults and its pool, no epochs; a linker with the world of an HTTP
//! handler and that of commands (`-S cli`), which the library of a guest's language needs; `ProxyHandler`, which spawns a
//! task for each instance; one request an instance for WASI p2, 128 for p3, of those 16 at once; 1,000 requests and
//! connections at once; HTTP/1.1 with keep-alive and no delay; a prefix before each line that a guest prints. More than the
//! command has is room for core instances and tables. Left out is what does nothing then: limits, profiles, the debugger.
//!
//! Usage: serve-loop ADDRESS COMPONENT; prints a line when it listens.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use wasmtime::component::{Component, GuestTaskId, Linker, ResourceTable};
use wasmtime::{Config, Engine, PoolingAllocationConfig, Store, StoreContextMut, StoreLimits};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2, p3};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState,
    WorkerStatus,
};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p3 as http3;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2 as http2,
};

#[path = "serve-loop/lines.rs"]
mod lines;
#[path = "serve-loop/outgoing.rs"]
mod outgoing;

use lines::Lines;
use outgoing::{Done, Sent};

/// At once.
const MOST_REQUESTS: usize = 1000;
const MOST_CONNECTIONS: usize = 1000;
const BACKLOG: u32 = 100;
/// Core instances and tables of the pool. The command has 1,000 and answers 500 when 256 requests at once have several each.
const ROOM: u32 = 10_000;
/// How long an instance that may be given another request waits for it.
const IDLE: Duration = Duration::from_secs(1);
/// Of an instance: requests in all, and at once.
const REUSE_P2: (usize, usize) = (1, 1);
const REUSE_P3: (usize, usize) = (128, 16);

/// What a store holds.
struct Host {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Outgoing,
    limits: StoreLimits,
}

/// Requests of the guest's own.
struct Outgoing;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Done,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(outgoing::send(request, options))
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// What all instances have in common.
struct Served {
    engine: Engine,
    pre: ProxyPre<Host>,
    reuse: (usize, usize),
    instances: AtomicU64,
    requests: Semaphore,
}

impl HandlerState for Served {
    type StoreData = Host;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Host, Expiration, Worker>> {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        let mut store = Store::new(&self.engine, host(number));
        store.limiter(|host| &mut host.limits);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        let expiration = Expiration { sleep: Box::pin(tokio::time::sleep(Duration::MAX)) };
        Ok(Instance {
            store,
            proxy,
            view: Host::http,
            expiration,
            state: Worker { reuse: self.reuse },
        })
    }
}

fn host(number: u64) -> Host {
    let mut wasi = WasiCtxBuilder::new();
    wasi.env("INSTANCE_ID", number.to_string());
    wasi.stdout(Lines::new(format!("stdout [{number}] :: ")));
    wasi.stderr(Lines::new(format!("stderr [{number}] :: ")));
    Host {
        table: ResourceTable::new(),
        wasi: wasi.build(),
        http: WasiHttpCtx::new(),
        hooks: Outgoing,
        limits: StoreLimits::default(),
    }
}

/// Ends an instance that has had nothing to do for a while; a request may take for ever.
struct Expiration {
    sleep: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        waking: &mut Waking<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let deadline = (start + IDLE).into();
        if self.sleep.deadline() != deadline {
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(waking)
    }
}

/// Says how many requests an instance takes.
struct Worker {
    reuse: (usize, usize),
}

impl WorkerState for Worker {
    type StoreData = Host;
    type RequestData = ();

    fn should_accept_request(&self, at_once: usize, in_all: usize) -> ShouldAccept {
        match self.reuse {
            (most, _) if in_all >= most => ShouldAccept::Never,
            (_, most) if at_once >= most => ShouldAccept::No,
            _ => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Host>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(tokio::time::sleep(Duration::MAX))
    }

    fn drop(&self, store: Store<Host>, result: wasmtime::Result<()>) {
        if let Err(error) = result {
            drop(writeln!(std::io::stderr(), "worker failed: {error:?}"));
        }
        drop(store);
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let usage = "usage: serve-loop ADDRESS COMPONENT";
    let address: SocketAddr =
        args.next().context(usage)?.to_string_lossy().parse().context(usage)?;
    let component = args.next().context(usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().enable_io().build()?;
    runtime.block_on(serve(address, component.as_ref()))
}

async fn serve(address: SocketAddr, component: &Path) -> Result<()> {
    let served =
        served(component).map_err(|error| anyhow!("{}: {error:#}", component.display()))?;
    let handler = ProxyHandler::new(served);
    let listener = listen(address)?;
    writeln!(std::io::stdout(), "listening on {address}")?;
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let permit = connections.clone().acquire_owned().await?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        spawn(async move {
            connection(stream, handler).await;
            drop(permit);
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "as the command does it; it ends with the process")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future));
}

fn served(file: &Path) -> wasmtime::Result<Served> {
    let mut config = Config::new();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(ROOM).total_tables(ROOM);
    config.allocation_strategy(pool);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::<Host>::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    http2::add_only_http_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    http3::add_to_linker(&mut linker)?;
    let component = Component::from_file(&engine, file)?;
    let pre = linker.instantiate_pre(&component)?;
    let (pre, reuse) = match http3::bindings::ServicePre::new(pre.clone()) {
        Ok(pre) => (ProxyPre::P3(pre), REUSE_P3),
        Err(_) => (ProxyPre::P2(http2::bindings::ProxyPre::new(pre)?), REUSE_P2),
    };
    Ok(Served {
        engine,
        pre,
        reuse,
        instances: AtomicU64::new(0),
        requests: Semaphore::new(MOST_REQUESTS),
    })
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn connection(stream: TcpStream, handler: ProxyHandler<Served>) {
    let service = service_fn(|request| answer(&handler, request));
    let served =
        http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        drop(writeln!(std::io::stderr(), "connection: {error:?}"));
    }
}

async fn answer(
    handler: &ProxyHandler<Served>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<WasiBody>, Infallible> {
    let _permit = handler.state().requests.acquire().await;
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    match handler.handle((), request).await {
        Ok(response) => Ok(response),
        Err(error) => {
            drop(writeln!(std::io::stderr(), "request: {error:?}"));
            let mut failed = hyper::Response::new(
                Full::default().map_err(|never| match never {}).boxed_unsync(),
            );
            *failed.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            Ok(failed)
        }
    }
}
