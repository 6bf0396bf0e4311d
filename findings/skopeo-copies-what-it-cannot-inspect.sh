#!/usr/bin/env bash
# Behaviour: skopeo copies a wasm artifact and shows its manifest with `--raw`, but `inspect` fails
#   for it, `inspect --config` as well, though the config is JSON like any other. It is the config's
#   media type that decides: the same layer under an image's config is inspected.
# Version: Debian skopeo 1.9.3+ds1-1+b10 (bookworm), with its libgpgme11 1.18.0-3+deb12u1.
# Expected: what can be copied can be looked at; `--config` prints the config.
# Seen: unsupported image-specific operation on artifact with type
#   "application/vnd.wasm.config.v0+json"
# Here: the CNCF's format for wasm has this config type; scripts that look into such images must use
#   `--raw`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download skopeo=1.9.3+ds1-1+b10 \
    libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 libdevmapper1.02.1=2:1.02.185-2
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu
# It would leave a cache in /var/lib, which therefore is one of its own.
skopeo=(unshare --mount sh -c 'mount -t tmpfs tmpfs /var/lib && exec "$@"' sh
    env "LD_LIBRARY_PATH=$libraries" debian/usr/bin/skopeo --insecure-policy)

python3 - <<'PY'
import hashlib, json, os

os.makedirs("layout/blobs/sha256")


def put(content):
    digest = hashlib.sha256(content).hexdigest()
    with open("layout/blobs/sha256/" + digest, "wb") as file:
        file.write(content)
    return {"digest": "sha256:" + digest, "size": len(content)}


layer = put(b"\0asm\1\0\0\0")
platform = {"architecture": "wasm", "os": "wasip1"}
image = {"rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
artifact = {"layerDigests": [layer["digest"]]}
manifests = []
for name, config, media_type in (
    ("image", platform | image, "application/vnd.oci.image.config.v1+json"),
    ("artifact", platform | artifact, "application/vnd.wasm.config.v0+json"),
):
    kind = {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifest = {
        "schemaVersion": 2,
        **kind,
        "config": {"mediaType": media_type, **put(json.dumps(config).encode())},
        "layers": [{"mediaType": "application/wasm", **layer}],
    }
    reference = {"annotations": {"org.opencontainers.image.ref.name": name}}
    manifests.append(kind | put(json.dumps(manifest).encode()) | reference)
with open("layout/index.json", "w") as file:
    json.dump({"schemaVersion": 2, "manifests": manifests}, file)
with open("layout/oci-layout", "w") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
PY

for name in image artifact; do
    "${skopeo[@]}" copy -q "oci:layout:$name" "dir:copy-$name" || changed "$name cannot be copied"
    "${skopeo[@]}" inspect --raw "oci:layout:$name" >/dev/null || changed "no raw $name"
done
"${skopeo[@]}" inspect oci:layout:image >/dev/null || changed "the image cannot be inspected"
for flag in --no-tags=true --config; do
    if said=$("${skopeo[@]}" inspect "$flag" oci:layout:artifact 2>&1); then
        changed "the artifact can be inspected: $said"
    fi
    [[ $said == *'unsupported image-specific operation on artifact'* ]] || changed "it says: $said"
done
echo "copy, inspect --raw: both; inspect: the image only"
grep -o 'unsupported.*' <<<"$said"
