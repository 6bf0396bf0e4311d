#!/usr/bin/env bash
# Behaviour: a layout whose image is tagged `v1`, as umoci, skopeo and buildah write it, is imported
#   by `ctr` under the name `import-DATE:v1`, with today's date: containerd wants a full name where
#   the others write the tag.
# Versions: Debian umoci 0.4.7+ds-3+b7 and containerd 1.6.20~ds1-1+deb12u3 (bookworm).
# Expected: the tag as it is, or an error that asks for a name.
# Seen: "import-2026-11-28:v1"; tomorrow it is another image, and today's stays
# Here: an image for a container must carry its full name in `org.opencontainers.image.ref.name`, or
#   be imported with `--base-name`.
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

debian/usr/bin/umoci init --layout layout
debian/usr/bin/umoci new --image layout:v1
tar -C layout -cf layout.tar .
"${ctr[@]}" image import --no-unpack layout.tar >/dev/null
name=$("${ctr[@]}" image list --quiet)
echo "$name"
[[ $name =~ ^import-[0-9]{4}-[0-9]{2}-[0-9]{2}:v1$ ]] || changed "the image has another name"
"${ctr[@]}" image import --no-unpack --base-name docker.io/local/hello layout.tar >/dev/null
"${ctr[@]}" image list --quiet | grep -x docker.io/local/hello:v1 ||
    changed "--base-name is no help"
