#!/usr/bin/env bash
# Behaviour: the oci-spec crate cannot read a config.json in which one capability is newer than the
#   crate: the whole file is refused. runc runs the same bundle with a warning.
# Versions: Rust crate oci-spec 0.10.0, Debian runc 1.1.5+ds1-1+deb12u1 and busybox-static
#   1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the runtime specification: what maps to no capability is logged, and no reason to fail.
# Seen: oci-spec: "no variant for CAP_NEW_ONE (converted to NEW_ONE)"; runc: status 0, "ignoring
#   unknown or unavailable capabilities: [CAP_NEW_ONE]"
# Here: the shims read config.json by this crate, so such a bundle is refused, although a guest has
#   no use for capabilities.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download runc=1.1.5+ds1-1+deb12u1 \
    busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
runc=(debian/usr/sbin/runc --root "$dir/state")
mkdir -p bundle/rootfs/bin app/src
cp debian/bin/busybox bundle/rootfs/bin/
"${runc[@]}" spec --bundle bundle
python3 - <<'PY'
import json, os

path = "bundle/config.json"
config = json.load(open(path))
config["process"]["terminal"] = False
config["process"]["args"] = ["/bin/busybox", "true"]
config["process"]["capabilities"]["bounding"].append("CAP_NEW_ONE")
config["linux"]["cgroupsPath"] = "/" + os.path.basename(os.getcwd())
json.dump(config, open(path, "w"))
PY
cat >app/Cargo.toml <<'TOML'
[package]
name = "load"
version = "0.0.0"
edition = "2021"

[dependencies]
oci-spec = { version = "=0.10.0", default-features = false, features = ["runtime"] }
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    match oci_spec::runtime::Spec::load("bundle/config.json") {
        Ok(_) => println!("read"),
        Err(error) => println!("{error:?}"),
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

said=$("${runc[@]}" run --bundle bundle "findings-$$" 2>&1) || changed "runc refuses it: $said"
[[ $said == *'ignoring unknown or unavailable capabilities: [CAP_NEW_ONE]'* ]] ||
    changed "runc says: $said"
echo "runc: status 0, ${said#*msg=}"
said=$(target/debug/load)
echo "oci-spec: $said"
[[ $said == *'no variant for CAP_NEW_ONE'* ]] || changed "oci-spec says something else"
