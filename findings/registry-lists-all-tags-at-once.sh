#!/usr/bin/env bash
# Behaviour: the registry takes no notice of `n` and `last` of a list of tags: each request gets all
#   the tags, in the order of the folder, without a Link to a next page. The list of repositories
#   heeds both.
# Version: Debian docker-registry 2.8.2+ds1-1 (bookworm).
# Expected: no more than n tags, those after `last`, sorted: OCI distribution-spec (Listing Tags)
#   and the registry's own API document (Listing Image Tags, Pagination).
# Seen: n=2: 5 tags; n=2&last=v3: 5 tags; no Link; catalog with n=2: 2 repositories
# Here: a client that asks for the tags after the last one that it has never comes to an end.
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
pid=$!
api=http://127.0.0.1:$port/v2
for _ in {1..100}; do
    if curl -sf "$api/" >/dev/null; then break; fi
    sleep 0.1
done

# An image of no layers under five tags, in three repositories.
echo '{"architecture":"wasm","os":"wasi","rootfs":{"type":"layers","diff_ids":[]}}' >config.json
digest=sha256:$(sha256sum <config.json | cut -d ' ' -f 1)
type=application/vnd.oci.image.manifest.v1+json
cat >manifest.json <<JSON
{ "schemaVersion": 2, "mediaType": "$type", "layers": [], "config": {
  "mediaType": "application/vnd.oci.image.config.v1+json", "digest": "$digest",
  "size": $(stat --format %s config.json) } }
JSON
for repository in one two three; do
    upload=$(curl -si -X POST "$api/$repository/blobs/uploads/" | tr -d '\r' |
        sed -n 's/^Location: //p')
    curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @config.json \
        "$upload&digest=$digest"
    for tag in v2 v5 v1 v4 v3; do
        curl -sf -X PUT -H "Content-Type: $type" --data-binary @manifest.json \
            "$api/$repository/manifests/$tag"
    done
done

# The length of the list, and whether there is a next page.
count() {
    curl -si "$api/$1" | tr -d '\r' >answer
    python3 -c 'import json, sys
print(sum(map(len, (v for v in json.loads(sys.argv[1]).values() if isinstance(v, list)))))' \
        "$(tail -n 1 answer)"
    grep -o '^Link' answer || true
}
all=$(count 'one/tags/list')
two=$(count 'one/tags/list?n=2')
last=$(count 'one/tags/list?n=2&last=v3')
order=$(tail -n 1 answer)
catalog=$(count '_catalog?n=2' | xargs)
printf '%s\n' "all: $all tags" "n=2: $two tags" "n=2&last=v3: $last tags: $order" \
    "catalog with n=2: $catalog"
[[ $all == 5 ]] || changed "another number of tags"
[[ $two == 5 && $last == 5 ]] || changed "it counts the tags"
[[ $catalog == '2 Link' ]] || changed "the catalog is another"
