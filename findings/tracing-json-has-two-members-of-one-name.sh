#!/usr/bin/env bash
# Behaviour: tracing-subscriber's JSON writes an object with two members of one name: a span's
#   field `name` beside the span's name, and with `flatten_event` a field `level`, `target` or
#   `timestamp` beside the event's. Of these the event's own come first, so that readers have the
#   field's.
# Versions: Rust crates tracing-subscriber 0.3.23, tracing 0.1.44; Python 3.11, Node 20.
# Expected: another name or place for one of them. RFC 8259, 4: names "SHOULD be unique";
#   otherwise "the behavior of software that receives such an object is unpredictable".
# Seen: an event of level WARN with the field level="high" of a span "request" with the field
#   name="web": level high and span request for Python and Node; WARN and "web" are in the text
#   and read by neither
# Here: logs are filtered by their level: an event whose field is called level has another one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "log"
version = "0.0.0"
edition = "2021"

[dependencies]
tracing = "=0.1.44"
tracing-subscriber = { version = "=0.3.23", default-features = false, features = ["fmt", "json"] }
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    tracing_subscriber::fmt().json().flatten_event(true).without_time().init();
    let _span = tracing::info_span!("request", name = "web").entered();
    tracing::warn!(level = "high", "load");
}
RS
cat >read.js <<'JS'
const event = JSON.parse(require("node:fs").readFileSync(0));
console.log(event.level, event.span.name);
JS
cat >read.py <<'PY'
import json
import sys

event = json.load(sys.stdin)
print(event["level"], event["span"]["name"])
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo run -q --manifest-path app/Cargo.toml >event
cat event
grep -q '"level":"WARN",.*"level":"high"' event || changed "the event has other members"
grep -q '"span":{"name":"web","name":"request"}' event || changed "the span has other members"
python=$(python3 read.py <event)
node=$(node read.js <event)
printf '%s\n' "Python: $python" "Node: $node"
[[ $python == 'high request' && $node == 'high request' ]] || changed "another one is read"
