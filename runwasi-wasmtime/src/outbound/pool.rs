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
use crate::authority;

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
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let port = authority::port(authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host: authority.host().to_owned(), port })
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
    pub(super) fn take(
        &self,
        server: &Server,
        rules: &OutboundRules,
        now: Instant,
    ) -> Option<Connected> {
        let mut kept = self.kept.lock();
        // The member that drives an old one may not have looked yet.
        let is_of_use = |kept: &Kept, since| now < due(since) && !kept.connected.sender.is_closed();
        kept.retain(|kept| kept.idle_since.is_none_or(|since| is_of_use(kept, since)));
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

    /// Gives up this connection if it has been idle for too long. Otherwise returns when to look
    /// again.
    pub(super) fn next_look(&self, id: u64, now: Instant) -> Option<Instant> {
        let mut kept = self.kept.lock();
        let of_id = |kept: &Kept| (kept.connected.id == id).then_some(kept.idle_since).flatten();
        // One in use is idle from now on at the earliest.
        let due = due(kept.iter().find_map(of_id).unwrap_or(now));
        if now < due {
            return Some(due);
        }
        kept.retain(|kept| kept.connected.id != id);
        None
    }
}

/// When a connection has been idle for too long.
fn due(since: Instant) -> Instant {
    since + LONGEST
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::client::conn::http1::handshake;
    use hyper_util::rt::TokioIo;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::outbound::policy::Policy;

    const INSTANT: Duration = Duration::from_millis(1);

    fn server() -> Server {
        Server { secure: false, host: "here".into(), port: 80 }
    }

    fn take(pool: &Pool, now: Instant) -> Option<Connected> {
        pool.take(&server(), &OutboundRules::new(Policy::parse(None).unwrap()), now)
    }

    async fn connected(pool: &Pool) -> (Connected, impl Future + Unpin, DuplexStream) {
        let (near, far) = duplex(1024);
        let (sender, driver) = handshake(TokioIo::new(near)).await.unwrap();
        let peer = ([127, 0, 0, 1], 80).into();
        (pool.connected(server(), peer, sender, Informational::default()), driver, far)
    }

    /// The pool keeps the connection, which becomes idle.
    async fn keep(pool: &Pool, connected: Connected, driver: &mut (impl Future + Unpin)) {
        let response = pool.keep(connected);
        tokio::select! {
            _ = driver => panic!("the connection has ended"),
            is_ready = poll_fn(|cx| pool.poll_received(response, cx)) => assert!(is_ready),
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_given_up_as_soon_as_its_time_is_over() {
        let pool = Pool::default();
        let (connected, mut driver, _far) = connected(&pool).await;
        let id = connected.id();
        let now = Instant::now();
        assert_eq!(pool.next_look(id, now), Some(now + LONGEST), "it is in use");
        keep(&pool, connected, &mut driver).await;
        let idle = Instant::now();
        let next = pool.next_look(id, idle).unwrap();
        assert!(next >= now + LONGEST && next <= idle + LONGEST);
        assert_eq!(pool.next_look(id, next - INSTANT), Some(next), "a look moves nothing");
        assert_eq!(pool.next_look(id, next), None);
        assert!(take(&pool, idle).is_none(), "it is gone");
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_too_long_is_not_taken() {
        let pool = Pool::default();
        let (connected, mut driver, _far) = connected(&pool).await;
        let id = connected.id();
        keep(&pool, connected, &mut driver).await;
        let last = pool.next_look(id, Instant::now()).unwrap();
        let connected = take(&pool, last - INSTANT).unwrap();
        keep(&pool, connected, &mut driver).await;
        let due = pool.next_look(id, Instant::now()).unwrap();
        assert!(take(&pool, due).is_none());
    }
}
