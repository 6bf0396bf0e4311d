#!/usr/bin/env bash
# Behaviour: of several points of one metric the Rust crate keeps the first and drops the others,
#   without an error, if it is a gauge or of unknown type; with a counter of two points it refuses
#   the whole text. An exposition without metrics, "# EOF", it refuses as well.
# Versions: Rust crate openmetrics-parser 0.5.1, PyPI prometheus-client 0.26.0.
# Expected: the specification of OpenMetrics 1.0: a metric may have more than one point, if their
#   times grow, and an exposition may have no metric family. prometheus-client reads both.
# Seen: load of unit 0 3 at 10, 5 at 20, 4 at 30: prometheus-client has all, openmetrics-parser 3 at
#   10; calls 1 at 10, 4 at 20: both, an error; "# EOF": no family, an error
# Here: metrics that are collected and handed on later come so; all but the oldest value is lost,
#   and a guest without metrics of its own looks like one that is broken.
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
cat >gauge.txt <<'TXT'
# TYPE load gauge
load{unit="0"} 3 10
load{unit="0"} 5 20
load{unit="0"} 4 30
load{unit="1"} 2 10
# TYPE other unknown
other 1 10
other 2 20
# EOF
TXT
cat >counter.txt <<'TXT'
# TYPE calls counter
calls_total 1 10
calls_total 4 20
# EOF
TXT
echo '# EOF' >none.txt
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "points"
version = "0.0.0"
edition = "2021"

[dependencies]
openmetrics-parser = "=0.5.1"
TOML
cat >app/src/main.rs <<'RS'
use openmetrics_parser::openmetrics::parse_openmetrics;
use std::io::{read_to_string, stdin};

fn main() {
    match parse_openmetrics(&read_to_string(stdin()).expect("text")) {
        // Written again, without the lines on types.
        Ok(exposition) => {
            for line in exposition.to_string().lines().filter(|line| !line.starts_with('#')) {
                println!("{line}");
            }
        }
        Err(_) => println!("an error"),
    }
}
RS
cat >points.py <<'PY'
import sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

for family in text_fd_to_metric_families(sys.stdin):
    for sample in family.samples:
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        name = f"{sample.name}{{{labels}}}" if labels else sample.name
        print(name, f"{sample.value:g}", f"{float(sample.timestamp):g}")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
for file in gauge counter none; do
    echo "$file, prometheus-client:"
    PYTHONPATH=py python3 points.py <"$file.txt"
    echo "$file, openmetrics-parser:"
    target/debug/points <"$file.txt"
done >said
cat said
cat >wanted <<'SAID'
gauge, prometheus-client:
load{unit="0"} 3 10
load{unit="0"} 5 20
load{unit="0"} 4 30
load{unit="1"} 2 10
other 1 10
other 2 20
gauge, openmetrics-parser:
load{unit="0"} 3 10
load{unit="1"} 2 10
other 1 10
counter, prometheus-client:
calls_total 1 10
calls_total 4 20
counter, openmetrics-parser:
an error
none, prometheus-client:
none, openmetrics-parser:
an error
SAID
cmp -s said wanted || changed "other points"
