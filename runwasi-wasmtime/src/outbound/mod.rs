//! Network access of a component: sockets, name lookup and outgoing HTTP. All of it happens in the
//! sandbox's network namespace and is subject to the container's outbound policy.
//!
//! | module | one thing |
//! |---|---|
//! | `policy` | the outbound policy of a container |
//! | `learned` | addresses that lookups have returned |
//! | `room` | sockets that a listener may accept |
//! | `sockets` | sockets that the host opens in the sandbox's network |
//! | `resolver` | name resolution by the container's own files |
//! | `http` | outgoing HTTP requests |
//! | `pool`, `again` | idle connections of them; repetition of a request |
//! | `ended` | bodies of a guest that is ended in the middle |
//! | `informational` | limit of informational responses |
//! | `tls` | trust of outgoing HTTPS |
//! | `chain` | bound of the search for a path from a server's certificate to a root |
//! | `roots` | root certificates of a container |

mod again;
mod chain;
mod ended;
mod first_frame;
mod http;
mod informational;
mod learned;
pub(crate) mod policy;
mod pool;
pub(crate) mod resolver;
pub(crate) mod room;
mod roots;
mod sockets;
mod tls;

use std::{future::ready, sync::Arc};

use runwasi_core::{
    EngineError, GuestContext, InstanceSpec, artifact::Program, network::Network,
    resources::descriptors::Descriptors, traces::context::SpanContext,
};
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    sockets::{SocketAddrUse, WasiSocketsCtx, WasiSocketsView},
};

use self::{
    ended::{Ended, Running},
    policy::{OutboundRules, Policy},
    pool::Pool,
    resolver::{LookupError, Resolver},
    room::{Room, SocketLife},
    tls::Trust,
};

/// Network access of a container: policy, resolver and limits. All its processes share one.
pub(crate) struct NetworkAccess {
    network: Network,
    rules: Arc<OutboundRules>,
    resolver: Arc<Resolver>,
    trust: Trust,
    /// Permits for requests with an open connection.
    connections: Arc<Semaphore>,
}

impl NetworkAccess {
    /// Access of the container that `spec` belongs to, created for its first process.
    pub(crate) fn of(spec: &InstanceSpec, program: &Program) -> Result<Arc<Self>, EngineError> {
        let policy = policy_of(spec, program)?;
        // Shared: what one process has looked up stays reachable for the others, and all of them
        // draw from the same limits.
        Ok(spec.extensions.get_or_make(|| Self::new(spec, policy)))
    }

    /// Checks the annotation of a guest without network access. A bad annotation is an error for
    /// every kind of guest.
    pub(crate) fn check(spec: &InstanceSpec, program: &Program) -> Result<(), EngineError> {
        policy_of(spec, program).map(drop)
    }

    fn new(spec: &InstanceSpec, policy: Policy) -> Self {
        let rules = Arc::new(OutboundRules::new(policy));
        let resolver = Arc::new(Resolver::new(spec.network.clone(), rules.clone(), &spec.rootfs));
        // A connection of HTTP is no descriptor in the guest's table, so the descriptor limit does
        // not count it. This semaphore applies the same number to connections.
        let connections = Arc::new(Semaphore::new(spec.open_files as usize));
        let trust = Trust::of(spec);
        Self { network: spec.network.clone(), rules, resolver, trust, connections }
    }
}

fn policy_of(spec: &InstanceSpec, program: &Program) -> Result<Policy, EngineError> {
    let policy = Policy::parse(spec.annotations.get(policy::ANNOTATION).map(String::as_str));
    policy.map_err(|error| EngineError::Invalid {
        path: program.path.clone(),
        reason: error.to_string(),
    })
}

/// The library's context for sockets, with the policy and the limit of descriptors as its address
/// check, which a socket holds as long as it may accept others: `life`.
fn sockets_for(
    rules: Arc<OutboundRules>,
    room: Arc<Room>,
    life: Option<Arc<SocketLife>>,
) -> WasiSocketsCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.allow_tcp(true).allow_udp(true).socket_addr_check(move |address, purpose| {
        let _held = &life;
        // p3, and a wait of p2, accept without a call of the guest for each connection. Up to here
        // the accepted socket is not the guest's, and further clients wait in the backlog.
        if matches!(purpose, SocketAddrUse::TcpAccept) {
            let room = room.clone();
            return Box::pin(async move { room.taken().await });
        }
        // The policy is about outbound traffic: only a connect and a sent datagram are checked.
        let allowed = match purpose {
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => rules.allows(address),
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => true,
            SocketAddrUse::UdpBind | SocketAddrUse::UdpReceive => true,
        };
        Box::pin(ready(allowed))
    });
    // The library builds a sockets context with a check only as a part of a `WasiCtx`.
    let mut whole = Whole { ctx: builder.build(), table: ResourceTable::new() };
    whole.sockets().ctx.clone()
}

/// Complete WASI context, of which only the part for sockets is used.
struct Whole {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Whole {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// Network access of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    access: Arc<NetworkAccess>,
    /// File descriptors of the container.
    descriptors: Arc<Descriptors>,
    /// The library makes every socket of a guest with this context, so its checks cover them all.
    sockets: Arc<WasiSocketsCtx>,
    /// Sockets that may still be accepted.
    pub(crate) room: Arc<Room>,
    /// The process's group of futures: outgoing requests are spawned as members of it.
    pub(crate) context: GuestContext,
    /// Idle connections of outgoing HTTP.
    pool: Arc<Pool>,
    /// The span of the request that the guest answers, if traces are on.
    pub(crate) parent: Option<SpanContext>,
    /// The end of the guest that further requests come from.
    ended: Ended,
}

impl Outbound {
    /// Access of one process. Has to be called before code of the process runs.
    pub(crate) async fn begin(
        access: &Arc<NetworkAccess>,
        context: &GuestContext,
        descriptors: Arc<Descriptors>,
    ) -> Result<Self, EngineError> {
        let failed = |error: LookupError| {
            EngineError::Failed(format!("/etc/hosts, /etc/resolv.conf: {error}"))
        };
        // Reads the files before a guest can change them, if the policy goes by names.
        access.resolver.begin().await.map_err(failed)?;
        let room = Arc::new(Room::new(descriptors.clone()));
        let sockets = Arc::new(sockets_for(access.rules.clone(), room.clone(), None));
        Ok(Self {
            access: access.clone(),
            descriptors,
            sockets,
            room,
            context: context.clone(),
            pool: Arc::default(),
            parent: None,
            ended: Ended::default(),
        })
    }

    /// Begins a run of a guest, to which the requests from here on belong.
    pub(crate) fn run(&mut self) -> Running {
        // A new one: the guest of an earlier run has returned, and requests of it may go on.
        self.ended = Ended::default();
        self.ended.running()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.access.network
    }

    /// Context with which the library makes sockets for the guest.
    pub(crate) fn sockets(&self) -> WasiSocketsCtx {
        WasiSocketsCtx::clone(&self.sockets)
    }

    /// The same for one socket that accepts others, perhaps after the drop of its resource.
    pub(crate) fn sockets_of(&self, life: Arc<SocketLife>) -> WasiSocketsCtx {
        sockets_for(self.access.rules.clone(), self.room.clone(), Some(life))
    }

    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.access.resolver
    }
}
