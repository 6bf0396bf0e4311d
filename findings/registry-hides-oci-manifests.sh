#!/usr/bin/env bash
# Behaviour: the registry answers 404 to a request for an OCI manifest that it has, unless the
#   request's Accept header names the type.
# Version: Debian docker-registry 2.8.2+ds1-1 (bookworm).
# Expected: without Accept anything may be sent (HTTP's rule), or 406 if nothing fits.
# Seen: 404 MANIFEST_UNKNOWN "OCI manifest found, but accept header does not support OCI manifests"
# Here: "the image is missing" may mean "the client did not ask for its kind"; artifacts of
#   wasm are always OCI manifests.
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
storage: { filesystem: { rootdirectory: $dir/registry } }
http: { addr: "127.0.0.1:$port" }
YAML
debian/usr/bin/docker-registry serve registry.yml >log 2>&1 &
pids+=($!)
api=http://127.0.0.1:$port/v2/hello
for _ in {1..100}; do
    if curl -sf "127.0.0.1:$port/v2/" >/dev/null; then break; fi
    sleep 0.1
done

# An image of no layers is the smallest valid one.
echo '{"architecture":"wasm","os":"wasi","rootfs":{"type":"layers","diff_ids":[]}}' >config.json
digest=sha256:$(sha256sum <config.json | cut -d ' ' -f 1)
upload=$(curl -si -X POST "$api/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @config.json \
    "$upload&digest=$digest"
type=application/vnd.oci.image.manifest.v1+json
cat >manifest.json <<JSON
{ "schemaVersion": 2, "mediaType": "$type", "layers": [], "config": {
  "mediaType": "application/vnd.oci.image.config.v1+json", "digest": "$digest",
  "size": $(stat --format %s config.json) } }
JSON
curl -sf -X PUT -H "Content-Type: $type" --data-binary @manifest.json "$api/manifests/v1"

plain=$(curl -s -o answer -w '%{http_code}' "$api/manifests/v1")
asked=$(curl -s -o got.json -w '%{http_code}' -H "Accept: $type" "$api/manifests/v1")
echo "curl: $plain $(cat answer)"
echo "with Accept: $asked"
[[ $plain == 404 ]] || changed "a plain request gives $plain"
grep -q 'OCI manifest found, but accept header does not support OCI' answer || changed "other words"
[[ $asked == 200 ]] || changed "a request with Accept gives $asked"
cmp got.json manifest.json || changed "another manifest"
