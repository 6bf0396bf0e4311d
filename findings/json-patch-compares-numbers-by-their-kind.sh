#!/usr/bin/env bash
# Behaviour: for the json-patch crate 1 and 1.0 are different values: a `test` of 1.0 fails where
#   the document has 1, and one of 1 where it has 1.0.
# Versions: Rust crates json-patch 5.0.0, serde_json 1.0.154; PyPI jsonpatch 1.33, jsonpointer
#   3.0.0.
# Expected: equal. RFC 6902, 4.6: numbers "are considered equal if their values are numerically
#   equal".
# Seen: test of 1.0 where there is 1: holds with jsonpatch, fails with json-patch; of 1 where
#   there is 1.0 likewise; of 1 where there is 1: holds with both
# Here: objects of Kubernetes are patched so; one that came through a library which keeps all
#   numbers as floats no longer passes the `test` of its own values.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py jsonpatch==1.33 jsonpointer==3.0.0
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "patch"
version = "0.0.0"
edition = "2021"

[dependencies]
json-patch = "=5.0.0"
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
use serde_json::json;

fn main() {
    for (has, wanted) in [(json!(1), json!(1)), (json!(1), json!(1.0)), (json!(1.0), json!(1))] {
        let patch = json!([{"op": "test", "path": "/replicas", "value": wanted}]);
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        let mut document = json!({"replicas": has});
        let holds = json_patch::patch(&mut document, &patch).is_ok();
        println!("{wanted} for {has} {}", if holds { "holds" } else { "fails" });
    }
}
RS
cat >patch.py <<'PY'
import jsonpatch

for has, wanted in [(1, 1), (1, 1.0), (1.0, 1)]:
    patch = [{"op": "test", "path": "/replicas", "value": wanted}]
    try:
        jsonpatch.apply_patch({"replicas": has}, patch)
        print(wanted, "for", has, "holds")
    except jsonpatch.JsonPatchTestFailed:
        print(wanted, "for", has, "fails")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# says NAME WANT COMMAND...: whether the command says so.
says() {
    local got
    got=$("${@:3}")
    printf '%s:\n%s\n' "$1" "$got"
    [[ $got == "$2" ]] || changed "$1 says something else"
}
says jsonpatch $'1 for 1 holds\n1.0 for 1 holds\n1 for 1.0 holds' env PYTHONPATH=py python3 patch.py
says json-patch $'1 for 1 holds\n1.0 for 1 fails\n1 for 1.0 fails' target/debug/patch
