//! In-memory image store in the place of containerd's.

use std::{
    collections::HashMap,
    sync::{
        MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::json;

use crate::{
    artifact::oci::{Images, blob::Blob, error::ImageError},
    digest::Digest,
    id::Id,
    lock::Mutex,
    sandbox::records::SandboxRecords,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/wasm";

/// Store of at most one image, which is the image of every container. Initially empty.
#[derive(Debug, Default)]
pub struct ImageStore {
    /// Name and manifest of the image. Locked for single look-ups and changes.
    image: Mutex<Option<(String, Blob)>>,
    // By digest and apart from the content, so that a test can store wrong bytes under a digest.
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// Number of reads of layers, without those of manifests.
    reads: AtomicUsize,
}

impl ImageStore {
    /// Replaces the image by one with these wasm layers, each `(title, bytes)`. The blobs of
    /// earlier images stay readable.
    pub fn put(&self, name: &str, layers: &[(&str, &[u8])]) {
        let layer = |(title, bytes): &(&str, &[u8])| {
            let Blob { media_type, digest, bytes } = self.keep(LAYER, bytes);
            let annotations = json!({"org.opencontainers.image.title": title});
            json!({
                "mediaType": media_type,
                "digest": digest.to_string(),
                "size": bytes,
                "annotations": annotations,
            })
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        let Blob { media_type, digest, bytes } =
            self.keep("application/vnd.wasm.config.v0+json", b"{}");
        let config = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes});
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let target = self.keep(MANIFEST, manifest.to_string().as_bytes());
        // Last: a concurrent reader finds either image with all its blobs.
        *lock(&self.image) = Some((name.to_owned(), target));
    }

    /// Replaces the content `right` of a blob by `wrong`, or removes the blob. Its digest stays.
    pub fn damage(&self, right: &[u8], wrong: Option<&[u8]>) {
        let mut blobs = lock(&self.blobs);
        let digest = Digest::of(right).to_string();
        // The replaced bytes are of no use.
        match wrong {
            Some(wrong) => drop(blobs.insert(digest, wrong.to_vec())),
            None => drop(blobs.remove(&digest)),
        }
    }

    /// Number of reads of layers so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn keep(&self, media_type: &str, bytes: &[u8]) -> Blob {
        let digest = Digest::of(bytes);
        lock(&self.blobs).insert(digest.to_string(), bytes.to_vec());
        Blob { media_type: media_type.to_owned(), digest, bytes: bytes.len() as u64 }
    }
}

#[async_trait]
impl SandboxRecords for ImageStore {
    /// Never answers.
    async fn has(&self, _: &Id) -> Option<bool> {
        None
    }
}

#[async_trait]
impl Images for ImageStore {
    async fn of_container(&self, _container: &Id) -> Result<String, ImageError> {
        lock(&self.image).as_ref().map(|(name, _)| name.clone()).ok_or(ImageError::NoImage)
    }

    async fn target(&self, image: &str) -> Result<Blob, ImageError> {
        let target = lock(&self.image).as_ref().map(|(_, target)| target.clone());
        target.ok_or_else(|| ImageError::Unknown { image: image.to_owned() })
    }

    async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        if blob.media_type == LAYER {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        let bytes = lock(&self.blobs).get(&blob.digest.to_string()).cloned();
        bytes.ok_or(ImageError::Missing { digest: blob.digest })
    }

    async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
        Ok(lock(&self.image).iter().cloned().collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No critical section here can panic halfway through a change.
    mutex.lock()
}
