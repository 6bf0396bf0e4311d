//! A component's way to the network: sockets, name lookup and outgoing HTTP, all in its sandbox's network namespace and as its
//! container's policy allows.
//!
//! | module | one thing |
//! |---|---|
//! | `policy` | whom guests may call |
//! | `sockets` | the host's sockets in the sandbox's network |
//! | `resolver` | from a name to addresses, by the container's own files |
//! | `http` | outgoing requests |
//! | `tls` | whom HTTPS trusts |

mod http;
mod policy;
pub(crate) mod resolver;
mod sockets;
mod tls;

use std::{future::ready, sync::Arc};

use runwasi_core::{EngineError, GuestContext, InstanceSpec, artifact::Program, network::Network};
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    sockets::{SocketAddrUse, WasiSocketsCtx, WasiSocketsView},
};

use self::{
    policy::{OutboundRules, Policy},
    resolver::{LookupError, Resolver},
};

/// What a container's guests may reach, and how. One for all its processes.
pub(crate) struct NetworkAccess {
    network: Network,
    rules: Arc<OutboundRules>,
    resolver: Arc<Resolver>,
    /// With it, and with nothing else, the library makes sockets.
    sockets: WasiSocketsCtx,
    /// How many requests may have a connection at once.
    connections: Arc<Semaphore>,
}

impl NetworkAccess {
    /// As the container says.
    pub(crate) fn of(spec: &InstanceSpec, program: &Program) -> Result<Arc<Self>, EngineError> {
        let policy = policy_of(spec, program)?;
        Ok(spec.extensions.get_or_make(|| Self::new(spec, policy)))
    }

    /// What a guest without a way out owes: an annotation that means nothing is an error, whatever the guest is.
    pub(crate) fn check(spec: &InstanceSpec, program: &Program) -> Result<(), EngineError> {
        policy_of(spec, program).map(drop)
    }

    fn new(spec: &InstanceSpec, policy: Policy) -> Self {
        let rules = Arc::new(OutboundRules::new(policy));
        let resolver = Arc::new(Resolver::new(spec.network.clone(), rules.clone(), &spec.rootfs));
        let connections = Arc::new(Semaphore::new(spec.open_files as usize));
        Self {
            network: spec.network.clone(),
            sockets: sockets_for(rules.clone()),
            rules,
            resolver,
            connections,
        }
    }
}

fn policy_of(spec: &InstanceSpec, program: &Program) -> Result<Policy, EngineError> {
    let policy = Policy::parse(spec.annotations.get(policy::ANNOTATION).map(String::as_str));
    policy.map_err(|error| EngineError::Invalid {
        path: program.path.clone(),
        reason: error.to_string(),
    })
}

/// The library's context for sockets that reach what the policy allows. It can be built as a part of a whole only.
fn sockets_for(rules: Arc<OutboundRules>) -> WasiSocketsCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.allow_tcp(true).allow_udp(true).socket_addr_check(move |address, purpose| {
        let allowed = match purpose {
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => rules.allows(address),
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => true,
            SocketAddrUse::UdpBind | SocketAddrUse::UdpReceive => true,
        };
        Box::pin(ready(allowed))
    });
    let mut whole = Whole { ctx: builder.build(), table: ResourceTable::new() };
    whole.sockets().ctx.clone()
}

struct Whole {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Whole {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// A process's way out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    access: Arc<NetworkAccess>,
    /// Requests are work of the process: members of its group of futures.
    pub(crate) context: GuestContext,
}

impl Outbound {
    /// For one process, before its code runs.
    pub(crate) async fn begin(
        access: &Arc<NetworkAccess>,
        context: &GuestContext,
    ) -> Result<Self, EngineError> {
        let failed = |error: LookupError| {
            EngineError::Failed(format!("/etc/hosts, /etc/resolv.conf: {error}"))
        };
        access.resolver.begin().await.map_err(failed)?;
        Ok(Self { access: access.clone(), context: context.clone() })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.access.network
    }

    /// With what the library makes sockets for the guest.
    pub(crate) fn sockets(&self) -> WasiSocketsCtx {
        self.access.sockets.clone()
    }

    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.access.resolver
    }
}
