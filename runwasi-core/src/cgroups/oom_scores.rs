//! OOM score (`proc(5)`) of a process that serves one pod.
//!
//! Its memory is that of the pod's guests. So the kernel, out of memory, is to choose it as it
//! would choose them: by the score that Kubernetes gives their containers, 1000 for the first to
//! go. It is the least of the containers' scores, since all of them end with the process, and at
//! least the one that containerd's shims have.

use std::{fs, io, path::PathBuf, sync::Arc};

use crate::{lock::Mutex, native::oom_score};

/// The scores of the containers of this process.
pub(crate) struct OomScores {
    /// Tells the score without containers.
    // Not read before the first container with a score: most that are started by hand lack it.
    base: fn() -> Option<i32>,
    file: PathBuf,
    // Locked while the least one is found and written: of two changes at once the second one writes
    // both.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Scores of the containers with one.
    of_containers: Vec<i32>,
    /// The score that was written last.
    written: Option<i32>,
}

/// Score of one container, until its drop.
pub(crate) struct OomScore {
    scores: Arc<OomScores>,
    score: i32,
}

impl OomScores {
    /// Scores of this process, which has no container yet.
    pub(super) fn of_process() -> Arc<Self> {
        Self::at(oom_score::own, PathBuf::from(oom_score::file("self")))
    }

    fn at(base: fn() -> Option<i32>, file: PathBuf) -> Arc<Self> {
        Arc::new(Self { base, file, state: Mutex::default() })
    }

    /// Adds the score of a container.
    pub(crate) fn add(self: &Arc<Self>, score: i32) -> OomScore {
        self.change(|of_containers| of_containers.push(score));
        OomScore { scores: self.clone(), score }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<i32>)) {
        let mut state = self.state.lock();
        change(&mut state.of_containers);
        let least = state.of_containers.iter().copied().min();
        // It cannot be read, and is left alone.
        let Some(base) = (self.base)() else { return };
        let score = least.map_or(base, |least| least.max(base));
        if state.written.unwrap_or(base) == score {
            return;
        }
        match self.write(score) {
            Ok(()) => state.written = Some(score),
            // No limit depends on it, and to lower it again may need a privilege.
            Err(error) => tracing::warn!(%error, score, "oom_score_adj stays as it is"),
        }
    }

    fn write(&self, score: i32) -> io::Result<()> {
        fs::write(&self.file, score.to_string())
    }
}

impl Drop for OomScore {
    fn drop(&mut self) {
        let score = self.score;
        self.scores.change(|of_containers| {
            if let Some(own) = of_containers.iter().position(|other| *other == score) {
                of_containers.swap_remove(own);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_is_the_least_of_the_containers_and_at_least_that_of_a_shim() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("oom_score_adj");
        let scores = OomScores::at(|| Some(-998), file.clone());
        let written = || fs::read_to_string(&file).unwrap_or_default();
        let first = scores.add(-998);
        assert_eq!(written(), "", "as before");
        drop(first);
        let second = scores.add(1000);
        assert_eq!(written(), "1000");
        let third = scores.add(500);
        assert_eq!(written(), "500");
        let least = scores.add(-1000);
        assert_eq!(written(), "-998");
        drop(least);
        drop(second);
        assert_eq!(written(), "500");
        drop(third);
        assert_eq!(written(), "-998", "without containers");
    }

    #[test]
    fn nothing_is_written_without_a_score_of_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("oom_score_adj");
        drop(OomScores::at(|| None, file.clone()).add(1000));
        assert!(!file.exists());
    }
}
