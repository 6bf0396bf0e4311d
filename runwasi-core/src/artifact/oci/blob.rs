//! Blobs of containerd's content store, and the wasm layers among them.

use std::sync::Arc;

use super::error::ImageError;
use crate::digest::Digest;

/// A blob of the content store, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it says it is.
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// A wasm layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The name of the image.
    pub image: Arc<str>,
    /// What the image calls it (`org.opencontainers.image.title`), if it does.
    pub title: Option<String>,
    /// Where its bytes are.
    pub blob: Blob,
}

impl Layer {
    /// For people: `IMAGE/TITLE`, or its digest in the place of a title.
    pub fn name(&self) -> String {
        let title = self.title.clone().unwrap_or_else(|| self.blob.digest.to_string());
        format!("{}/{}", self.image, title.trim_start_matches('/'))
    }
}

impl Blob {
    /// Whether what was read is what was asked for.
    pub(crate) fn check(&self, found: &Digest) -> Result<(), ImageError> {
        if *found == self.digest {
            return Ok(());
        }
        Err(ImageError::Damaged { digest: self.digest, reason: format!("its digest is {found}") })
    }
}
