//! Facts about a container that its engine notes for operators: the artifact that runs, and the
//! number of requests.
//!
//! They are in the container's [`Extensions`](super::extensions::Extensions), where reports of the
//! container find them. [`InstanceSpec::read`](super::spec::InstanceSpec::read) notes what it
//! reads. An engine that finds its program otherwise, or serves requests, notes that itself.

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::digest::Digest;

/// Notes about one container. All its processes share them.
#[derive(Debug, Default)]
pub struct Notes {
    artifact: OnceLock<ArtifactNote>,
    requests: AtomicU64,
    serves: OnceLock<()>,
}

/// The artifact of a container's init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactNote {
    /// Path in the guest; for a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// Absent if the file was not read, or cannot be told from others.
    pub digest: Option<Digest>,
}

impl Notes {
    /// Notes the artifact. The first call counts: that of the container's init, before any exec.
    pub fn set_artifact(&self, artifact: ArtifactNote) {
        self.artifact.get_or_init(|| artifact);
    }

    /// The artifact, once it is known.
    pub fn artifact(&self) -> Option<&ArtifactNote> {
        self.artifact.get()
    }

    /// Notes that the container serves requests.
    pub fn serves(&self) {
        self.serves.get_or_init(|| ());
    }

    /// Counts a request.
    // Relaxed: a counter that publishes no other memory.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of requests until now. Absent in a container that serves none.
    pub fn requests(&self) -> Option<u64> {
        self.serves.get().map(|()| self.requests.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_of_the_init_stays() {
        let notes = Notes::default();
        assert_eq!((notes.artifact(), notes.requests()), (None, None));
        let note = |path: &str| ArtifactNote { path: path.into(), digest: None };
        notes.set_artifact(note("/init.wasm"));
        notes.set_artifact(note("/exec.wasm"));
        assert_eq!(notes.artifact(), Some(&note("/init.wasm")));
    }

    #[test]
    fn server_without_requests_has_none_yet() {
        let notes = Notes::default();
        notes.serves();
        assert_eq!(notes.requests(), Some(0));
        notes.count_request();
        assert_eq!(notes.requests(), Some(1));
    }
}
