//! Idle connections of a process's outgoing HTTP, kept for further requests to the same server.
//!
//! A connection is driven by the member of the group that has opened it, also while it is idle or
//! serves another request. It ends with the process. Other containers never get it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper::client::conn::http1::SendRequest;
use runwasi_core::lock::Mutex;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{informational::Informational, policy::OutboundRules};

/// Time that a connection stays idle. Many servers close theirs after a few seconds more or less.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// Most idle connections of a process.
const MOST: usize = 16;

/// A server, as the URI of a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) secure: bool,
    /// IPv6 addresses have their brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?.to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port })
    }
}

/// The sending side of a connection.
pub(super) struct Connected {
    id: u64,
    pub(super) server: Server,
    peer: SocketAddr,
    pub(super) sender: SendRequest<WasiBody>,
    pub(super) informational: Informational,
}

struct Idle {
    connected: Connected,
    since: Instant,
}

/// The idle connections of a process. The one that was used last is the last.
#[derive(Default)]
pub(super) struct Pool {
    /// Locked for one look or change.
    idle: Mutex<VecDeque<Idle>>,
    next: AtomicU64,
}

impl Pool {
    /// A new connection, which is in use.
    pub(super) fn connected(
        &self,
        server: Server,
        peer: SocketAddr,
        sender: SendRequest<WasiBody>,
        informational: Informational,
    ) -> Connected {
        // Only unique: no other data depends on it.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Connected { id, server, peer, sender, informational }
    }

    /// Takes an idle connection to a server, if the policy still allows its address.
    pub(super) fn take(&self, server: &Server, rules: &OutboundRules) -> Option<Connected> {
        let mut idle = self.idle.lock();
        idle.retain(|idle| !idle.connected.sender.is_closed());
        let fits =
            |idle: &Idle| idle.connected.server == *server && rules.allows(idle.connected.peer);
        let place = idle.iter().rposition(fits)?;
        idle.remove(place).map(|idle| idle.connected)
    }

    /// Keeps a connection whose last response is complete.
    pub(super) fn keep(&self, connected: Connected) {
        let mut idle = self.idle.lock();
        idle.push_back(Idle { connected, since: Instant::now() });
        if idle.len() > MOST {
            idle.pop_front();
        }
    }

    /// Gives up the connection that was idle for the longest time; false if none is idle.
    pub(super) fn give_up_one(&self) -> bool {
        self.idle.lock().pop_front().is_some()
    }

    /// Gives up this connection if it has been idle for too long. True if it did.
    pub(super) fn expired(&self, id: u64) -> bool {
        let mut idle = self.idle.lock();
        let is_due = |idle: &Idle| idle.connected.id == id && idle.since.elapsed() >= LONGEST;
        let place = idle.iter().position(is_due);
        place.and_then(|place| idle.remove(place)).is_some()
    }
}

impl Connected {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}
