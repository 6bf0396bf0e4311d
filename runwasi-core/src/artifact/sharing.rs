//! Reads of artifacts in progress: one read serves all that want the same content at a time.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
};

use tokio::sync::OnceCell;

use super::{Artifact, ArtifactError};
use crate::{digest::Digest, lock::Mutex};

/// Content to be read. Equal sources have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An open file, unchanged for some time.
    File {
        /// Layers of its file system, if they are known.
        layers: Option<Digest>,
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    /// A blob of the content store.
    Blob {
        digest: Digest,
        // Declared, and wrong in some image perhaps: the read for that one fails, and no other.
        bytes: u64,
    },
}

type Reading = OnceCell<Result<Artifact, ArtifactError>>;

/// Reads in progress.
static READINGS: Mutex<Option<HashMap<Origin, Weak<Reading>>>> = Mutex::new(None);

/// Reads an artifact, or joins a read of the same source. If the first caller goes away, another
/// one reads.
pub(super) async fn shared(
    origin: Origin,
    read: impl Future<Output = Result<Artifact, ArtifactError>>,
) -> Result<Artifact, ArtifactError> {
    let reading = join(origin);
    // The result is kept as long as a caller waits for it: later ones look into the caches.
    reading.get_or_init(|| read).await.clone()
}

fn join(origin: Origin) -> Arc<Reading> {
    let mut readings = READINGS.lock();
    let readings = readings.get_or_insert_default();
    readings.retain(|_, reading| reading.strong_count() > 0);
    if let Some(reading) = readings.get(&origin).and_then(Weak::upgrade) {
        return reading;
    }
    let reading = Arc::default();
    readings.insert(origin, Arc::downgrade(&reading));
    reading
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::time::{sleep, timeout};

    use super::*;

    fn artifact() -> Result<Artifact, ArtifactError> {
        Artifact::of_bytes("/a".into(), b"(module)".to_vec())
    }

    #[tokio::test]
    async fn one_read_serves_all_that_want_a_source_at_a_time() {
        let reads = AtomicUsize::new(0);
        let read = async || {
            reads.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
            artifact()
        };
        let origin = || Origin::Blob { digest: Digest::of(b"one read"), bytes: 8 };
        let (one, other) = tokio::join!(shared(origin(), read()), shared(origin(), read()));
        assert!(one.unwrap().bytes.as_ptr() == other.unwrap().bytes.as_ptr());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        shared(origin(), read()).await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 2, "nothing is kept");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_read_to_the_next() {
        let origin = || Origin::Blob { digest: Digest::of(b"goes away"), bytes: 8 };
        let never = shared(origin(), std::future::pending());
        let waits = async {
            sleep(Duration::from_millis(1)).await;
            shared(origin(), async { artifact() }).await
        };
        let limit = Duration::from_millis(50);
        let (left, read) = tokio::join!(timeout(limit, never), waits);
        assert!(left.is_err() && read.is_ok());
    }
}
