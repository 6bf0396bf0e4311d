//! Single-flight compilation: concurrent requests for one artifact share one compilation.
//!
//! ```text
//! join ─▶ no compilation yet: `begin` gets a Leader, which it passes to the compiler
//!      └▶ one in progress ────────────────┐
//!                                         ▼
//!                        Waiter ◀── watch ── Leader::complete, or its drop
//! ```
//!
//! A compilation that no request waits for any more is cancelled: its task looks before it begins
//! ([`Leader::cancel_if_unwanted`]), and listens while it runs ([`Leader::unwanted`]).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use crate::lock::Mutex;

/// Interval between the reports of a compilation in progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Compilations in progress, by what is compiled. All clones share them.
#[derive(Debug)]
pub struct SingleFlight<K, T> {
    /// Locked for single look-ups and changes.
    map: Map<K, T>,
}

type Map<K, T> = Arc<Mutex<HashMap<K, Flight<T>>>>;

/// A compilation in progress. It holds no receiver: those are the waiters.
#[derive(Debug)]
struct Flight<T> {
    result: watch::Sender<Option<T>>,
    begun: Instant,
    reported: Arc<AtomicU64>,
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
pub struct Leader<K: Eq + Hash, T> {
    key: K,
    result: watch::Sender<Option<T>>,
    map: Map<K, T>,
    /// True once this compilation is no longer in the map.
    // Another one may have taken its entry, which the drop of this leader must not remove.
    removed: bool,
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<T> Clone for Waiter<T> {
    fn clone(&self) -> Self {
        Self { result: self.result.clone(), begun: self.begun, reported: self.reported.clone() }
    }
}

impl<K: Clone + Eq + Hash, T> SingleFlight<K, T> {
    /// Joins the compilation of an artifact. Without one in progress, `begin` has to start it.
    pub fn join(&self, key: K, begin: impl FnOnce(Leader<K, T>)) -> Waiter<T> {
        let mut map = lock(&self.map);
        if let Some(flight) = map.get(&key) {
            return flight.waiter();
        }
        let result = watch::Sender::new(None);
        let flight =
            Flight { result: result.clone(), begun: Instant::now(), reported: Arc::default() };
        let waiter = flight.waiter();
        // Before `begin`: requests from here on join this compilation.
        map.insert(key.clone(), flight);
        // `begin` may drop its leader, and that takes this lock.
        drop(map);
        begin(Leader { key, result, map: self.map.clone(), removed: false });
        waiter
    }
}

impl<T> Flight<T> {
    fn waiter(&self) -> Waiter<T> {
        let reported = self.reported.clone();
        Waiter { result: self.result.subscribe(), begun: self.begun, reported }
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

impl<K: Eq + Hash, T> Leader<K, T> {
    /// Cancels the compilation if it has no waiters left, and returns true then. A later request
    /// starts another one.
    pub fn cancel_if_unwanted(&mut self) -> bool {
        let mut map = lock(&self.map);
        // New waiters are created only under this lock, so the count misses no waiter.
        if !self.removed && self.result.receiver_count() == 0 {
            map.remove(&self.key);
            // The drop of `self` must not remove the entry of a successor.
            self.removed = true;
        }
        self.removed
    }

    /// Waits until no request waits any more, and cancels the compilation then.
    pub async fn unwanted(&mut self) {
        loop {
            self.result.closed().await;
            // A request may have come in between.
            if self.cancel_if_unwanted() {
                return;
            }
        }
    }

    /// Passes the result to all waiters.
    pub fn complete(self, result: T) {
        // Before the drop removes the entry: a request in between gets this result. `send_replace`
        // stores it even if all receivers are gone.
        self.result.send_replace(Some(result));
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        if !self.removed {
            lock(&self.map).remove(&self.key);
        }
    }
}

fn lock<K, T>(map: &Map<K, T>) -> MutexGuard<'_, HashMap<K, Flight<T>>> {
    // Only map operations happen under the lock, so a panic elsewhere cannot have damaged the map.
    map.lock()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::digest::Digest;

    /// Joins a compilation, and gets its leader if it has just begun.
    fn join(
        single_flight: &SingleFlight<Digest, i32>,
        digest: Digest,
    ) -> (Waiter<i32>, Option<Leader<Digest, i32>>) {
        let mut leader = None;
        let waiter = single_flight.join(digest, |begun| leader = Some(begun));
        (waiter, leader)
    }

    #[tokio::test]
    async fn all_waiters_get_the_result_of_one_leader() {
        let single_flight = SingleFlight::default();
        let digest = Digest::of(b"wasm");
        let mut leader = None;
        let first = single_flight.join(digest, |begun| leader = Some(begun));
        let second = single_flight.join(digest, |_| panic!("compiled twice"));
        let other = single_flight.join(Digest::of(b"other"), drop);
        drop(first);
        assert_eq!(other.wait(|_| ()).await, None, "its leader was dropped");
        leader.unwrap().complete(7);
        assert_eq!(second.wait(|_| ()).await, Some(7));
        let again = single_flight.join(digest, |leader| leader.complete(8));
        assert_eq!(again.wait(|_| ()).await, Some(8), "a completed compilation is removed");
    }

    #[tokio::test]
    async fn leader_without_waiters_is_cancelled_and_the_next_request_starts_again() {
        let single_flight = SingleFlight::default();
        let digest = Digest::of(b"wasm");
        let begin = || {
            let (waiter, leader) = join(&single_flight, digest);
            (waiter, leader.unwrap())
        };
        let (waiter, mut leader) = begin();
        assert!(!leader.cancel_if_unwanted(), "it has a waiter");
        drop(waiter);
        assert!(leader.cancel_if_unwanted(), "it has no waiter");
        let (waiter, mut successor) = begin();
        assert!(leader.cancel_if_unwanted(), "a cancelled one stays cancelled");
        drop(leader);
        let (second, no_leader) = join(&single_flight, digest);
        assert!(no_leader.is_none(), "the successor has kept its entry");
        assert!(!successor.cancel_if_unwanted());
        successor.complete(1);
        assert_eq!(waiter.wait(|_| ()).await, Some(1));
        assert_eq!(second.wait(|_| ()).await, Some(1));
    }

    #[tokio::test]
    async fn leader_hears_that_the_last_waiter_has_left() {
        let single_flight = SingleFlight::default();
        let digest = Digest::of(b"wasm");
        let (first, leader) = join(&single_flight, digest);
        let mut leader = leader.unwrap();
        let (second, _) = join(&single_flight, digest);
        let short = Duration::from_millis(20);
        drop(first);
        assert!(timeout(short, leader.unwanted()).await.is_err(), "it has a waiter");
        drop(second);
        timeout(Duration::from_secs(10), leader.unwanted()).await.unwrap();
        assert!(join(&single_flight, digest).1.is_some(), "the next request begins again");
    }

    #[tokio::test]
    async fn only_one_waiter_reports_progress() {
        let single_flight = SingleFlight::<_, ()>::default();
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
