#!/usr/bin/env bash
# Behaviour: a layer that has a file and after it a whiteout of that name is unpacked without the
#   file by containerd and buildah, without an error; umoci keeps it. Where the whiteout comes first
#   all three keep it.
# Versions: Debian containerd 1.6.20~ds1-1+deb12u3, buildah 1.28.2+ds1-3+deb12u1+b3 and umoci
#   0.4.7+ds-3+b7 (bookworm).
# Expected: all keep it: by the OCI image-spec (layer.md, Whiteouts) a whiteout is for the lower
#   layers only, and a file of its own layer can only be hidden by a later layer.
# Seen: umoci: after before; containerd: before; buildah: before
# Here: one image has other files, in one case without the guest's module, by who unpacks it.
set -euo pipefail
dir=$(mktemp -d)
pid=
finish() {
    if [[ -n $pid ]]; then kill "$pid" && wait "$pid"; fi 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containerd='1.6.20~ds1-1+deb12u3' \
    buildah=1.28.2+ds1-3+deb12u1+b3 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 \
    libassuan0=2.5.5-5 libdevmapper1.02.1=2:1.02.185-2
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu

# A layout with one image of two layers: the second replaces and removes what the first has.
cat >make.py <<'PY'
import hashlib, io, json, os, tarfile

BLOBS = "layout/blobs/sha256"
TYPE = "application/vnd.oci.image.%s.v1+"


def blob(data, type):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{BLOBS}/{digest}", "wb").write(data)
    return {"mediaType": type, "digest": "sha256:" + digest, "size": len(data)}


def document(content, type):
    return blob(json.dumps(content).encode(), TYPE % type + "json")


def layer(*names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return blob(out.getvalue(), "application/vnd.oci.image.layer.v1.tar")


os.makedirs(BLOBS)
layers = [
    layer("after", "before", "gone"),
    layer("after", ".wh.after", ".wh.before", "before", ".wh.gone"),
]
rootfs = {"type": "layers", "diff_ids": [each["digest"] for each in layers]}
configuration = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
image = document({
    "schemaVersion": 2, "mediaType": TYPE % "manifest" + "json",
    "config": document(configuration, "config"), "layers": layers,
}, "manifest")
image["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
json.dump({"schemaVersion": 2, "manifests": [image]}, open("layout/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open("layout/oci-layout", "w"))
PY
python3 make.py

debian/usr/bin/umoci unpack --image layout:v1 bundle
of_umoci=$(cd bundle/rootfs && echo *)

# The snapshot that has a parent is the one of both layers.
cat >containerd.toml <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$dir/containerd.sock"
[ttrpc]
address = "$dir/ttrpc.sock"
# Nothing refers to the view below, which the garbage collector may remove before it is read.
[plugins."io.containerd.gc.v1.scheduler"]
mutation_threshold = 1000
schedule_delay = "1h"
startup_delay = "1h"
TOML
ctr=(debian/usr/bin/ctr --address "$dir/containerd.sock")
debian/usr/bin/containerd --config containerd.toml >log 2>&1 &
pid=$!
for _ in {1..100}; do
    if "${ctr[@]}" version >/dev/null 2>&1; then break; fi
    sleep 0.1
done
tar -C layout -cf layout.tar .
"${ctr[@]}" image import --snapshotter native --base-name local layout.tar >/dev/null
snapshots=("${ctr[@]}" snapshot --snapshotter native)
key=$("${snapshots[@]}" list | awk '$3 == "Committed" { print $1 }')
of_containerd=$("${snapshots[@]}" view seen "$key" >/dev/null
    source=$("${snapshots[@]}" mounts /mnt seen | awk '{ print $4 }')
    cd "$source" && echo *)

# It would leave a cache in /var/lib, which therefore is one of its own.
echo '{ "default": [ { "type": "insecureAcceptAnything" } ] }' >policy.json
cat >unpack.sh <<'SH'
set -eu
mount -t tmpfs tmpfs /var/lib
buildah() { "$dir/debian/usr/bin/buildah" --storage-driver vfs \
    --root "$dir/storage" --runroot "$dir/runroot" "$@"; }
container=$(buildah from --quiet --signature-policy policy.json --cni-config-dir "$dir/cni" \
    oci:layout:v1)
root=$(buildah mount "$container")
cd "$root"
echo *
SH
of_buildah=$(dir=$dir LD_LIBRARY_PATH=$libraries unshare --mount bash unpack.sh 2>errors) ||
    changed "buildah refuses it: $(cat errors)"

printf '%s\n' "umoci: $of_umoci" "containerd: $of_containerd" "buildah: $of_buildah"
[[ $of_umoci == 'after before' ]] || changed "umoci unpacks other files"
[[ $of_containerd == before ]] || changed "containerd unpacks other files"
[[ $of_buildah == before ]] || changed "buildah unpacks other files"
