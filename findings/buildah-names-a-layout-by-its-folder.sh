#!/usr/bin/env bash
# Behaviour: buildah stores an image of an OCI layout under the folder's path and the tag `latest`:
#   the layout's tag is forgotten, so the images of one layout take each other's name, and a folder
#   with a capital letter, which no image name may have, is refused.
# Versions: Debian buildah 1.28.2+ds1-3+deb12u1+b3 (bookworm), with its libgpgme11
#   1.18.0-3+deb12u1; umoci 0.4.7+ds-3+b7 makes the layout.
# Expected: `oci:layout:v1` keeps v1; the path of a file is not a name of an image.
# Seen: localhost/layout:latest for both v1 and v2; "repository name must be lowercase"
# Here: mktemp's folders have capitals; a variant for each runtime in one layout is one image here.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download buildah=1.28.2+ds1-3+deb12u1+b3 \
    umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
    libdevmapper1.02.1=2:1.02.185-2
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu
echo '{ "default": [ { "type": "insecureAcceptAnything" } ] }' >policy.json
options=(--signature-policy policy.json --cni-config-dir "$dir/cni")
# It would leave a cache in /var/lib, which therefore is one of its own.
buildah=(unshare --mount sh -c 'mount -t tmpfs tmpfs /var/lib && exec "$@"' sh
    env "LD_LIBRARY_PATH=$libraries" debian/usr/bin/buildah --storage-driver vfs
    --root "$dir/root" --runroot "$dir/runroot")

debian/usr/bin/umoci init --layout layout
for tag in v1 v2; do
    debian/usr/bin/umoci new --image "layout:$tag"
    debian/usr/bin/umoci config --image "layout:$tag" --config.entrypoint "/$tag"
done
cp -r layout Layout

for tag in v1 v2; do
    "${buildah[@]}" from "${options[@]}" "oci:layout:$tag" >log 2>&1 ||
        changed "$tag is refused: $(cat log)"
    names=$("${buildah[@]}" images --format '{{.Name}}:{{.Tag}}' | sort | xargs)
    echo "after $tag: $names"
done
[[ $names == '<none>:<none> localhost/layout:latest' ]] || changed "other names"
if said=$("${buildah[@]}" from "${options[@]}" oci:Layout:v1 2>&1); then
    changed "a capital letter is no matter"
fi
grep -o 'repository name must be lowercase' <<<"$said" || changed "it says: $said"
