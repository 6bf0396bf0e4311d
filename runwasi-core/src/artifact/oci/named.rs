//! The layer of a container, and its image when the CRI has mixed up two.
//!
//! The CRI knows images by the digest of their config. Two wasm artifacts with equal configs (`{}`,
//! or a standard config without `diff_ids`) are one image to it, with the names of both, and the
//! record of a container has the first of these names. The name that the pod was given is in an
//! annotation. So
//!
//! - if the annotation names another image than the record, that image is taken, by its manifest;
//! - if it does not tell and another image has the same config with other layers, the container is
//!   refused.

use std::collections::HashSet;

use super::{
    Images, blob::Layer, checked, choose, error::ImageError, layers, manifest::Manifest, resolve,
    resolve_at,
};
use crate::{digest::Digest, id::Id};

/// Annotation of the CRI: the image as the pod names it, or the name in the record of the
/// container.
pub(crate) const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";

/// Largest config that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// The layer of a container's image that `name` selects. `named` is the image's name in the
/// annotation of the CRI.
pub(crate) async fn find_layer(
    images: &dyn Images,
    container: &Id,
    named: Option<&str>,
    name: &str,
) -> Result<Layer, ImageError> {
    let recorded = images.of_container(container).await?;
    let image = match named {
        Some(named) => image(images, recorded, named).await?,
        None => recorded,
    };
    choose(layers(images, &image).await?, &image, name)
}

/// The name of the image to run for a container whose record has the name `recorded` and whose
/// annotation has the name `named`.
pub(super) async fn image(
    images: &dyn Images,
    recorded: String,
    named: &str,
) -> Result<String, ImageError> {
    let full = full_name(named);
    if full != recorded {
        match images.target(&full).await {
            Ok(target) if target.digest == images.target(&recorded).await?.digest => {
                return Ok(recorded);
            }
            Ok(_) => {
                tracing::warn!(
                    image = full,
                    recorded,
                    "the record of a container has another image of the same config"
                );
                return Ok(full);
            }
            // A digest of a config, or a name that was removed since.
            Err(ImageError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if full == recorded && named != recorded {
        // A short name, as only the pod has it.
        return Ok(recorded);
    }
    refuse_twins(images, &recorded).await?;
    Ok(recorded)
}

/// Refuses an image if another one has the same config and other layers.
async fn refuse_twins(images: &dyn Images, recorded: &str) -> Result<(), ImageError> {
    let own = resolve(images, recorded).await?;
    // Without a config the CRI has no id for it.
    let Some(config) = &own.config else { return Ok(()) };
    let bytes = checked(images, config, MAX_CONFIG).await?;
    if depends_on_content(&bytes, &own) {
        return Ok(());
    }
    // Most images have several names. Each image is read once.
    let mut seen = HashSet::from([images.target(recorded).await?.digest]);
    for (name, other) in images.all().await? {
        if !seen.insert(other.digest) {
            continue;
        }
        // An error: that image is incomplete, and no container of it can have run.
        let Ok(manifest) = resolve_at(images, &name, other).await else { continue };
        let same_config = manifest.config.is_some_and(|other| other.digest == config.digest);
        if same_config && !digests(&manifest.layers).eq(digests(&own.layers)) {
            let image = recorded.to_owned();
            return Err(ImageError::SameConfig { image, other: name, config: config.digest });
        }
    }
    Ok(())
}

fn digests(layers: &[Layer]) -> impl Iterator<Item = &Digest> {
    layers.iter().map(|layer| &layer.blob.digest)
}

/// True if a config has the digest of a layer, under whatever key.
// The config is walked once for all layers: their number and its length are the image's.
fn depends_on_content(config: &[u8], manifest: &Manifest) -> bool {
    let layers: HashSet<_> = digests(&manifest.layers).map(Digest::hex).collect();
    config
        .split(|byte| !byte.is_ascii_hexdigit())
        .filter(|digits| digits.len() == DIGITS)
        .any(|digits| str::from_utf8(digits).is_ok_and(|digits| layers.contains(digits)))
}

/// The full name of an image, as the CRI stores it: with registry, and with a tag or a digest.
fn full_name(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    // As Docker has it: a registry has a dot or a port in its name.
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let with_registry = match (is_registry, first) {
        (true, _) => name.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{name}"),
    };
    let tag_at = |name: &str| name.rfind(':').filter(|at| !name[*at..].contains('/'));
    match with_registry.split_once('@') {
        // The CRI stores an image that is pulled by its digest without the tag.
        Some((name, digest)) => {
            let name = tag_at(name).map_or(name, |at| &name[..at]);
            format!("{name}@{digest}")
        }
        None if tag_at(&with_registry).is_some() => with_registry,
        None => format!("{with_registry}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::artifact::oci::Blob;

    /// Images by name, each with a manifest, and blobs.
    #[derive(Debug, Default)]
    struct Store {
        images: Vec<(String, Blob)>,
        blobs: Vec<Vec<u8>>,
        reads: AtomicUsize,
    }

    impl Store {
        fn put(mut self, name: &str, config: &str, layer: &str) -> Self {
            let descriptor = |kind: &str, bytes: &str| {
                let digest = Digest::of(bytes.as_bytes()).to_string();
                json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
            };
            let manifest = json!({
                "schemaVersion": 2,
                "config": descriptor("application/vnd.oci.empty.v1+json", config),
                "layers": [descriptor("application/wasm", layer)],
            });
            let manifest = manifest.to_string();
            let target = Blob {
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                digest: Digest::of(manifest.as_bytes()),
                bytes: manifest.len() as u64,
            };
            self.images.push((name.into(), target));
            self.blobs.extend([config, layer, &manifest].map(|text| text.as_bytes().to_vec()));
            self
        }
    }

    #[async_trait]
    impl Images for Store {
        async fn of_container(&self, _: &Id) -> Result<String, ImageError> {
            Ok(self.images[0].0.clone())
        }

        async fn target(&self, image: &str) -> Result<Blob, ImageError> {
            let found = self.images.iter().find(|(name, _)| name == image);
            let unknown = || ImageError::Unknown { image: image.into() };
            Ok(found.ok_or_else(unknown)?.1.clone())
        }

        async fn read(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let found = self.blobs.iter().find(|bytes| Digest::of(bytes) == blob.digest);
            found.cloned().ok_or(ImageError::Missing { digest: blob.digest })
        }

        async fn all(&self) -> Result<Vec<(String, Blob)>, ImageError> {
            Ok(self.images.clone())
        }
    }

    const A: &str = "docker.io/library/a:latest";
    const B: &str = "docker.io/library/b:latest";

    #[tokio::test]
    async fn image_that_the_pod_names_is_taken() {
        let store = Store::default().put(A, "{}", "a").put(B, "{}", "b");
        for name in [B, "b", "b:latest", "library/b"] {
            assert_eq!(image(&store, A.into(), name).await.as_deref(), Ok(B), "{name}");
        }
        assert_eq!(image(&store, A.into(), "a").await.as_deref(), Ok(A));
    }

    #[tokio::test]
    async fn two_images_of_one_config_are_refused_with_both_names() {
        let store = Store::default().put(A, "{}", "a").put(B, "{}", "b");
        for name in [A, "removed", "sha256:44136fa355b3"] {
            let error = image(&store, A.into(), name).await.unwrap_err().to_string();
            assert!(error.contains(A) && error.contains(B), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn images_with_configs_or_layers_of_their_own_run() {
        let digest = Digest::of(b"a").to_string();
        let own = format!(r#"{{"layerDigests":["{digest}"]}}"#);
        for store in [
            Store::default().put(A, "{}", "a"),
            Store::default().put(A, "{}", "a").put(B, "{ }", "b"),
            Store::default().put(A, "{}", "a").put(B, "{}", "a"),
            Store::default().put(A, &own, "a").put(B, "{}", "b"),
        ] {
            assert_eq!(image(&store, A.into(), A).await.as_deref(), Ok(A), "{store:?}");
        }
    }

    #[tokio::test]
    async fn image_with_several_names_is_read_once() {
        let mut store = Store::default().put(A, "{}", "a").put(B, "{ }", "b");
        let other = store.images[1].1.clone();
        store.images.extend((0..100).map(|n| (format!("{B}-{n}"), other.clone())));
        assert_eq!(image(&store, A.into(), A).await.as_deref(), Ok(A));
        // Manifest and config of its own, and the manifest of the other image.
        assert_eq!(store.reads.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn large_config_is_compared_with_many_layers_at_once() {
        let layer = |number: usize| {
            let digest = Digest::of(&number.to_le_bytes());
            let blob = Blob { media_type: "application/wasm".into(), digest, bytes: 1 };
            Layer { image: A.into(), title: None, blob }
        };
        let layers: Vec<_> = (0..20_000).map(layer).collect();
        let manifest = Manifest { config: None, layers };
        let mut config = Digest::of(b"other").to_string().repeat(4 << 20 >> 6).into_bytes();
        let begun = Instant::now();
        assert!(!depends_on_content(&config, &manifest));
        let last = Digest::of(&19_999usize.to_le_bytes());
        config.extend(format!(r#""{}""#, last.hex()).bytes());
        assert!(depends_on_content(&config, &manifest));
        // A search for each layer takes minutes.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn full_names_are_those_of_the_cri() {
        for (name, full) in [
            ("a", A),
            ("user/a:1", "docker.io/user/a:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("ghcr.io/x/a:1@sha256:00", "ghcr.io/x/a@sha256:00"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}
