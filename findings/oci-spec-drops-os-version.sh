#!/usr/bin/env bash
# Behaviour: the oci-spec crate does not read `os.version` and `os.features` of a descriptor's
#   platform, and writes them as `os_version` and `os_features`; in an image's configuration it has
#   both right.
# Version: Rust crate oci-spec 0.10.0.
# Expected: the image specification's names (image index, `platform`), and an index that is read and
#   written again is the same.
# Seen: read and written: {"architecture":"amd64","os":"windows"}; built and written:
#   {"architecture":"amd64","os":"windows","os_version":"10.0.20348.1"}
# Here: the project chooses a manifest of an index by this crate, and cannot tell apart two that
#   differ in these fields alone.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "index"
version = "0.0.0"
edition = "2021"

[dependencies]
oci-spec = { version = "=0.10.0", default-features = false, features = ["image"] }
serde_json = "1"
TOML
cat >app/src/main.rs <<'RS'
use oci_spec::image::{ImageConfiguration, ImageIndex, Platform, PlatformBuilder};

const INDEX: &str = r#"{ "schemaVersion": 2, "manifests": [ {
    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "platform": { "architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1",
        "os.features": ["win32k"] } } ] }"#;
const CONFIGURATION: &str = r#"{ "architecture": "amd64", "os": "windows",
    "os.version": "10.0.20348.1", "rootfs": { "type": "layers", "diff_ids": [] } }"#;

fn main() {
    let index: ImageIndex = serde_json::from_str(INDEX).expect("an index");
    let read = index.manifests()[0].platform().as_ref().expect("a platform");
    println!("read: {:?} {:?}", read.os_version(), read.os_features());
    println!("read and written: {}", written(read));
    let built = PlatformBuilder::default()
        .architecture("amd64")
        .os("windows")
        .os_version("10.0.20348.1")
        .build()
        .expect("a platform");
    println!("built and written: {}", written(&built));
    let configuration: ImageConfiguration =
        serde_json::from_str(CONFIGURATION).expect("a configuration");
    println!("of a configuration: {:?}", configuration.os_version());
}

fn written(platform: &Platform) -> String {
    serde_json::to_string(platform).expect("JSON")
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
said=$(target/debug/index)
echo "$said"
wanted=$(
    cat <<'SAID'
read: None None
read and written: {"architecture":"amd64","os":"windows"}
built and written: {"architecture":"amd64","os":"windows","os_version":"10.0.20348.1"}
of a configuration: Some("10.0.20348.1")
SAID
)
[[ $said == "$wanted" ]] || changed "other fields"
