#!/usr/bin/env bash
# Behaviour: prometheus-parse leaves a sample out, without an error, if its name has a colon or a
#   label's value has a `}`; a value with a comma is cut off there, a label whose value has an `=`
#   is left out, and after ", " a name begins with a space.
# Versions: Rust crate prometheus-parse 0.2.5, PyPI prometheus-client 0.26.0.
# Expected: all five as written: by Prometheus' text format (Exposition formats, Text format
#   details) only `\`, `"` and the line feed are escaped in a value, and blanks may stand between
#   tokens; by its data model a name may have colons. prometheus-client reads all of them.
# Seen: 3 of 5 samples; {a: "x"} for a="x,y"; {} for a="p=q"; " b" for b
# Here: names of recording rules have colons (federation hands them on), and labels that hold a path
#   or a command have commas and equals signs: sums over what is left are wrong.
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
cat >metrics.txt <<'TXT'
job:calls:rate5m 1
calls{a="/{id}"} 2
calls{a="x,y"} 3
calls{a="p=q"} 4
calls{a="s", b="t"} 5
TXT
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "lines"
version = "0.0.0"
edition = "2021"

[dependencies]
prometheus-parse = "=0.2.5"
TOML
cat >app/src/main.rs <<'RS'
use prometheus_parse::{Scrape, Value};
use std::collections::BTreeMap;
use std::io::{stdin, BufRead};

fn main() {
    for sample in Scrape::parse(stdin().lock().lines()).expect("parse").samples {
        let Value::Untyped(value) = sample.value else { panic!("another type") };
        let labels: BTreeMap<_, _> = sample.labels.iter().collect();
        println!("{value} {} {labels:?}", sample.metric);
    }
}
RS
cat >lines.py <<'PY'
import json, sys
from prometheus_client.parser import text_fd_to_metric_families

for family in text_fd_to_metric_families(sys.stdin):
    for sample in family.samples:
        print("%g" % sample.value, sample.name, json.dumps(sample.labels))
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
of_rust=$(target/debug/lines <metrics.txt)
of_python=$(PYTHONPATH=py python3 lines.py <metrics.txt | sort)
printf '%s\n' "prometheus-parse:" "$of_rust" "prometheus-client:" "$of_python"
[[ $of_python == '1 job:calls:rate5m {}
2 calls {"a": "/{id}"}
3 calls {"a": "x,y"}
4 calls {"a": "p=q"}
5 calls {"a": "s", "b": "t"}' ]] || changed "prometheus-client reads something else"
[[ $of_rust == '3 calls {"a": "x"}
4 calls {}
5 calls {" b": "t", "a": "s"}' ]] || changed "prometheus-parse reads something else"
