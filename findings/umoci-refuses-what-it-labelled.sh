#!/usr/bin/env bash
# Behaviour: umoci lets an image be labelled with os "wasi" and architecture "wasm", lists it and
#   unpacks its files (`raw unpack`), but refuses to make a bundle of it.
# Version: Debian umoci 0.4.7+ds-3+b7 (bookworm).
# Expected: a bundle whose config.json has the image's command, as for "linux"; or a refusal when
#   the os is set.
# Seen: "generate config.json: unsupported OS: wasi"
# Here: a bundle for tests of the shims is made from a Linux-labelled image, or written by hand.
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

printf '\0asm\1\0\0\0' >hello.wasm
"$umoci" init --layout layout
"$umoci" new --image layout:v1
"$umoci" insert --image layout:v1 hello.wasm /hello.wasm
"$umoci" config --image layout:v1 --config.entrypoint /hello.wasm
"$umoci" unpack --image layout:v1 linux || changed "the image cannot be unpacked as it was"

"$umoci" config --image layout:v1 --os wasi --architecture wasm || changed "the os is refused"
"$umoci" stat --image layout:v1 >/dev/null || changed "the image cannot be listed"
"$umoci" raw unpack --image layout:v1 files 2>log || changed "its files cannot be unpacked"
[[ -f files/hello.wasm ]] || changed "the file is missing"
if said=$("$umoci" unpack --image layout:v1 wasi 2>&1); then changed "a bundle is made"; fi
grep -o 'unsupported OS: wasi' <<<"$said" || changed "it says: $said"
