#!/usr/bin/env bash
# Behaviour: `umoci config`, told to set one field, writes the configuration and the manifest anew
#   from what it knows of them: a Healthcheck and the manifest's `artifactType` are gone, and an
#   image without a date was created in the year 1.
# Versions: Debian umoci 0.4.7+ds-3+b7 and skopeo 1.9.3+ds1-1+b10 (bookworm).
# Expected: the other fields stay, as with skopeo, which copies both documents as they are.
# Seen: umoci: no Healthcheck, no artifactType, created 0001-01-01T00:00:00Z; skopeo: all kept
# Here: images of guests are made by tools of this kind; what tells a guest's image from others may
#   be lost in a step that only adds an author.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download umoci=0.4.7+ds-3+b7 skopeo=1.9.3+ds1-1+b10 \
    libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 libdevmapper1.02.1=2:1.02.185-2
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu

# A layout with the image `v1`: no layers, a health check, an artifact's type.
cat >make.py <<'PY'
import hashlib, json, os

BLOBS = "layout/blobs/sha256"
TYPE = "application/vnd.oci.image.%s.v1+json"


def blob(content, type):
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    open(f"{BLOBS}/{digest}", "wb").write(data)
    return {"mediaType": TYPE % type, "digest": "sha256:" + digest, "size": len(data)}


os.makedirs(BLOBS)
configuration = {
    "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
    "config": {"Cmd": ["/hello"], "Healthcheck": {"Test": ["CMD", "/healthy"]}},
}
manifest = {
    "schemaVersion": 2, "mediaType": TYPE % "manifest", "artifactType": "application/vnd.local",
    "config": blob(configuration, "config"), "layers": [],
}
image = blob(manifest, "manifest")
image["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
json.dump({"schemaVersion": 2, "manifests": [image]}, open("layout/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open("layout/oci-layout", "w"))
PY
cat >show.py <<'PY'
import json, sys

layout, tag = sys.argv[1:]


def load(descriptor):
    return json.load(open(f"{layout}/blobs/" + descriptor["digest"].replace(":", "/")))


for image in json.load(open(f"{layout}/index.json"))["manifests"]:
    if image["annotations"]["org.opencontainers.image.ref.name"] == tag:
        manifest = load(image)
        configuration = load(manifest["config"])
        print(
            *configuration["config"], manifest.get("artifactType"),
            configuration.get("created"), configuration.get("author"),
        )
PY
python3 make.py
LD_LIBRARY_PATH=$libraries debian/usr/bin/skopeo --insecure-policy copy --quiet \
    oci:layout:v1 oci:copied:v1
debian/usr/bin/umoci config --image layout:v1 --tag authored --author me
before=$(python3 show.py layout v1)
copied=$(python3 show.py copied v1)
authored=$(python3 show.py layout authored)
printf '%s\n' "before: $before" "skopeo: $copied" "umoci:  $authored"
[[ $before == 'Cmd Healthcheck application/vnd.local None None' ]] || changed "another image"
[[ $copied == "$before" ]] || changed "skopeo copies something else"
[[ $authored == 'Cmd None 0001-01-01T00:00:00Z me' ]] || changed "umoci keeps other fields"
