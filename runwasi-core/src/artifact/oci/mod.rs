//! Wasm layers of a container's image: the program of a container without a program file.
//!
//! ```text
//! container ─▶ name of its image ─▶ index ─▶ manifest ─▶ its wasm layers ─▶ the layer to run
//!              └── containerd's records ──┘ └──────── blobs of its content store ────────┘
//! ```
//!
//! Images are untrusted: the length of every blob is checked before the blob is read, and a blob
//! with another SHA-256 digest than the requested one is rejected.

pub mod blob;
pub mod error;
mod manifest;
pub(crate) mod named;

use std::fmt::Debug;

use async_trait::async_trait;

use self::{
    blob::{Blob, Layer},
    error::ImageError,
    manifest::{Manifest, Parsed},
};
use super::MAX_BYTES;
use crate::{digest::Digest, id::Id};

/// Largest index or manifest that is read, in bytes.
// Registries accept no larger ones.
const MAX_MANIFEST: u64 = 4 << 20;
/// Largest number of nested indexes above a manifest.
// Bounds the requests for an untrusted image.
const MAX_DEPTH: usize = 4;

/// The images of one containerd in one of its namespaces. All calls have a timeout.
#[async_trait]
pub trait Images: Debug + Send + Sync + 'static {
    /// Name of the image of a container.
    async fn of_container(&self, container: &Id) -> Result<String, ImageError>;

    /// The blob that the name of an image refers to: an index or a manifest.
    async fn target(&self, image: &str) -> Result<Blob, ImageError>;

    /// The bytes of a blob, at most its declared length. The caller verifies the digest.
    async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError>;

    /// All images: their names and what these refer to.
    async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError>;
}

/// All wasm layers of an image in their order; at least one.
async fn layers(images: &dyn Images, image: &str) -> Result<Vec<Layer>, ImageError> {
    manifest::wasm(image, all_layers(images, image).await?)
}

/// All layers of an image in their order, wasm or not.
pub async fn all_layers(images: &dyn Images, image: &str) -> Result<Vec<Layer>, ImageError> {
    Ok(resolve(images, image).await?.layers)
}

/// The manifest of an image.
async fn resolve(images: &dyn Images, image: &str) -> Result<Manifest, ImageError> {
    let target = images.target(image).await?;
    resolve_at(images, image, target).await
}

/// The manifest of an image whose name refers to `blob`.
async fn resolve_at(
    images: &dyn Images,
    image: &str,
    mut blob: Blob,
) -> Result<Manifest, ImageError> {
    // One more than MAX_DEPTH: below the last index is the manifest.
    for _ in 0..=MAX_DEPTH {
        match manifest::parse(image, &blob, &checked(images, &blob, MAX_MANIFEST).await?)? {
            Parsed::Manifest(manifest) => return Ok(manifest),
            Parsed::Next(next) => blob = next,
        }
    }
    Err(ImageError::Malformed {
        digest: blob.digest,
        reason: format!("more than {MAX_DEPTH} indexes in each other"),
    })
}

/// The bytes of a layer, with a verified digest.
pub async fn verified_bytes(images: &dyn Images, layer: &Layer) -> Result<Vec<u8>, ImageError> {
    checked(images, &layer.blob, MAX_BYTES).await
}

/// The bytes of a layer. The caller verifies the digest.
pub(super) async fn read(images: &dyn Images, layer: &Layer) -> Result<Vec<u8>, ImageError> {
    bounded(images, &layer.blob, MAX_BYTES).await
}

/// The only layer under any name; among several the layer with this title, else the layer with this
/// name as the last part of its title.
fn choose(mut layers: Vec<Layer>, image: &str, name: &str) -> Result<Layer, ImageError> {
    if layers.len() == 1
        && let Some(only) = layers.pop()
    {
        return Ok(only);
    }
    // `args[0]` is often an absolute path, while build tools write relative titles.
    let wanted = name.trim_start_matches('/');
    let titled = |layer: &Layer, same: fn(&str, &str) -> bool| {
        layer.title.as_deref().is_some_and(|title| same(title.trim_start_matches('/'), wanted))
    };
    // Whole titles first: they stay selectable if another title ends with the same name.
    for same in [whole as fn(&str, &str) -> bool, last_part] {
        let mut meant = layers.iter().filter(|layer| titled(layer, same));
        match (meant.next(), meant.next()) {
            (Some(one), None) => return Ok(one.clone()),
            (Some(_), Some(_)) => {
                return Err(ImageError::Ambiguous {
                    image: image.to_owned(),
                    name: name.to_owned(),
                });
            }
            (None, _) => {}
        }
    }
    let there = layers
        .iter()
        .map(|layer| layer.title.clone().unwrap_or_else(|| layer.blob.digest.to_string()));
    Err(ImageError::NoSuchLayer {
        image: image.to_owned(),
        name: name.to_owned(),
        there: there.collect(),
    })
}

fn whole(title: &str, wanted: &str) -> bool {
    title == wanted
}

fn last_part(title: &str, wanted: &str) -> bool {
    title.rsplit('/').next() == Some(wanted)
}

/// Reads a blob and verifies its digest.
async fn checked(images: &dyn Images, blob: &Blob, limit: u64) -> Result<Vec<u8>, ImageError> {
    let bytes = bounded(images, blob, limit).await?;
    // Computed on the calling thread: for small blobs, and for callers without other work.
    blob.check(&Digest::of(&bytes))?;
    Ok(bytes)
}

async fn bounded(images: &dyn Images, blob: &Blob, limit: u64) -> Result<Vec<u8>, ImageError> {
    // Before the read, which allocates the declared length.
    if blob.bytes > limit {
        return Err(ImageError::TooLarge { digest: blob.digest, bytes: blob.bytes, limit });
    }
    images.read(blob).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(title: Option<&str>) -> Layer {
        let digest = Digest::of(title.unwrap_or_default().as_bytes());
        let blob = Blob { media_type: "application/wasm".into(), digest, bytes: 0 };
        Layer { image: "example/i:1".into(), title: title.map(str::to_owned), blob }
    }

    fn chosen(titles: &[Option<&str>], name: &str) -> Result<Option<String>, String> {
        let layers = titles.iter().copied().map(layer).collect();
        choose(layers, "example/i:1", name)
            .map(|layer| layer.title)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn single_layer_is_chosen_under_any_name() {
        assert_eq!(chosen(&[Some("a.wasm")], "/other"), Ok(Some("a.wasm".into())));
        assert_eq!(chosen(&[None], "/other"), Ok(None));
    }

    #[test]
    fn layer_is_chosen_by_name_among_several() {
        let several = [Some("a.wasm"), Some("/lib/b.wasm"), Some("b.wasm"), None];
        for (name, title) in [
            ("/a.wasm", "a.wasm"),
            ("a.wasm", "a.wasm"),
            ("/b.wasm", "b.wasm"),
            ("/lib/b.wasm", "/lib/b.wasm"),
            ("lib/b.wasm", "/lib/b.wasm"),
        ] {
            assert_eq!(chosen(&several, name), Ok(Some(title.into())), "{name}");
        }
        assert_eq!(
            chosen(&[Some("bin/c.wasm"), Some("a")], "/c.wasm"),
            Ok(Some("bin/c.wasm".into()))
        );
    }

    #[test]
    fn unknown_and_ambiguous_layer_names_are_errors() {
        let error = chosen(&[Some("a.wasm"), Some("b.wasm")], "/c.wasm").unwrap_err();
        for part in ["example/i:1", "/c.wasm", "a.wasm, b.wasm"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(chosen(&[Some("a"), Some("b")], "").is_err());
        let error = chosen(&[Some("x/a"), Some("y/a")], "/a").unwrap_err();
        assert!(error.contains("more than one"), "{error}");
    }

    /// Blobs of one image; the first one is the target.
    #[derive(Debug)]
    struct Store(Vec<(Blob, Vec<u8>)>);

    #[async_trait]
    impl Images for Store {
        async fn of_container(&self, _container: &Id) -> Result<String, ImageError> {
            Ok("example/i:1".into())
        }

        async fn target(&self, _image: &str) -> Result<Blob, ImageError> {
            Ok(self.0[0].0.clone())
        }

        async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
            let found = self.0.iter().find(|(known, _)| known.digest == blob.digest);
            found.map(|(_, bytes)| bytes.clone()).ok_or(ImageError::Missing { digest: blob.digest })
        }

        async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
            Ok(Vec::new())
        }
    }

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn blob(media_type: &str, bytes: &[u8]) -> Blob {
        Blob { media_type: media_type.into(), digest: Digest::of(bytes), bytes: bytes.len() as u64 }
    }

    fn index_of(blob: &Blob) -> String {
        let Blob { media_type, digest, bytes } = blob;
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{media_type}","digest":"{digest}","size":{bytes}}}]}}"#
        )
    }

    #[tokio::test]
    async fn errors_of_damaged_missing_and_oversized_manifests_name_the_digest() {
        let right = blob("application/vnd.oci.image.manifest.v1+json", b"{}");
        let oversized = Blob { bytes: MAX_MANIFEST + 1, ..right.clone() };
        let cases = [
            (Store(vec![(right.clone(), b"{ }".to_vec())]), "damaged"),
            (Store(vec![(oversized, Vec::new())]), "4194305 bytes"),
            (Store(vec![(right.clone(), b"{}".to_vec())]), "missing field"),
        ];
        for (store, reason) in cases {
            let error = layers(&store, "example/i:1").await.unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&right.digest.to_string()), "{error}");
        }
        let index = index_of(&right).into_bytes();
        let store = Store(vec![(blob(INDEX, &index), index)]);
        let error = layers(&store, "example/i:1").await.unwrap_err();
        assert!(
            matches!(&error, ImageError::Missing { digest } if *digest == right.digest),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_oversized_layer_is_not_read() {
        let mut huge = layer(Some("a.wasm"));
        huge.blob.bytes = MAX_BYTES + 1;
        // The store is empty: a read would return another error.
        let error = read(&Store(Vec::new()), &huge).await.unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit: MAX_BYTES, .. }), "{error}");
    }

    #[tokio::test]
    async fn depth_of_nested_indexes_is_limited() {
        let mut blobs = Vec::new();
        let mut inner = blob("application/vnd.oci.image.manifest.v1+json", b"{}");
        for _ in 0..=MAX_DEPTH {
            let index = index_of(&inner).into_bytes();
            inner = blob(INDEX, &index);
            blobs.insert(0, (inner.clone(), index));
        }
        let error = layers(&Store(blobs), "example/i:1").await.unwrap_err().to_string();
        assert!(error.contains("indexes in each other"), "{error}");
    }
}
