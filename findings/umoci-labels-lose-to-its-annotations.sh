#!/usr/bin/env bash
# Behaviour: a label that has the name of one of the annotations that are made out of an image's
#   other fields is lost when umoci makes a bundle: the stop signal SIGUSR1 takes the place of the
#   label's own value, and a label for the author becomes the empty string though no author is set.
# Version: Debian umoci 0.4.7+ds-3+b7 (bookworm).
# Expected: by the OCI image-spec (conversion.md, Annotation Fields and Annotations) the label's
#   value must be used instead.
# Seen: stopSignal SIGUSR1 and not mine; author "" and not mine; another label mine
# Here: what an image says of itself in labels is not what a runtime gets to read.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download umoci=0.4.7+ds-3+b7
dpkg -x umoci_*.deb debian

umoci=debian/usr/bin/umoci
"$umoci" init --layout layout
"$umoci" new --image layout:v1
prefix=org.opencontainers.image
"$umoci" config --image layout:v1 --config.stopsignal SIGUSR1 \
    --config.label "$prefix.stopSignal=mine" --config.label "$prefix.author=mine" \
    --config.label "$prefix.other=mine"
"$umoci" unpack --image layout:v1 bundle
cat >show.py <<'PY'
import glob, json

PREFIX = "org.opencontainers.image."
NAMES = "author", "other", "stopSignal"
for file in glob.glob("layout/blobs/sha256/*"):
    config = json.load(open(file)).get("config", {})
    if "Labels" in config:
        labels = config["Labels"]
        print("labels:", *(f"{name} {labels[PREFIX + name]!r}" for name in NAMES))
annotations = json.load(open("bundle/config.json"))["annotations"]
print("annotations:", *(f"{name} {annotations[PREFIX + name]!r}" for name in NAMES))
PY
said=$(python3 show.py)
echo "$said"
[[ $said == "labels: author 'mine' other 'mine' stopSignal 'mine'
annotations: author '' other 'mine' stopSignal 'SIGUSR1'" ]] || changed "another bundle"
