//! The group of futures of a process and the wrapper they are polled through. Used by the driver and by instances.
//!
//! ```text
//!              ┌──────────────── Group ───────────────┐
//!  driver ───▶ │ lane in the queue · meter · members  │ ◀─── GuestContext::spawn
//!              └──────┬───────────┬───────────┬───────┘
//!                  Guest(run)  Guest(conn)  Guest(conn)     polled on the guest runtime only, when it is their turn
//! ```
//!
//! Everything containerd asks of a running process acts here, once for every engine: members are polled when the
//! [`fair_queue`] grants them a turn; pause holds the group's lane in it; CPU usage is thread CPU time spent inside `poll`; a kill
//! drops the members.

pub mod fair_queue;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::task::JoinSet;

use self::fair_queue::{Lane, RunningTurn, Seat};
use crate::{runtime::Guests, sys};

/// The futures of one process: its instance's `run` and whatever that starts. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

struct Shared {
    guests: Guests,
    container: Arc<Container>,
    /// Locked for the length of one spawn, one poll or one abort, never across an await.
    members: Mutex<Members>,
}

/// What all groups of a container have in common.
struct Container {
    lane: Lane,
    cpu_nanos: AtomicU64,
}

struct Members {
    set: JoinSet<()>,
    /// After the end nothing may join: it would never be aborted.
    open: bool,
}

impl Group {
    /// An empty group whose members will run among `guests`, with turns in proportion to `weight`.
    pub fn new(guests: Guests, weight: u64) -> Self {
        let lane = guests.queue().lane(weight);
        Self::within(guests, Arc::new(Container { lane, cpu_nanos: AtomicU64::new(0) }))
    }

    /// An empty group of the same container: it takes its turns from the container's, is paused with it and metered with it.
    pub fn sibling(&self) -> Self {
        Self::within(self.shared.guests.clone(), self.shared.container.clone())
    }

    fn within(guests: Guests, container: Arc<Container>) -> Self {
        let members = Mutex::new(Members { set: JoinSet::new(), open: true });
        Self { shared: Arc::new(Shared { guests, container, members }) }
    }

    /// Adds a member. After [`Group::abort`] the future is dropped instead.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let guest =
            Guest { seat: self.shared.container.lane.seat(), shared: self.shared.clone(), future: Box::pin(future) };
        let mut members = self.members();
        // Reaped here, too: a server's group gets a member for every connection of its life.
        while members.set.try_join_next().is_some() {}
        if members.open {
            guest.seat.enter();
            members.set.spawn_on(guest, self.shared.guests.runtime());
        }
    }

    /// Stops polling the members. One that is being polled right now goes on until its next yield.
    pub fn pause(&self) {
        self.shared.container.lane.hold();
    }

    /// Polls the members again.
    pub fn resume(&self) {
        self.shared.container.lane.release();
    }

    /// Drops every member, each at its next yield.
    pub fn abort(&self) {
        let mut members = self.members();
        members.open = false;
        members.set.abort_all();
    }

    /// Waits until every member is gone. Futures may be dropped at any time: a later call goes on where this one stood.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut members = self.members();
            while let Some(ended) = std::task::ready!(members.set.poll_join_next(cx)) {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a guest future panicked");
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// CPU time that the container's members have used, summed over threads.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.shared.container.cpu_nanos.load(Ordering::Relaxed))
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member: the only way guest code is ever polled.
struct Guest<F> {
    /// Its wake-ups go there, not to Tokio.
    seat: Seat,
    shared: Arc<Shared>,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Guest<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { seat, shared, future } = self.get_mut();
        let Some(turn) = seat.take_turn(cx.waker()) else { return Poll::Pending };
        let waker = seat.waker();
        let _meter = Meter { cpu_nanos: &shared.container.cpu_nanos, turn, before: sys::thread_cpu_time() };
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// Books the thread's CPU time between its making and its drop on the group and on the turn, also when the poll panics.
struct Meter<'a> {
    cpu_nanos: &'a AtomicU64,
    turn: RunningTurn<'a>,
    before: Duration,
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let used = sys::thread_cpu_time().saturating_sub(self.before);
        let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.turn.used = used;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Handle, sync::oneshot, time::timeout};

    use super::{fair_queue::DEFAULT_WEIGHT, *};

    const SOON: Duration = Duration::from_secs(5);

    fn group() -> Group {
        Group::new(Guests::new(Handle::current(), 1), DEFAULT_WEIGHT)
    }

    #[tokio::test]
    async fn a_paused_member_is_not_polled_until_resume() {
        let group = group();
        let (sender, mut receiver) = oneshot::channel();
        group.pause();
        group.spawn(async move {
            let _ = sender.send(());
        });
        assert!(timeout(Duration::from_millis(50), &mut receiver).await.is_err());
        group.resume();
        timeout(SOON, receiver).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn abort_drops_every_member_and_lets_none_join() {
        let group = group();
        let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        for _ in 0..3 {
            let alive = alive.clone();
            group.spawn(async move {
                let _alive = alive;
                std::future::pending().await
            });
        }
        group.abort();
        let late = alive.clone();
        group.spawn(async move { drop(late) });
        drop(alive);
        timeout(SOON, group.ended()).await.unwrap();
        assert_eq!(timeout(SOON, gone.recv()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_aborted_member_goes_although_it_is_paused() {
        let group = group();
        group.pause();
        group.spawn(std::future::pending());
        group.abort();
        timeout(SOON, group.ended()).await.unwrap();
    }

    #[tokio::test]
    async fn cpu_time_counts_what_is_spent_inside_poll() {
        let group = group();
        group.spawn(async {
            let start = sys::thread_cpu_time();
            while sys::thread_cpu_time() - start < Duration::from_millis(30) {}
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
        timeout(SOON, group.ended()).await.unwrap();
        let used = group.cpu_time();
        assert!(used >= Duration::from_millis(30) && used < Duration::from_millis(90), "{used:?}");
    }
}
