#!/usr/bin/env bash
# Behaviour: oci-client, which Spin, wasmCloud and wkg pull by, drops the `subject` of an index, and of
#   descriptors `data` and `urls`: what it has pulled and pushes again has another digest, and belongs
#   to no image. An index without a media type it pushes as Docker's list of manifests.
# Versions: Rust crate oci-client 0.18.0 (its types alone), serde_json 1.0.154.
# Expected: OCI image-spec 1.1, Image Index, subject: a "descriptor of another manifest", by which an
#   index is found as a referrer of an image; mediaType: "when used" it is that of an OCI index, so that
#   one without it is none of Docker's; Descriptors, data: "an embedded representation" of the content.
# Seen: of subject, manifests[0].data and manifests[0].urls nothing is written; content_type() of an
#   index with schemaVersion 2 and manifests: application/vnd.docker.distribution.manifest.list.v2+json
# Here: signatures and lists of parts of a component are such indices; copied by a tool of this crate,
#   they are no longer found for the image that the shims run.
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
oci-client = { version = "=0.18.0", default-features = false, features = ["rustls-tls-no-provider"] }
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
use oci_client::manifest::OciManifest;
use serde_json::Value;

/// Prints what is in the first value and not in the second one.
fn missing(path: &str, read: &Value, written: &Value) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (name, value) in read {
                match written.get(name) {
                    Some(other) => missing(&format!("{path}.{name}"), value, other),
                    None => println!("missing: {path}.{name}"),
                }
            }
        }
        (Value::Array(read), Value::Array(written)) => {
            for (number, (value, other)) in read.iter().zip(written).enumerate() {
                missing(&format!("{path}[{number}]"), value, other);
            }
        }
        _ if read == written => (),
        _ => println!("other: {path}"),
    }
}

fn main() {
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let read: Value = serde_json::from_str(&line).unwrap();
        let manifest: OciManifest = serde_json::from_str(&line).unwrap();
        println!("{}", manifest.content_type());
        missing("index", &read, &serde_json::to_value(&manifest).unwrap());
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
# Of the text "hi".
digest=sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4
manifest='"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"'$digest'","size":2'
target/debug/index <<INDICES | tee seen
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"text/plain","manifests":[{$manifest,"data":"aGk=","urls":["http://127.0.0.1/hi"],"annotations":{"a":"b"}}],"subject":{$manifest},"annotations":{"c":"d"}}
{"schemaVersion":2,"manifests":[{$manifest}]}
INDICES
cmp seen - <<'SEEN' || changed "it writes other things"
application/vnd.oci.image.index.v1+json
missing: index.manifests[0].data
missing: index.manifests[0].urls
missing: index.subject
application/vnd.docker.distribution.manifest.list.v2+json
SEEN
