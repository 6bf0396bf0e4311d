#!/usr/bin/env bash
# Behaviour: `umoci gc` deletes the configuration and the layers of every image in a layout whose
#   manifest has Docker's media type: it does not look into such a manifest. The manifest and its
#   name stay.
# Versions: Debian umoci 0.4.7+ds-3+b7, containerd 1.6.20~ds1-1+deb12u3 (bookworm).
# Expected: what a named manifest refers to is in use. The image specification lets a layout have
#   manifests of other types, and `ctr images export` writes this one.
# Seen: exported, then cleaned: status 0, blobs of the image 3 before and 1 after
# Here: an image of Docker's build leaves the node's containerd so; after a clean-up of the layout
#   its name is still there, and its layers are not.
set -euo pipefail
dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" && wait "$pid"; done 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download umoci=0.4.7+ds-3+b7 \
    containerd='1.6.20~ds1-1+deb12u3'
for package in *.deb; do dpkg -x "$package" debian; done
cat >containerd.toml <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$dir/containerd.sock"
[ttrpc]
address = "$dir/ttrpc.sock"
TOML
debian/usr/bin/containerd --config containerd.toml >log 2>&1 &
pids+=($!)
ctr=(debian/usr/bin/ctr --address "$dir/containerd.sock")
for _ in {1..100}; do
    if "${ctr[@]}" version >/dev/null 2>&1; then break; fi
    sleep 0.1
done

# An image as `docker save` writes it.
mkdir saved layout
echo hello >hello
tar -cf saved/layer.tar hello
cat >saved/config.json <<JSON
{ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers",
  "diff_ids": ["sha256:$(sha256sum <saved/layer.tar | cut -d ' ' -f 1)"] } }
JSON
cat >saved/manifest.json <<'JSON'
[{ "Config": "config.json", "RepoTags": ["docker.io/local/hello:v1"], "Layers": ["layer.tar"] }]
JSON
tar -C saved -cf saved.tar .
"${ctr[@]}" image import --no-unpack --all-platforms saved.tar >/dev/null
"${ctr[@]}" image export --all-platforms layout.tar docker.io/local/hello:v1
tar -C layout -xf layout.tar
type=$(python3 -c 'import json
print(json.load(open("layout/index.json"))["manifests"][0]["mediaType"])')
before=$(find layout/blobs -type f | wc -l)
debian/usr/bin/umoci gc --layout layout || changed "umoci gc fails"
after=$(find layout/blobs -type f | wc -l)
echo "$type: $before blobs before, $after after"
[[ $type == application/vnd.docker.distribution.manifest.v2+json ]] || changed "another type"
[[ $before == 3 && $after == 1 ]] || changed "other blobs are left"
