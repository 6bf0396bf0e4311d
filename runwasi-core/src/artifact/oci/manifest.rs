//! Parsing of OCI indexes and manifests: selects the manifest of an index, and the wasm layers of a
//! manifest.

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, Os, Platform};

use super::{
    blob::{Blob, Layer},
    error::ImageError,
};
use crate::digest::Digest;

/// Media types of wasm layers: the CNCF's artifact layout, its predecessor, and the layout of the
/// first component registries.
const WASM: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
const TITLE: &str = "org.opencontainers.image.title";

// Docker's older types have the same fields that are read here.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The parts of a manifest that are used.
pub(super) struct Manifest {
    /// Its config. Absent if its digest cannot be verified.
    pub(super) config: Option<Blob>,
    /// Its layers, wasm or not.
    pub(super) layers: Vec<Layer>,
}

/// Content of a parsed blob.
pub(super) enum Parsed {
    /// A manifest.
    Manifest(Manifest),
    /// An index, with the selected entry: a manifest or a further index.
    Next(Blob),
}

/// Parses an index or a manifest of `image`, according to the media type of `blob`.
pub(super) fn parse(image: &str, blob: &Blob, bytes: &[u8]) -> Result<Parsed, ImageError> {
    // The referring descriptor decides: the field `mediaType` inside a document is optional.
    let media_type = blob.media_type.as_str();
    let malformed = |reason: String| ImageError::Malformed { digest: blob.digest, reason };
    if INDEXES.contains(&media_type) {
        let index: ImageIndex =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        return pick(image, index.manifests()).and_then(self::blob).map(Parsed::Next);
    }
    if MANIFESTS.contains(&media_type) {
        let manifest: ImageManifest =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let layers = layers(image, &manifest)?;
        // Not an error: only pods need it.
        let config = self::blob(manifest.config()).ok();
        return Ok(Parsed::Manifest(Manifest { config, layers }));
    }
    Err(malformed(format!("its type is {media_type:?}")))
}

/// Selects a manifest: the only one, else the first for wasm, else the first for this machine.
fn pick<'a>(image: &str, manifests: &'a [Descriptor]) -> Result<&'a Descriptor, ImageError> {
    // Build tools add attestations of an image to its index, with the platform `unknown`.
    let images: Vec<_> =
        manifests.iter().filter(|one| !is_for(one, |p| *p.architecture() == unknown())).collect();
    // By the architecture alone: the `os` of a wasm image is one of several versions of WASI.
    let for_wasm =
        |one: &&&Descriptor| is_for(one, |platform| *platform.architecture() == Arch::Wasm);
    // An image with wasm layers may have been built for the platform of its builder.
    let for_host = |one: &&&Descriptor| {
        is_for(one, |platform| {
            *platform.os() == Os::Linux && *platform.architecture() == Arch::default()
        })
    };
    // A single manifest needs no platform, which many build tools leave out.
    if let [only] = images[..] {
        return Ok(only);
    }
    images.iter().find(for_wasm).or_else(|| images.iter().find(for_host)).copied().ok_or_else(
        || {
            let there = images
                .iter()
                .map(|one| one.platform().as_ref().map_or_else(|| "no platform".into(), name));
            ImageError::NoPlatform { image: image.to_owned(), there: there.collect() }
        },
    )
}

fn unknown() -> Arch {
    Arch::Other("unknown".into())
}

fn is_for(manifest: &Descriptor, platform: impl Fn(&Platform) -> bool) -> bool {
    manifest.platform().as_ref().is_some_and(platform)
}

fn name(platform: &Platform) -> String {
    format!("{}/{}", platform.os(), platform.architecture())
}

fn layers(image: &str, manifest: &ImageManifest) -> Result<Vec<Layer>, ImageError> {
    let layer = |descriptor: &Descriptor| {
        let title = descriptor.annotations().as_ref().and_then(|all| all.get(TITLE)).cloned();
        Ok(Layer { image: image.into(), title, blob: blob(descriptor)? })
    };
    manifest.layers().iter().map(layer).collect()
}

/// Filters the wasm layers of an image. An image without one is an error.
pub(super) fn wasm(image: &str, layers: Vec<Layer>) -> Result<Vec<Layer>, ImageError> {
    let is_wasm = |layer: &Layer| WASM.contains(&layer.blob.media_type.as_str());
    if layers.iter().any(is_wasm) {
        return Ok(layers.into_iter().filter(is_wasm).collect());
    }
    let layers = layers.into_iter().map(|layer| layer.blob.media_type).collect();
    Err(ImageError::NoWasm { image: image.to_owned(), layers })
}

fn blob(descriptor: &Descriptor) -> Result<Blob, ImageError> {
    // The specification allows other algorithms; `Digest` verifies SHA-256 only.
    let digest = descriptor.digest().to_string();
    let digest = Digest::parse(&digest).ok_or(ImageError::Digest { digest })?;
    Ok(Blob { media_type: descriptor.media_type().to_string(), digest, bytes: descriptor.size() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IMAGE: &str = "example/i:1";

    fn descriptor(media_type: &str, digit: char) -> Value {
        let digest = format!("sha256:{}", digit.to_string().repeat(64));
        json!({"mediaType": media_type, "digest": digest, "size": 7})
    }

    fn parsed(media_type: &str, content: &Value) -> Result<Parsed, ImageError> {
        let bytes = serde_json::to_vec(content).unwrap();
        let blob = Blob {
            media_type: media_type.into(),
            digest: Digest::of(&bytes),
            bytes: bytes.len() as u64,
        };
        parse(IMAGE, &blob, &bytes)
    }

    /// Digit of the manifest that is selected from an index with these platforms, each
    /// `OS/ARCHITECTURE` or empty.
    fn picked(platforms: &[&str]) -> Result<char, String> {
        let manifest = |(platform, digit): (&&str, char)| {
            let mut manifest = descriptor(MANIFESTS[0], digit);
            if let Some((os, architecture)) = platform.split_once('/') {
                manifest["platform"] = json!({"os": os, "architecture": architecture});
            }
            manifest
        };
        let manifests: Vec<_> = platforms.iter().zip('0'..='9').map(manifest).collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        match parsed(INDEXES[0], &index) {
            Ok(Parsed::Next(blob)) => Ok(blob.digest.hex().chars().next().unwrap()),
            Ok(Parsed::Manifest(_)) => panic!("an index is no manifest"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn wasm_manifest_precedes_host_manifest_and_a_single_one_needs_no_platform() {
        let host = format!("linux/{}", Arch::default());
        assert_eq!(picked(&["linux/s390x", &host, "wasip1/wasm"]), Ok('2'));
        assert_eq!(picked(&["wasi/wasm", "wasip2/wasm"]), Ok('0'));
        assert_eq!(picked(&["linux/s390x", &host]), Ok('1'));
        assert_eq!(picked(&["linux/s390x"]), Ok('0'));
        assert_eq!(picked(&[""]), Ok('0'));
        assert_eq!(
            picked(&["unknown/unknown", "linux/s390x"]),
            Ok('1'),
            "an attestation is no image"
        );
        let error = picked(&["linux/s390x", "windows/wasm64"]).unwrap_err();
        assert!(error.contains("linux/s390x, windows/wasm64"), "{error}");
        assert!(picked(&[]).unwrap_err().contains("nothing"));
    }

    fn manifest(layers: &[Value]) -> Value {
        let config = descriptor("application/vnd.wasm.config.v0+json", 'c');
        json!({"schemaVersion": 2, "config": config, "layers": layers})
    }

    fn wasm_of(media_type: &str, layers: &[Value]) -> Result<Vec<Layer>, ImageError> {
        match parsed(media_type, &manifest(layers))? {
            Parsed::Manifest(found) => wasm(IMAGE, found.layers),
            Parsed::Next(_) => panic!("a manifest is no index"),
        }
    }

    #[test]
    fn each_wasm_media_type_is_recognized_among_others() {
        let mut layers = vec![descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 'f')];
        layers.extend(
            WASM.iter().zip('0'..='9').map(|(media_type, digit)| descriptor(media_type, digit)),
        );
        layers[1]["annotations"] = json!({TITLE: "a.wasm"});
        let found = wasm_of(MANIFESTS[1], &layers).unwrap();
        let types: Vec<_> = found.iter().map(|layer| layer.blob.media_type.as_str()).collect();
        assert_eq!(types, WASM);
        assert_eq!(found[0].name(), "example/i:1/a.wasm");
        assert_eq!(found[1].name(), format!("example/i:1/sha256:{}", "1".repeat(64)));
        assert_eq!(found[1].blob.bytes, 7);
    }

    #[test]
    fn name_of_a_layer_is_short_also_with_a_title_of_megabytes() {
        let mut layer = descriptor(WASM[0], '0');
        let title = format!("{}.wasm", "a".repeat(2 << 20));
        layer["annotations"] = json!({TITLE: title});
        let found = wasm_of(MANIFESTS[0], &[layer]).unwrap();
        let name = found[0].name();
        assert!(name.len() < 5000, "{}", name.len());
        assert!(name.starts_with("example/i:1/aaa") && name.ends_with("a.wasm"));
        // The layer is still selected by its whole title.
        assert_eq!(found[0].title.as_ref(), Some(&title));
    }

    #[test]
    fn error_for_an_image_without_wasm_lists_its_layer_types() {
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let error = wasm_of(MANIFESTS[0], &[descriptor(tar, '0')]).unwrap_err().to_string();
        assert!(error.contains(IMAGE) && error.contains(tar), "{error}");
    }

    #[test]
    fn other_types_and_other_digests_are_refused() {
        let error = parsed("text/plain", &json!({})).err().unwrap().to_string();
        assert!(error.contains("text/plain"), "{error}");
        let mut layer = descriptor(WASM[0], '0');
        layer["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        let error = parsed(MANIFESTS[0], &manifest(&[layer])).err().unwrap().to_string();
        assert!(error.contains("sha512"), "{error}");
    }
}
