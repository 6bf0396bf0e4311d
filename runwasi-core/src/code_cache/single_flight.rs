//! Single-flight compilation: concurrent requests for one artifact share one compilation.
//!
//! ```text
//! join ─▶ no compilation yet: `begin` gets a Leader, which it passes to the compiler
//!      └▶ one in progress ────────────────┐
//!                                         ▼
//!                        Waiter ◀── watch ── Leader::complete, or its drop
//! ```
//!
//! A compilation in progress does not depend on its waiters: it continues without them. One that
//! has not begun is cancelled if all waiters have left ([`Leader::wanted`]).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use crate::digest::Digest;

/// Interval between the reports of a compilation in progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Compilations in progress, by digest. All clones share them.
#[derive(Debug)]
pub struct SingleFlight<T> {
    /// Locked for single look-ups and changes.
    map: Arc<Mutex<HashMap<Digest, Waiter<T>>>>,
}

/// Handle of a request that waits for a compilation.
#[derive(Debug)]
pub struct Waiter<T> {
    result: watch::Receiver<Option<T>>,
    begun: Instant,
    /// Number of report intervals that some waiter has reported.
    reported: Arc<AtomicU64>,
}

/// Handle of the task that compiles. Its drop without a result ends all waits.
#[derive(Debug)]
pub struct Leader<T> {
    digest: Digest,
    result: watch::Sender<Option<T>>,
    map: Arc<Mutex<HashMap<Digest, Waiter<T>>>>,
    /// True once this compilation is no longer in the map.
    // Another one may have taken its entry, which the drop of this leader must not remove.
    removed: bool,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<T> Clone for SingleFlight<T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<T> Clone for Waiter<T> {
    fn clone(&self) -> Self {
        Self { result: self.result.clone(), begun: self.begun, reported: self.reported.clone() }
    }
}

impl<T> SingleFlight<T> {
    /// Joins the compilation of an artifact. Without one in progress, `begin` has to start it.
    pub fn join(&self, digest: Digest, begin: impl FnOnce(Leader<T>)) -> Waiter<T> {
        let mut map = lock(&self.map);
        if let Some(waiter) = map.get(&digest) {
            return waiter.clone();
        }
        let (sender, result) = watch::channel(None);
        let waiter = Waiter { result, begun: Instant::now(), reported: Arc::default() };
        // Before `begin`: requests from here on join this compilation.
        map.insert(digest, waiter.clone());
        // `begin` may drop its leader, and that takes this lock.
        drop(map);
        begin(Leader { digest, result: sender, map: self.map.clone(), removed: false });
        waiter
    }
}

impl<T: Clone> Waiter<T> {
    /// Waits for the result, which is absent if the leader was dropped without one. Calls `still`
    /// once per interval in one of the waiters.
    pub async fn wait(mut self, still: impl Fn(Duration)) -> Option<T> {
        loop {
            // No wakeup is lost: `wait_for` looks at the current value first.
            let completed = timeout(REPORT_INTERVAL, self.result.wait_for(Option::is_some)).await;
            // In a statement of its own, because the borrow of `self` has to end before
            // `report_progress`.
            let completed =
                completed.map(|completed| completed.ok().and_then(|result| result.clone()));
            match completed {
                Ok(result) => return result,
                Err(_) => self.report_progress(&still),
            }
        }
    }

    fn report_progress(&self, still: impl Fn(Duration)) {
        let elapsed = self.begun.elapsed();
        let times = elapsed.as_secs() / REPORT_INTERVAL.as_secs();
        // Only the waiter that advances the count reports. `Relaxed`, because the count guards no
        // other data.
        if self.reported.fetch_max(times, Ordering::Relaxed) < times {
            still(elapsed);
        }
    }
}

impl<T> Leader<T> {
    /// Cancels the compilation if it has no waiters left. A later request starts another one.
    pub fn wanted(mut self) -> Option<Self> {
        let mut map = lock(&self.map);
        // The map holds one receiver. New waiters are created only under this lock, so the count
        // misses no waiter.
        if self.result.receiver_count() > 1 {
            drop(map);
            return Some(self);
        }
        map.remove(&self.digest);
        drop(map);
        // The drop of `self` must take neither the lock nor the entry of a successor.
        self.removed = true;
        None
    }

    /// Passes the result to all waiters.
    pub fn complete(self, result: T) {
        // Before the drop removes the entry: a request in between gets this result. `send_replace`
        // stores it even if all receivers are gone.
        self.result.send_replace(Some(result));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        if !self.removed {
            lock(&self.map).remove(&self.digest);
        }
    }
}

fn lock<T>(map: &Mutex<HashMap<Digest, Waiter<T>>>) -> MutexGuard<'_, HashMap<Digest, Waiter<T>>> {
    // Only map operations happen under the lock, so a panic elsewhere cannot have damaged the map.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn all_waiters_get_the_result_of_one_leader() {
        let single_flight = SingleFlight::default();
        let digest = Digest::of(b"wasm");
        let mut leader = None;
        let first = single_flight.join(digest, |begun| leader = Some(begun));
        let second = single_flight.join(digest, |_| panic!("made twice"));
        let other = single_flight.join(Digest::of(b"other"), drop);
        drop(first);
        assert_eq!(other.wait(|_| ()).await, None, "its maker has given up");
        leader.unwrap().complete(7);
        assert_eq!(second.wait(|_| ()).await, Some(7));
        let again = single_flight.join(digest, |leader| leader.complete(8));
        assert_eq!(again.wait(|_| ()).await, Some(8), "what has landed is forgotten");
    }

    #[tokio::test]
    async fn leader_without_waiters_is_cancelled_and_the_next_request_starts_again() {
        let single_flight = SingleFlight::default();
        let digest = Digest::of(b"wasm");
        let begin = || {
            let mut leader = None;
            let waiter = single_flight.join(digest, |begun| leader = Some(begun));
            (waiter, leader.unwrap())
        };
        let (waiter, leader) = begin();
        let leader = leader.wanted().expect("somebody waits");
        drop(waiter);
        assert!(leader.wanted().is_none(), "nobody waits");
        let (waiter, leader) = begin();
        leader.wanted().unwrap().complete(1);
        assert_eq!(waiter.wait(|_| ()).await, Some(1));
    }

    #[tokio::test]
    async fn only_one_waiter_reports_progress() {
        let single_flight = SingleFlight::<()>::default();
        let mut leader = None;
        let mut waiter = single_flight.join(Digest::of(b"wasm"), |begun| leader = Some(begun));
        waiter.begun = Instant::now().checked_sub(REPORT_INTERVAL * 2).unwrap();
        let reported = RefCell::new(0);
        let other = waiter.clone();
        waiter.report_progress(|_| *reported.borrow_mut() += 1);
        other.report_progress(|_| *reported.borrow_mut() += 1);
        assert_eq!(*reported.borrow(), 1);
    }
}
