//! One making at a time of each artifact: who wants what is being made joins the making.
//!
//! ```text
//! join ─▶ nobody makes it: `begin` is called with a Leader, which goes to whoever makes it
//!      └▶ somebody makes it ──────────────┐
//!                                         ▼
//!                        Waiter ◀── watch ── Leader::complete, or its drop
//! ```
//!
//! What is being made does not hang on those who wait: one may go away, all may. What has not been begun is given up if
//! all have ([`Leader::wanted`]).

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

/// How often it is told that something is still being made.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// What is being made now. All clones speak of the same.
#[derive(Debug)]
pub struct SingleFlight<T> {
    /// Locked for single look-ups and changes.
    map: Arc<Mutex<HashMap<Digest, Waiter<T>>>>,
}

/// One making, for who waits for it.
#[derive(Debug)]
pub struct Waiter<T> {
    result: watch::Receiver<Option<T>>,
    begun: Instant,
    /// How often it has been told, by whichever of the waiting.
    told: Arc<AtomicU64>,
}

/// One making, for who does it.
#[derive(Debug)]
pub struct Leader<T> {
    digest: Digest,
    result: watch::Sender<Option<T>>,
    map: Arc<Mutex<HashMap<Digest, Waiter<T>>>>,
    /// Whether it is in the map no more, where another one may have taken its place.
    given_up: bool,
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
        Self { result: self.result.clone(), begun: self.begun, told: self.told.clone() }
    }
}

impl<T> SingleFlight<T> {
    /// Joins the making of an artifact; if there is none, `begin` is to see to it.
    pub fn join(&self, digest: Digest, begin: impl FnOnce(Leader<T>)) -> Waiter<T> {
        let mut map = lock(&self.map);
        if let Some(waiter) = map.get(&digest) {
            return waiter.clone();
        }
        let (sender, result) = watch::channel(None);
        let waiter = Waiter { result, begun: Instant::now(), told: Arc::default() };
        map.insert(digest, waiter.clone());
        drop(map);
        begin(Leader { digest, result: sender, map: self.map.clone(), given_up: false });
        waiter
    }
}

impl<T: Clone> Waiter<T> {
    /// What was made; `None` if its maker has given up. Calls `still` now and then, for one of those who wait.
    pub async fn wait(mut self, still: impl Fn(Duration)) -> Option<T> {
        loop {
            let landed = timeout(TOLD_EVERY, self.result.wait_for(Option::is_some)).await;
            // In a statement of its own: what it may hold of `self` ends with it.
            let landed = landed.map(|landed| landed.ok().and_then(|result| result.clone()));
            match landed {
                Ok(result) => return result,
                Err(_) => self.tell(&still),
            }
        }
    }

    fn tell(&self, still: impl Fn(Duration)) {
        let elapsed = self.begun.elapsed();
        let times = elapsed.as_secs() / TOLD_EVERY.as_secs();
        if self.told.fetch_max(times, Ordering::Relaxed) < times {
            still(elapsed);
        }
    }
}

impl<T> Leader<T> {
    /// Nothing, if nobody waits for it any more: who wants it later begins another one.
    pub fn wanted(mut self) -> Option<Self> {
        let mut map = lock(&self.map);
        // One is the map's. Whoever joins does so under this lock.
        if self.result.receiver_count() > 1 {
            drop(map);
            return Some(self);
        }
        map.remove(&self.digest);
        drop(map);
        self.given_up = true;
        None
    }

    /// Hands over what was made.
    pub fn complete(self, result: T) {
        self.result.send_replace(Some(result));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        if !self.given_up {
            lock(&self.map).remove(&self.digest);
        }
    }
}

fn lock<T>(map: &Mutex<HashMap<Digest, Waiter<T>>>) -> MutexGuard<'_, HashMap<Digest, Waiter<T>>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_get_what_one_makes() {
        let (single_flight, digest) = (SingleFlight::default(), Digest::of(b"wasm"));
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
    async fn what_nobody_waits_for_is_given_up_and_can_be_begun_again() {
        let (single_flight, digest) = (SingleFlight::default(), Digest::of(b"wasm"));
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
    async fn only_one_of_those_who_wait_tells() {
        let single_flight = SingleFlight::<()>::default();
        let mut leader = None;
        let mut waiter = single_flight.join(Digest::of(b"wasm"), |begun| leader = Some(begun));
        waiter.begun = Instant::now().checked_sub(TOLD_EVERY * 2).unwrap();
        let (told, other) = (RefCell::new(0), waiter.clone());
        waiter.tell(|_| *told.borrow_mut() += 1);
        other.tell(|_| *told.borrow_mut() += 1);
        assert_eq!(*told.borrow(), 1);
    }
}
