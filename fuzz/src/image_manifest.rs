//! Indexes and manifests of images, and the choice of a layer.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use runwasi_core::{
    Id,
    artifact::oci::{
        Images,
        blob::{Blob, Layer},
        error::ImageError,
    },
    digest::Digest,
    fuzzing, sanitize,
};

const IMAGE: &str = "example/i:1";
/// In a document: the digest of the next one.
const NEXT: &str = "NEXT";
const TYPES: [&str; 5] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.config.v1+json",
];
/// Most documents of an input: more than can be nested.
const MOST: usize = 8;

/// The input is the program's name, then documents, all ended by NUL. The first byte of a document
/// selects its type. The layer that is found is of this image; an error names the image or a digest.
pub fn check(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0);
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let store = Store::new(parts.take(MOST));
    let id = Id::parse("id", "c1").expect("a valid id");
    match ready(fuzzing::find_layer(&store, &id, &name)) {
        Ok(layer) => check_layer(&layer, &store),
        Err(error) => check_text(&error),
    }
}

fn check_layer(layer: &Layer, store: &Store) {
    assert!(layer.name().starts_with(&format!("{IMAGE}/")), "{layer:?}");
    let digest = layer.blob.digest.to_string();
    let is_written = |document: &Document| document.text.contains(&digest);
    assert!(store.documents.iter().any(is_written), "{digest} is in no manifest");
}

fn check_text(error: &ImageError) {
    let text = error.to_string();
    let names = match error {
        ImageError::Digest { digest } => text.contains(&format!("{digest:?}")),
        _ => text.contains(IMAGE) || text.contains("sha256:"),
    };
    assert!(names, "{text}");
    let shown = sanitize::text(&text);
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    assert!(shown.chars().all(is_plain), "{shown:?}");
}

#[derive(Debug)]
struct Document {
    blob: Blob,
    text: String,
}

/// An image store with these documents, the first of which is the image's.
#[derive(Debug)]
struct Store {
    documents: Vec<Document>,
}

impl Store {
    fn new<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let parts: Vec<_> = parts.collect();
        let mut documents: Vec<Document> = Vec::new();
        // From the last: each may contain the digest of the next.
        for part in parts.iter().rev() {
            let kind = usize::from(part.first().copied().unwrap_or_default());
            let text = String::from_utf8_lossy(part.get(1..).unwrap_or_default());
            let next = documents.last().map(|next| next.blob.digest.to_string());
            let text = text.replace(NEXT, next.as_deref().unwrap_or(NEXT));
            let digest = Digest::of(text.as_bytes());
            let media_type = TYPES[kind % TYPES.len()].to_owned();
            let blob = Blob { media_type, digest, bytes: text.len() as u64 };
            documents.push(Document { blob, text });
        }
        documents.reverse();
        Self { documents }
    }
}

#[async_trait]
impl Images for Store {
    async fn of_container(&self, _: &Id) -> Result<String, ImageError> {
        Ok(IMAGE.to_owned())
    }

    async fn target(&self, image: &str) -> Result<Blob, ImageError> {
        let first = self.documents.first();
        first
            .map(|first| first.blob.clone())
            .ok_or_else(|| ImageError::Unknown { image: image.to_owned() })
    }

    async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        let found = self.documents.iter().find(|document| document.blob.digest == blob.digest);
        found
            .map(|found| found.text.clone().into_bytes())
            .ok_or(ImageError::Missing { digest: blob.digest })
    }

    async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
        Ok(Vec::new())
    }
}

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the store in memory makes nothing wait"),
    }
}
