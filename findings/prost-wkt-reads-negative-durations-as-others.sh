#!/usr/bin/env bash
# Behaviour: prost-wkt-types reads the duration "-0.5s" of JSON as half a second, "-1.5s" as -1 s
#   and +0.5 s, and reads and writes a field mask as an object with `paths`.
# Versions: Rust crates prost-wkt-types 0.7.2, serde_json 1.0.154; PyPI protobuf 7.36.2.
# Expected: ProtoJSON: the text that it writes itself for -0.5 s, and a field mask as the string
#   "fooBar,baz"; Duration: "nanos" "must be of the same sign as the seconds field".
# Seen: -0.5 s is written "-0.500000000s" and read as (0, 500000000), -1.5 s as (-1, 500000000);
#   Python (0, -500000000) and (-1, -500000000). A mask {"paths":["foo_bar","baz"]}, and
#   "fooBar,baz" is refused
# Here: specifications of sandboxes and of metrics are messages with such fields; what one side
#   writes by this crate the other reads as a time to come instead of one that is past.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py protobuf==7.36.2
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "wkt"
version = "0.0.0"
edition = "2021"

[dependencies]
prost-wkt-types = "=0.7.2"
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
use prost_wkt_types::{Duration, FieldMask};

fn main() {
    for (seconds, nanos) in [(0, -500_000_000), (-1, -500_000_000), (1, 500_000_000)] {
        let text = serde_json::to_string(&Duration { seconds, nanos }).unwrap();
        let read: Duration = serde_json::from_str(&text).unwrap();
        println!("{} {} {}", text.trim_matches('"'), read.seconds, read.nanos);
    }
    let paths = vec!["foo_bar".into(), "baz".into()];
    println!("{}", serde_json::to_string(&FieldMask { paths }).unwrap());
    let refused = serde_json::from_str::<FieldMask>("\"fooBar,baz\"").is_err();
    println!("fooBar,baz {}", if refused { "refused" } else { "read" });
}
RS
cat >wkt.py <<'PY'
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

for text in ["-0.500000000s", "-1.500000000s", "1.500000000s"]:
    duration = Duration()
    duration.FromJsonString(text)
    print(text, duration.seconds, duration.nanos)
mask = FieldMask(paths=["foo_bar", "baz"])
print(mask.ToJsonString())
mask.FromJsonString("fooBar,baz")
print("fooBar,baz read")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
crate=$(target/debug/wkt)
python=$(PYTHONPATH=py python3 wkt.py)
printf '%s\n' "prost-wkt-types:" "$crate" "Python:" "$python"
[[ $python == "-0.500000000s 0 -500000000
-1.500000000s -1 -500000000
1.500000000s 1 500000000
fooBar,baz
fooBar,baz read" ]] || changed "Python has others"
[[ $crate == '-0.500000000s 0 500000000
-1.500000000s -1 500000000
1.500000000s 1 500000000
{"paths":["foo_bar","baz"]}
fooBar,baz refused' ]] || changed "prost-wkt-types has others"
