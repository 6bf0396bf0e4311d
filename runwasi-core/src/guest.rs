//! The group of futures of a process and the wrapper they are polled through. Used by the driver and by instances.
//!
//! ```text
//!              ┌─────────────── Group ───────────────┐
//!  driver ───▶ │ pause gate · CPU meter · member set │ ◀─── GuestContext::spawn
//!              └──────┬───────────┬───────────┬──────┘
//!                  Guest(run)  Guest(conn)  Guest(conn)     polled on the guest runtime only
//! ```
//!
//! Everything containerd asks of a running process acts here, once for every engine: pause closes the gate, so that
//! members are no longer polled; CPU usage is thread CPU time spent inside `poll`; a kill drops the members.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinSet};

use crate::sys;

/// The futures of one process: its instance's `run` and whatever that starts. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    gate: Gate,
    cpu_nanos: AtomicU64,
    /// Locked for the length of one spawn, one poll or one abort, never across an await.
    members: Mutex<Members>,
}

struct Members {
    set: JoinSet<()>,
    /// After the end nothing may join: it would never be aborted.
    open: bool,
}

impl Group {
    /// An empty group whose members will run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        let members = Members { set: JoinSet::new(), open: true };
        let shared =
            Shared { runtime, gate: Gate::default(), cpu_nanos: AtomicU64::new(0), members: Mutex::new(members) };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a member. After [`Group::abort`] the future is dropped instead.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let guest = Guest { shared: self.shared.clone(), future: Box::pin(future) };
        let mut members = self.members();
        // Reaped here, too: a server's group gets a member for every connection of its life.
        while members.set.try_join_next().is_some() {}
        if members.open {
            members.set.spawn_on(guest, &self.shared.runtime);
        }
    }

    /// Stops polling the members. One that is being polled right now goes on until its next yield.
    pub fn pause(&self) {
        self.shared.gate.close();
    }

    /// Polls the members again.
    pub fn resume(&self) {
        self.shared.gate.open();
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

    /// CPU time that the members have used, summed over threads.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_nanos.load(Ordering::Relaxed))
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member: the only way guest code is ever polled.
struct Guest<F> {
    shared: Arc<Shared>,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Guest<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.gate.is_closed(cx.waker()) {
            return Poll::Pending;
        }
        let _meter = Meter::start(self.shared.clone());
        self.future.as_mut().poll(cx)
    }
}

/// Adds the thread's CPU time between its making and its drop to the group's, also when the poll panics.
struct Meter {
    shared: Arc<Shared>,
    before: Duration,
}

impl Meter {
    fn start(shared: Arc<Shared>) -> Self {
        Self { shared, before: sys::thread_cpu_time() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let used = sys::thread_cpu_time().saturating_sub(self.before);
        let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.shared.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Where members wait while their process is paused.
///
/// No wake-up is lost: a member that finds the gate closed leaves its waker under the lock that `open` takes
/// to change the flag, so either it sees the gate open or `open` sees its waker.
#[derive(Default)]
struct Gate {
    /// The fast path: read at every poll without the lock.
    closed: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    fn is_closed(&self, waker: &Waker) -> bool {
        if !self.closed.load(Ordering::Acquire) {
            return false;
        }
        let mut waiting = self.waiting();
        if !self.closed.load(Ordering::Acquire) {
            return false;
        }
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        true
    }

    fn close(&self) {
        let _waiting = self.waiting();
        self.closed.store(true, Ordering::Release);
    }

    fn open(&self) {
        let mut waiting = self.waiting();
        self.closed.store(false, Ordering::Release);
        waiting.drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_paused_member_is_not_polled_until_resume() {
        let group = Group::new(Handle::current());
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
        let group = Group::new(Handle::current());
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
        let group = Group::new(Handle::current());
        group.pause();
        group.spawn(std::future::pending());
        group.abort();
        timeout(SOON, group.ended()).await.unwrap();
    }

    #[tokio::test]
    async fn cpu_time_counts_what_is_spent_inside_poll() {
        let group = Group::new(Handle::current());
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
