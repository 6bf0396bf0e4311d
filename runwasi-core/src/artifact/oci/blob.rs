//! Blobs of containerd's content store, and wasm layers.

use std::sync::Arc;

use super::error::ImageError;
use crate::{digest::Digest, sanitize};

/// A blob of the content store, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Declared media type.
    pub media_type: String,
    /// Digest, which is also the blob's name.
    pub digest: Digest,
    /// Declared length.
    // From an untrusted index or manifest until the blob is read.
    pub bytes: u64,
}

/// A wasm layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of the image.
    pub image: Arc<str>,
    /// Title (`org.opencontainers.image.title`), if the image has one for this layer.
    pub title: Option<String>,
    /// Content of the layer.
    pub blob: Blob,
}

impl Layer {
    /// Display name: `IMAGE/TITLE`, or the digest in the place of a missing title.
    pub fn name(&self) -> String {
        let title = self.title.clone().unwrap_or_else(|| self.blob.digest.to_string());
        // Titles may be absolute paths; a second slash would be confusing. Bounded, since they may
        // be as long as a manifest, and every container keeps this name.
        format!("{}/{}", self.image, sanitize::bounded(title.trim_start_matches('/')))
    }
}

impl Blob {
    /// Compares the digest of the bytes that were read with the expected one.
    pub(crate) fn check(&self, found: &Digest) -> Result<(), ImageError> {
        if *found == self.digest {
            return Ok(());
        }
        Err(ImageError::Damaged { digest: self.digest, reason: format!("its digest is {found}") })
    }
}
