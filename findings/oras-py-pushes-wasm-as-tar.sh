#!/usr/bin/env bash
# Behaviour: oras-py gives a pushed file the type of a tar layer, whatever it is, and an "unknown"
#   config; containerd takes the result for a machine's image, fetches it, then fails to unpack it.
# Versions: PyPI oras 0.2.43, Debian docker-registry 2.8.2+ds1-1 and containerd
#   1.6.20~ds1-1+deb12u3 (bookworm).
# Expected: a type that claims nothing (`application/octet-stream`), or one by the file's name.
# Seen: application/vnd.oci.image.layer.v1.tar for hello.wasm; "mismatched image rootfs and manifest
#   layers"
# Here: a wasm artifact is pushed as `hello.wasm:application/wasm`, with a config of its own type.
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
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py oras==0.2.43
apt-get -qq -o APT::Sandbox::User=root download docker-registry=2.8.2+ds1-1 \
    containerd='1.6.20~ds1-1+deb12u3'
for package in *.deb; do dpkg -x "$package" debian; done

port=$(python3 -c 'import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
cat >registry.yml <<YAML
version: 0.1
storage: { filesystem: { rootdirectory: $dir/registry } }
http: { addr: "127.0.0.1:$port" }
YAML
debian/usr/bin/docker-registry serve registry.yml >registry.log 2>&1 &
pids+=($!)
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
debian/usr/bin/containerd --config containerd.toml >containerd.log 2>&1 &
pids+=($!)
ctr=(debian/usr/bin/ctr --address "$dir/containerd.sock")
for _ in {1..100}; do
    if "${ctr[@]}" version && curl -sf "127.0.0.1:$port/v2/"; then break; fi
    sleep 0.1
done >/dev/null 2>&1

printf '\0asm\1\0\0\0' >hello.wasm
PYTHONPATH=py python3 - "$port" <<'PY'
import sys

import oras.client

target = f"127.0.0.1:{sys.argv[1]}/hello:v1"
oras.client.OrasClient(insecure=True).push(target=target, files=["hello.wasm"])
PY
curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
    "127.0.0.1:$port/v2/hello/manifests/v1" >manifest.json
types=$(python3 -c '
import json
manifest = json.load(open("manifest.json"))
print(manifest["layers"][0]["mediaType"], manifest["config"]["mediaType"])')
echo "$types"
[[ $types == "application/vnd.oci.image.layer.v1.tar application/vnd.unknown.config.v1+json" ]] ||
    changed "other types"

if said=$("${ctr[@]}" image pull --plain-http "127.0.0.1:$port/hello:v1" 2>&1); then
    changed "containerd unpacks it"
fi
[[ $said == *'mismatched image rootfs and manifest layers'* ]] || changed "it says: $said"
echo "${said##*$'\n'}"
