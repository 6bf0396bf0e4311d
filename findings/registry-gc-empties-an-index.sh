#!/usr/bin/env bash
# Behaviour: the registry's `garbage-collect --delete-untagged` deletes the manifests that a tagged
#   index points to, since they have no tag of their own. The tag stays, and its index is served.
# Version: Debian docker-registry 2.8.2+ds1-1 (bookworm).
# Expected: what a tag reaches is in use, through an index as through a manifest.
# Seen: index 200, its manifest 200 before and 404 after
# Here: an image with a wasm and a machine variant is an index: after such a clean-up it pulls on
#   no platform.
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
apt-get -qq -o APT::Sandbox::User=root download docker-registry=2.8.2+ds1-1
for package in *.deb; do dpkg -x "$package" debian; done

port=$(python3 -c 'import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
cat >registry.yml <<YAML
version: 0.1
storage: { filesystem: { rootdirectory: $dir/registry }, delete: { enabled: true } }
http: { addr: "127.0.0.1:$port" }
YAML
api=http://127.0.0.1:$port/v2/hello
manifest_type=application/vnd.oci.image.manifest.v1+json
index_type=application/vnd.oci.image.index.v1+json

# start: the registry, until it answers.
start() {
    debian/usr/bin/docker-registry serve registry.yml >log 2>&1 &
    pids=($!)
    for _ in {1..100}; do
        if curl -sf "127.0.0.1:$port/v2/" >/dev/null; then return; fi
        sleep 0.1
    done
}
# described FILE TYPE: the descriptor of the file's content.
described() {
    printf '{ "mediaType": "%s", "digest": "sha256:%s", "size": %s }' \
        "$2" "$(sha256sum <"$1" | cut -d ' ' -f 1)" "$(stat --format %s "$1")"
}
# status TYPE NAME: of a request for a manifest.
status() { curl -s -o /dev/null -w '%{http_code}' -H "Accept: $1" "$api/manifests/$2"; }

start
echo '{"architecture":"wasm","os":"wasi","rootfs":{"type":"layers","diff_ids":[]}}' >config.json
upload=$(curl -si -X POST "$api/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @config.json \
    "$upload&digest=sha256:$(sha256sum <config.json | cut -d ' ' -f 1)"
cat >manifest.json <<JSON
{ "schemaVersion": 2, "mediaType": "$manifest_type", "layers": [],
  "config": $(described config.json application/vnd.oci.image.config.v1+json) }
JSON
cat >index.json <<JSON
{ "schemaVersion": 2, "mediaType": "$index_type",
  "manifests": [ $(described manifest.json "$manifest_type") ] }
JSON
child=sha256:$(sha256sum <manifest.json | cut -d ' ' -f 1)
curl -sf -X PUT -H "Content-Type: $manifest_type" --data-binary @manifest.json \
    "$api/manifests/$child"
curl -sf -X PUT -H "Content-Type: $index_type" --data-binary @index.json "$api/manifests/v1"
before=$(status "$manifest_type" "$child")

# As its documentation asks, while nothing is served.
kill "${pids[0]}"
wait "${pids[0]}" || true
debian/usr/bin/docker-registry garbage-collect --delete-untagged registry.yml >gc.log 2>&1
start
index=$(status "$index_type" v1)
after=$(status "$manifest_type" "$child")
echo "index $index, its manifest $before before and $after after"
[[ $before == 200 && $index == 200 && $after == 404 ]] || changed "other answers"
