#!/usr/bin/env bash
# Behaviour: oci-spec's `Reference` takes a tag of any letters and digits of Unicode, a digest in
#   capitals, and a first part with capitals as a part of the repository, though it says of a name with
#   capitals elsewhere that it is none.
# Versions: Rust crate oci-spec 0.10.0; Debian skopeo 1.9.3+ds1-1+b10 (bookworm), with its
#   libgpgme11 1.18.0-3+deb12u1.
# Expected: errors, as of skopeo. OCI distribution-spec, Pulling manifests: a tag MUST match
#   [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}, a name [a-z0-9]+... in each part; image-spec, Descriptors,
#   SHA-256: the encoded portion MUST match /[a-f0-9]{64}/.
# Seen: app:größe: the tag "größe"; Registry/app: the repository "Registry/app"; sha256:AA...: the
#   digest; host.example/App: "invalid reference format"; skopeo refuses all four
# Here: a name that a tool of this crate has checked is refused at last by containerd, when the pod is
#   to start, or asked of a registry that cannot have it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download skopeo=1.9.3+ds1-1+b10 \
    libgpgme11=1.18.0-3+deb12u1 libassuan0 libdevmapper1.02.1 libgpg-error0
for package in *.deb; do dpkg -x "$package" debian; done
libraries=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "read"
version = "0.0.0"
edition = "2021"

[dependencies]
oci-spec = { version = "=0.10.0", default-features = false, features = ["distribution"] }
TOML
cat >app/src/main.rs <<'RS'
use oci_spec::distribution::Reference;

fn main() {
    for name in std::env::args().skip(1) {
        match name.parse::<Reference>() {
            Ok(read) => {
                let version = read.digest().or(read.tag()).unwrap();
                println!("crate: {name}: repository {}, version {version}", read.repository());
            }
            Err(error) => println!("crate: {name}: {error}"),
        }
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
capitals=sha256:$(printf 'A%.0s' {1..64})
names=(localhost/app:v1 app:größe Registry/app host.example/App "app@$capitals")
{
    target/debug/read "${names[@]}"
    # In a network without anything, in which a good name leads to a registry that is not reached.
    for name in "${names[@]}"; do
        said=$(LD_LIBRARY_PATH=$libraries unshare --net debian/usr/bin/skopeo inspect "docker://$name" 2>&1) ||
            true
        echo "skopeo: $name: $(grep -oE 'invalid [a-z ]*|pinging container registry' <<<"$said" | head -n 1)"
    done
} | sed "s/$capitals/sha256:AA.../g" | tee seen
cmp seen - <<'SEEN' || changed "they take others"
crate: localhost/app:v1: repository app, version v1
crate: app:größe: repository library/app, version größe
crate: Registry/app: repository Registry/app, version latest
crate: host.example/App: invalid reference format
crate: app@sha256:AA...: repository library/app, version sha256:AA...
skopeo: localhost/app:v1: pinging container registry
skopeo: app:größe: invalid reference format
skopeo: Registry/app: invalid reference format
skopeo: host.example/App: invalid reference format
skopeo: app@sha256:AA...: invalid checksum digest format
SEEN
