#!/usr/bin/env bash
# Behaviour: one histogram has other bounds in each of the two text formats that prometheus-client
#   writes: `le="1.0"` in OpenMetrics, `le="1"` in Prometheus' own. A server that changes the format
#   it asks for, which is a matter of its version, begins new series, and queries by `le` miss half.
# Versions: Rust crate prometheus-client 0.26.0.
# Expected: OpenMetrics' canonical numbers in both, as the label is the identity of a series.
# Seen: t_bucket{le="1.0"} 1, t_bucket{le="1"} 1
# Here: a test compares both formats of the daemon's metrics without the bounds of buckets.
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
name = "buckets"
version = "0.0.0"
edition = "2021"

[dependencies]
prometheus-client = "=0.26.0"
TOML
cat >app/src/main.rs <<'RS'
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

fn main() {
    let mut registry = Registry::default();
    let times = Histogram::new([1.0]);
    registry.register("t", "Times", times.clone());
    times.observe(0.5);
    let (mut open, mut plain) = (String::new(), String::new());
    text::encode(&mut open, &registry).unwrap();
    prometheus_text::encode(&mut plain, &registry).unwrap();
    for text in [open, plain] {
        println!("{}", text.lines().find(|line| line.starts_with("t_bucket")).unwrap());
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo run -q --manifest-path app/Cargo.toml >said
cat said
grep -q '^t_bucket{le="1.0"} 1$' said || changed "OpenMetrics has another bound"
grep -q '^t_bucket{le="1"} 1$' said || changed "Prometheus' format has another bound"
