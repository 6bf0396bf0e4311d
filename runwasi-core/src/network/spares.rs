//! Network namespaces that are made before a sandbox needs one.
//!
//! The kernel takes a large part of a sandbox's start for a new network. A node that has made one
//! will make more, so the thread that makes them keeps a few, and makes the next ones when it has
//! had nothing to do for a moment. A process that is not told to keep any, such as a shim of one
//! pod, makes each when it is needed.

use std::{
    collections::VecDeque,
    fs::File,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Age from which a spare is not used.
// The kernel gives a new network parameters of the host, which may change (`net.ipv4.conf`).
const OLD: Duration = Duration::from_secs(60);

/// Number of spares of this process.
// Relaxed: the number guards no other data.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Lets this process keep that many network namespaces for its next sandboxes. None is made before
/// a first sandbox has needed one.
pub fn keep(number: usize) {
    KEPT.store(number, Ordering::Relaxed);
}

/// Number of spares of this process.
pub(super) fn kept() -> usize {
    KEPT.load(Ordering::Relaxed)
}

/// The spares of the thread that makes namespaces. They are gone with the process.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// From the oldest to the youngest.
    made: VecDeque<(Instant, File)>,
    /// True since the last need of a new network, until a spare cannot be made.
    wanted: bool,
}

impl Spares {
    /// Takes one for a sandbox that needs a new network.
    pub(super) fn take(&mut self) -> Option<File> {
        self.wanted = true;
        while let Some((made, spare)) = self.made.pop_front() {
            if made.elapsed() < OLD {
                return Some(spare);
            }
        }
        None
    }

    /// True if one more is wanted, of so many.
    pub(super) fn lack(&self, kept: usize) -> bool {
        self.wanted && self.made.len() < kept
    }

    /// Adds a namespace that was made just now. Without one, no more are made until the next need.
    pub(super) fn add(&mut self, made: Option<File>) {
        self.wanted = made.is_some();
        self.made.extend(made.map(|spare| (Instant::now(), spare)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_are_made_after_the_first_need_and_up_to_their_number() {
        let file = || Some(File::open("/dev/null").unwrap());
        let mut spares = Spares::default();
        assert!(!spares.lack(2), "nothing has needed one");
        assert!(spares.take().is_none() && spares.lack(2) && !spares.lack(0));
        spares.add(file());
        spares.add(file());
        assert!(!spares.lack(2));
        assert!(spares.take().is_some() && spares.lack(2));
        spares.add(None);
        assert!(!spares.lack(2), "the kernel has refused one");
        assert!(spares.take().is_some() && spares.take().is_none() && spares.lack(2));
        let old = Instant::now().checked_sub(OLD).unwrap();
        spares.made.push_back((old, File::open("/dev/null").unwrap()));
        assert!(spares.take().is_none(), "too old");
    }
}
