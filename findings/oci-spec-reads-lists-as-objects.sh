#!/usr/bin/env bash
# Behaviour: the oci-spec crate reads a JSON list wherever the specifications have an object: the
#   elements are taken for the fields in the order of the crate's source. runc refuses such a file.
# Versions: Rust crates oci-spec 0.10.0 and serde_json 1.0.154, Debian runc 1.1.5+ds1-1+deb12u1
#   (bookworm).
# Expected: an error: in the schemas of the runtime-spec and of the image-spec `root`, `linux`, a
#   mount and `oci-layout` are of type "object".
# Seen: oci-spec: "root":["a",true] as {"path":"a","readonly":true}, "linux":[] as {}, a mount
#   ["/proc","proc"], a layout ["1.0.0"]; runc: "cannot unmarshal array into Go struct field"
# Here: the shims read config.json by this crate: a bundle whose empty objects were written as `[]`,
#   as PHP's json_encode does, runs here and fails with runc.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download runc=1.1.5+ds1-1+deb12u1
for package in *.deb; do dpkg -x "$package" debian; done
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "read"
version = "0.0.0"
edition = "2021"

[dependencies]
oci-spec = { version = "=0.10.0", default-features = false, features = ["image", "runtime"] }
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
/// Prints what a text is read as.
macro_rules! read {
    ($type:ty, $text:expr) => {
        match serde_json::from_str::<$type>($text) {
            Ok(value) => println!("{}", serde_json::to_string(&value).unwrap()),
            Err(error) => println!("{error}"),
        }
    };
}

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.contains("layout") {
            read!(oci_spec::image::OciLayout, &text);
        } else {
            read!(oci_spec::runtime::Spec, &text);
        }
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# reads FILE TEXT WANT: whether oci-spec reads the text as WANT.
reads() {
    mkdir -p "${1%/*}"
    echo "$2" >"$1"
    local got
    got=$(target/debug/read "$1")
    echo "oci-spec: $2 as $got"
    [[ $got == "$3" ]] || changed "something else is read"
}
# refuses FOLDER: whether runc refuses the bundle for the list.
refuses() {
    local said
    if said=$(debian/usr/sbin/runc --root "$dir/state" create --bundle "$1" none 2>&1); then
        changed "runc takes it"
    fi
    echo "runc: ${said#*msg=}"
    [[ $said == *'cannot unmarshal array into Go'* ]] || changed "runc says something else"
}
reads root/config.json '{"ociVersion":"1.0.2","root":["a",true]}' \
    '{"ociVersion":"1.0.2","root":{"path":"a","readonly":true}}'
refuses root
reads linux/config.json '{"ociVersion":"1.0.2","linux":[]}' '{"ociVersion":"1.0.2","linux":{}}'
refuses linux
reads mount/config.json '{"ociVersion":"1.0.2","mounts":[["/proc","proc"]]}' \
    '{"ociVersion":"1.0.2","mounts":[{"destination":"/proc","type":"proc"}]}'
refuses mount
reads image/oci-layout '["1.0.0"]' '{"imageLayoutVersion":"1.0.0"}'
