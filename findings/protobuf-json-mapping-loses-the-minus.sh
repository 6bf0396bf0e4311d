#!/usr/bin/env bash
# Behaviour: the Rust crate writes a duration between -1 s and 0 s without its sign: -0.5 s becomes
#   "0.500000000s", which reads as half a second to come. Paths of a field mask it writes and reads
#   as they are, foo_bar and not fooBar.
# Versions: Rust crates protobuf and protobuf-json-mapping 3.7.2, PyPI protobuf 7.36.2.
# Expected: what protobuf's documents say (duration.proto, field_mask.proto): nanoseconds have the
#   sign if there are no seconds, and in JSON paths have lower camel case. Python's has it so.
# Seen: -0.5s read and written: Rust 0.500000000s, Python -0.500s; -1.5s: -1.500000000s, -1.500s;
#   foo_bar written: foo_bar, fooBar; fooBar read: fooBar, foo_bar
# Here: the shims' messages are of this protobuf; what logs or keeps them as JSON has the wrong sign
#   for a deadline that has just passed, and a mask of fields that name none.
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
name = "json"
version = "0.0.0"
edition = "2021"

[dependencies]
protobuf = "=3.7.2"
protobuf-json-mapping = "=3.7.2"
TOML
cat >app/src/main.rs <<'RS'
use protobuf::well_known_types::{duration::Duration, field_mask::FieldMask};
use protobuf_json_mapping::{parse_from_str, print_to_string};

fn main() {
    for text in ["\"-1.5s\"", "\"-0.5s\"", "\"-0.000000001s\"", "\"0.5s\""] {
        let value: Duration = parse_from_str(text).expect("duration");
        let written = print_to_string(&value).expect("JSON");
        println!("{text}: {} s, {} ns, {written}", value.seconds, value.nanos);
    }
    let mask = FieldMask { paths: vec!["foo_bar".to_owned()], ..Default::default() };
    println!("foo_bar: {}", print_to_string(&mask).expect("JSON"));
    let mask: FieldMask = parse_from_str("\"fooBar\"").expect("mask");
    println!("\"fooBar\": {}", mask.paths.join(","));
}
RS
cat >json_of.py <<'PY'
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToJson, Parse

for text in '"-1.5s"', '"-0.5s"', '"-0.000000001s"', '"0.5s"':
    value = Parse(text, Duration())
    print(f"{text}: {value.seconds} s, {value.nanos} ns, {MessageToJson(value)}")
print("foo_bar:", MessageToJson(FieldMask(paths=["foo_bar"])))
print('"fooBar":', ",".join(Parse('"fooBar"', FieldMask()).paths))
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
of_rust=$(target/debug/json)
of_python=$(PYTHONPATH=py python3 json_of.py)
printf '%s\n' "by Rust:" "$of_rust" "by Python:" "$of_python"
[[ $of_python == '"-1.5s": -1 s, -500000000 ns, "-1.500s"
"-0.5s": 0 s, -500000000 ns, "-0.500s"
"-0.000000001s": 0 s, -1 ns, "-0.000000001s"
"0.5s": 0 s, 500000000 ns, "0.500s"
foo_bar: "fooBar"
"fooBar": foo_bar' ]] || changed "Python reads or writes it otherwise"
[[ $of_rust == '"-1.5s": -1 s, -500000000 ns, "-1.500000000s"
"-0.5s": 0 s, -500000000 ns, "0.500000000s"
"-0.000000001s": 0 s, -1 ns, "0.000000001s"
"0.5s": 0 s, 500000000 ns, "0.500000000s"
foo_bar: "foo_bar"
"fooBar": fooBar' ]] || changed "Rust reads or writes it otherwise"
