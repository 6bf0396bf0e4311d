#!/usr/bin/env bash
# Behaviour: buildah takes a layer of type `application/wasm` for a tar archive and fails in the
#   middle of it: the layer's media type is not looked at.
# Version: Debian buildah 1.28.2+ds1-3+deb12u1+b3 (bookworm), with its libgpgme11 1.18.0-3+deb12u1.
# Expected: an error that names the media type, as skopeo and umoci give where they cannot go on.
# Seen: "ApplyLayer stdout:  stderr: unexpected EOF exit status 1"
# Here: an image that the shims run cannot be a base image; the error suggests a broken download.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download buildah=1.28.2+ds1-3+deb12u1+b3 \
    libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 libdevmapper1.02.1=2:1.02.185-2
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu
echo '{ "default": [ { "type": "insecureAcceptAnything" } ] }' >policy.json
options=(--signature-policy policy.json --cni-config-dir "$dir/cni")
# It would leave a cache in /var/lib, which therefore is one of its own.
buildah=(unshare --mount sh -c 'mount -t tmpfs tmpfs /var/lib && exec "$@"' sh
    env "LD_LIBRARY_PATH=$libraries" debian/usr/bin/buildah --storage-driver vfs
    --root "$dir/root" --runroot "$dir/runroot")

python3 - <<'PY'
import hashlib, json, os

os.makedirs("layout/blobs/sha256")


def put(content, media_type):
    digest = hashlib.sha256(content).hexdigest()
    with open("layout/blobs/sha256/" + digest, "wb") as file:
        file.write(content)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content)}


oci = "application/vnd.oci.image."
layer = put(b"\0asm\1\0\0\0", "application/wasm")
config = {"architecture": "wasm", "os": "wasip1", "config": {}}
config["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"]]}
config = put(json.dumps(config).encode(), oci + "config.v1+json")
manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
manifest = put(json.dumps(manifest).encode(), oci + "manifest.v1+json")
manifest["annotations"] = {"org.opencontainers.image.ref.name": "wasm"}
with open("layout/index.json", "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [manifest]}, file)
with open("layout/oci-layout", "w") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
PY

if said=$("${buildah[@]}" from "${options[@]}" oci:layout:wasm 2>&1); then
    changed "buildah takes the image"
fi
grep -o 'ApplyLayer stdout.*unexpected EOF.*' <<<"$said" | sed q || changed "it says: $said"
[[ $said != *application/wasm* ]] || changed "it names the media type: $said"
