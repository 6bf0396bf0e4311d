//! Images in memory, as containerd would have them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::json;

use crate::{
    artifact::oci::{Images, blob::Blob, error::ImageError},
    digest::Digest,
    id::Id,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/wasm";

/// At most one image, of which every container is made; none to begin with.
#[derive(Debug, Default)]
pub struct ImageStore {
    /// Locked for single look-ups and changes.
    image: Mutex<Option<(String, Blob)>>,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// Layers read, manifests apart.
    reads: AtomicUsize,
}

impl ImageStore {
    /// Puts an image in the place of the one before: wasm layers, each with its title. What was there of others stays readable.
    pub fn put(&self, name: &str, layers: &[(&str, &[u8])]) {
        let layer = |(title, bytes): &(&str, &[u8])| {
            let Blob { media_type, digest, bytes } = self.keep(LAYER, bytes);
            let annotations = json!({"org.opencontainers.image.title": title});
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes, "annotations": annotations})
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        let Blob { media_type, digest, bytes } =
            self.keep("application/vnd.wasm.config.v0+json", b"{}");
        let config = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes});
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let target = self.keep(MANIFEST, manifest.to_string().as_bytes());
        *lock(&self.image) = Some((name.to_owned(), target));
    }

    /// Lets a blob hold other bytes than those it is named by, or nothing.
    pub fn damage(&self, right: &[u8], wrong: Option<&[u8]>) {
        let (mut blobs, digest) = (lock(&self.blobs), Digest::of(right).to_string());
        match wrong {
            Some(wrong) => drop(blobs.insert(digest, wrong.to_vec())),
            None => drop(blobs.remove(&digest)),
        }
    }

    /// How often a layer has been read.
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
