//! CPU shares of the cgroup that the guests of a pod have together: the sum of those of its
//! containers.
//!
//! Beside it are the cgroups of the pod's native containers, each with the shares of its own. With
//! the kernel's default instead of the sum, guests would get more of a busy CPU than they ask for,
//! or less.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{files, policy::Leaf};
use crate::{bundle::resources::DEFAULT_SHARES, lock::Mutex};

/// The shares of a pod's guests.
// Locked while the sum is made and written: of two changes at once the second one writes both.
#[derive(Default)]
pub(super) struct PodShares(Mutex<State>);

#[derive(Default)]
struct State {
    /// The cgroup that the workers are in.
    leaf: Option<Leaf>,
    /// The containers that live.
    containers: Vec<Weak<AtomicU64>>,
}

/// Shares of one container. Absent before it has limits, and after its end.
// Relaxed: read under the lock of the sum, after the change.
#[derive(Default)]
pub(super) struct OwnShares(Arc<AtomicU64>);

impl OwnShares {
    /// Sets them. Absent ones stay, and are the default at first.
    pub(super) fn set(&self, shares: Option<u64>) {
        match shares {
            Some(shares) => self.0.store(shares, Relaxed),
            None if self.0.load(Relaxed) == 0 => self.0.store(DEFAULT_SHARES, Relaxed),
            None => {}
        }
    }

    /// Takes them out of the sum.
    pub(super) fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}

impl PodShares {
    /// Adds a container to the pod, until its shares are dropped.
    pub(super) fn add(&self, shares: &OwnShares) {
        let mut state = self.0.lock();
        state.containers.retain(|other| other.strong_count() > 0);
        state.containers.push(Arc::downgrade(&shares.0));
    }

    /// Notes the cgroup that the workers are in, if any.
    pub(super) fn set_leaf(&self, leaf: Option<Leaf>) {
        self.0.lock().leaf = leaf;
    }

    /// Writes the sum into that cgroup. Blocks.
    pub(super) fn apply(&self) -> io::Result<()> {
        let state = self.0.lock();
        let Some(leaf) = &state.leaf else { return Ok(()) };
        let living = state.containers.iter().filter_map(Weak::upgrade);
        let each = living.map(|shares| shares.load(Relaxed));
        files::set(leaf.shares_of_pod(each).into_iter().collect())
    }
}
