#!/usr/bin/env bash
# Behaviour: metrics-exporter-prometheus takes a backslash of a label's value for the start of an
#   escape: one before a quotation mark is lost, of two in a row one is, and one before a line
#   break is moved behind it. Different values so become one series.
# Versions: Rust crates metrics-exporter-prometheus 0.18.3, metrics 0.24.6; PyPI prometheus-client
#   0.26.0.
# Expected: the value that the program gave. Text-based format: it "can be any sequence of UTF-8
#   characters", of which backslash, quotation mark and line feed "have to be escaped", each of
#   them.
# Seen: \\srv\share is read as \srv\share, a\"b as a"b, a\ LF b as a LF \b; C:\new is right
# Here: paths and commands with quotation marks as labels. What a program counts for two such
#   values are two lines with the same labels.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py prometheus-client==0.26.0
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "render"
version = "0.0.0"
edition = "2021"

[dependencies]
metrics = "=0.24.6"
metrics-exporter-prometheus = { version = "=0.18.3", default-features = false }
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for (name, value) in
            [("plain", r"C:\new"), ("two", r"\srv\share"), ("quote", r#"a\"b"#), ("line", "a\\\nb")]
        {
            metrics::gauge!(name, "label" => value).set(1.0);
        }
    });
    print!("{}", recorder.handle().render());
}
RS
cat >read.py <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families

families = text_string_to_metric_families(sys.stdin.read())
found = {family.name: family.samples[0].labels["label"] for family in families}
for name in ["plain", "two", "quote", "line"]:
    print(name, repr(found[name]))
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
target/debug/render >metrics
grep label metrics
got=$(PYTHONPATH=py python3 read.py <metrics)
echo "$got"
[[ $got == "plain 'C:\\\\new'
two '\\\\srv\\\\share'
quote 'a\"b'
line 'a\\n\\\\b'" ]] || changed "other values are read"
