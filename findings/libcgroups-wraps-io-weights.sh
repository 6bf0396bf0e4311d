#!/usr/bin/env bash
# Behaviour: youki's libcgroups computes the weight of input and output for cgroups v2 with 16
#   bits: in a release build the product wraps around, and all weights but the lowest become
#   nearly the lowest.
# Versions: Rust crates libcgroups 0.7.0, oci-spec 0.10.0, without overflow checks as in a release
#   build.
# Expected: the formula of its source, which is runc's, "linearly from [10-1000] to [1-10000]".
# Seen: 10: 1, 16: 61, 100: 49 instead of 910, 500: 51 instead of 4950, 1000: 4 instead of 10000
# Here: a container whose weight is the highest gets less of a disk than one of the weight 16. A
#   debug build stops with an error. The shims do not use this crate.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src cgroup/container
cat >app/Cargo.toml <<'TOML'
[package]
name = "weight"
version = "0.0.0"
edition = "2021"

[dependencies]
libcgroups = { version = "=0.7.0", default-features = false, features = ["v2"] }
oci-spec = { version = "=0.10.0", default-features = false, features = ["runtime"] }
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
use libcgroups::common::{CgroupManager, ControllerOpt};
use serde_json::json;

/// Writes the weight into a folder that stands for a cgroup.
fn main() {
    let weight: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let resources = serde_json::from_value(json!({"blockIO": {"weight": weight}})).unwrap();
    let root = std::env::current_dir().unwrap().join("cgroup");
    let manager = libcgroups::v2::manager::Manager::new(root, "container".into()).unwrap();
    let options = ControllerOpt {
        resources: &resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    manager.apply(&options).unwrap();
}
RS
export CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
echo "io memory" >cgroup/cgroup.controllers
for pair in 10:1 16:61 100:49 500:51 1000:4; do
    weight=${pair%:*}
    : >cgroup/container/io.weight
    target/debug/weight "$weight"
    got=$(<cgroup/container/io.weight)
    echo "$weight: $got instead of $((1 + (weight - 10) * 9999 / 990))"
    [[ $got == "${pair#*:}" ]] || changed "$weight becomes $got"
done
