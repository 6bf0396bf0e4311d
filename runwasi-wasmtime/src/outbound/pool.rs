//! Connections of a process's outgoing HTTP, kept for further requests to the same server.
//!
//! A connection is driven by the member of the group that has opened it, also while it is idle or
//! serves another request. It ends with the process. Other containers never get it.
//!
//! From the head of a response on, its connection is here. A guest may see the end of the response
//! and send its next request before a member is polled that waits for that end, above all on a busy
//! node. The next request looks by itself whether the connection is ready.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
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

/// A response. A connection has many, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ResponseId(u64);

struct Kept {
    connected: Connected,
    /// Of the response that is awaited, or was the last one.
    response: ResponseId,
    /// Absent while the end of a response is awaited.
    idle_since: Option<Instant>,
}

impl Kept {
    /// True if a request can be sent now.
    fn is_free(&self) -> bool {
        self.idle_since.is_some() || self.connected.sender.is_ready()
    }
}

/// The connections of a process that no request is sent on. The one that was put back last is the
/// last.
#[derive(Default)]
pub(super) struct Pool {
    /// Locked for one look or change.
    kept: Mutex<VecDeque<Kept>>,
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
        Connected { id: self.unique(), server, peer, sender, informational }
    }

    fn unique(&self) -> u64 {
        // No other data depends on it.
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a free connection to a server, if the policy still allows its address.
    pub(super) fn take(&self, server: &Server, rules: &OutboundRules) -> Option<Connected> {
        let mut kept = self.kept.lock();
        kept.retain(|kept| kept.idle_since.is_none() || !kept.connected.sender.is_closed());
        let fits = |kept: &Kept| {
            let connected = &kept.connected;
            connected.server == *server && rules.allows(connected.peer) && kept.is_free()
        };
        let place = kept.iter().rposition(fits)?;
        kept.remove(place).map(|kept| kept.connected)
    }

    /// Keeps a connection whose response is under way. [`Pool::poll_received`] waits for its end.
    pub(super) fn keep(&self, connected: Connected) -> ResponseId {
        let response = ResponseId(self.unique());
        self.kept.lock().push_back(Kept { connected, response, idle_since: None });
        response
    }

    /// Waits until the response is complete and the connection is idle, or is taken already. False
    /// if the connection has ended.
    pub(super) fn poll_received(&self, response: ResponseId, cx: &mut Context<'_>) -> Poll<bool> {
        let mut kept = self.kept.lock();
        // Absent: taken for the next request.
        let Some(place) = place(&kept, response) else { return Poll::Ready(true) };
        // An error: the connection has ended, or ends with this response.
        let is_ready = ready!(kept[place].connected.sender.poll_ready(cx)).is_ok();
        if let Some(idle) = kept.remove(place)
            && is_ready
        {
            kept.push_back(Kept { idle_since: Some(Instant::now()), ..idle });
            if kept.iter().filter(|kept| kept.idle_since.is_some()).count() > MOST {
                give_up_one(&mut kept);
            }
        }
        Poll::Ready(is_ready)
    }

    /// Gives up a connection of whose response something is left to transfer.
    pub(super) fn give_up(&self, response: ResponseId) {
        let mut kept = self.kept.lock();
        if let Some(place) = place(&kept, response) {
            kept.remove(place);
        }
    }

    /// Gives up the connection that was idle for the longest time; false if none is idle.
    pub(super) fn give_up_one(&self) -> bool {
        give_up_one(&mut self.kept.lock())
    }

    /// Gives up this connection if it has been idle for too long. True if it did.
    pub(super) fn expired(&self, id: u64) -> bool {
        let mut kept = self.kept.lock();
        let is_due = |kept: &Kept| {
            let is_old = |since: Instant| since.elapsed() >= LONGEST;
            kept.connected.id == id && kept.idle_since.is_some_and(is_old)
        };
        let place = kept.iter().position(is_due);
        place.and_then(|place| kept.remove(place)).is_some()
    }
}

fn place(kept: &VecDeque<Kept>, response: ResponseId) -> Option<usize> {
    kept.iter().position(|kept| kept.response == response)
}

fn give_up_one(kept: &mut VecDeque<Kept>) -> bool {
    let place = kept.iter().position(|kept| kept.idle_since.is_some());
    place.and_then(|place| kept.remove(place)).is_some()
}

impl Connected {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}
