//! Bytes of artifacts, bounded in their sum.

use std::{fmt, ops::Deref, sync::Arc};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Unit of the bounds, in bytes.
const UNIT: u64 = 1 << 20;
/// Largest artifact that counts as small, in bytes.
const SMALL: u64 = 16 << 20;
/// Bound of all small artifacts in memory, in units.
// Of their own, so that they do not wait for large ones.
const SMALL_UNITS: u32 = 128;
/// Bound of all large artifacts in memory, in units: the largest fits.
const LARGE_UNITS: u32 = 512;

static SMALL_ROOM: Semaphore = Semaphore::const_new(SMALL_UNITS as usize);
static LARGE_ROOM: Semaphore = Semaphore::const_new(LARGE_UNITS as usize);

/// Wasm bytes. Clones share them.
#[derive(Clone)]
pub struct ArtifactBytes(Arc<BoundedBytes>);

struct BoundedBytes {
    bytes: Vec<u8>,
    /// Absent for bytes that come from no container.
    _room: Option<Room>,
}

/// Part of the bound, taken before a read and given back with its bytes.
pub(super) struct Room {
    _permit: SemaphorePermit<'static>,
}

impl Room {
    /// Waits until an artifact of this length fits beside those in memory.
    pub(super) async fn take(bytes: u64) -> Option<Self> {
        let (room, units) = match bytes <= SMALL {
            true => (&SMALL_ROOM, SMALL_UNITS),
            false => (&LARGE_ROOM, LARGE_UNITS),
        };
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(units).min(units);
        // Never absent: the semaphores are not closed.
        Some(Self { _permit: room.acquire_many(wanted).await.ok()? })
    }
}

impl ArtifactBytes {
    pub(super) fn within(bytes: Vec<u8>, room: Option<Room>) -> Self {
        Self(Arc::new(BoundedBytes { bytes, _room: room }))
    }
}

impl From<Vec<u8>> for ArtifactBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::within(bytes, None)
    }
}

impl From<&[u8]> for ArtifactBytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl Deref for ArtifactBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl fmt::Debug for ArtifactBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_sum_of_all_artifacts_is_bounded() {
        let soon = Duration::from_millis(50);
        let largest = Room::take(512 << 20).await;
        assert!(timeout(soon, Room::take(SMALL + 1)).await.is_err());
        let small = timeout(soon, Room::take(SMALL)).await.unwrap();
        drop((largest, small));
        timeout(soon, Room::take(SMALL + 1)).await.unwrap();
    }
}
