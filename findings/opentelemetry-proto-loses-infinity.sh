#!/usr/bin/env bash
# Behaviour: the Rust crate reads a number that is "NaN" or "Infinity" in OTLP's JSON as no value at
#   all, and a metric that has one within as a metric without data, without an error; it writes null
#   for such a number.
# Versions: Rust crates opentelemetry-proto 0.33.1 (with-serde), serde_json 1.0.154; PyPI
#   opentelemetry-proto 1.45.2, protobuf 7.36.2.
# Expected: OTLP/JSON is the JSON of protobuf, by which these numbers are the strings "NaN",
#   "Infinity" and "-Infinity", written and read; Python's has it so.
# Seen: a gauge of infinity, NaN and 1: two points without a value, and 1; a histogram of 3 calls
#   with an infinite sum: no data; with the sum 1.5: 3 calls; an infinite sum written: null
# Here: an infinite or undefined number is rare and then the one that matters; metrics that are kept
#   as JSON and read again have lost it, and the counts of the calls with it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py opentelemetry-proto==1.45.2 protobuf==7.36.2
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "metrics"
version = "0.0.0"
edition = "2021"

[dependencies]
serde_json = "=1.0.154"

[dependencies.opentelemetry-proto]
version = "=0.33.1"
default-features = false
features = ["gen-tonic-messages", "metrics", "with-serde"]
TOML
cat >app/src/main.rs <<'RS'
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, HistogramDataPoint, Metric};

fn main() {
    for line in std::io::stdin().lines() {
        let metric: Metric = serde_json::from_str(&line.expect("line")).expect("JSON of a metric");
        let data = match metric.data {
            None => "no data".to_owned(),
            Some(Data::Gauge(gauge)) => {
                let values = gauge.data_points.iter().map(|point| &point.value);
                format!("{:?}", values.collect::<Vec<_>>())
            }
            Some(Data::Histogram(histogram)) => {
                let points = histogram.data_points.iter();
                format!("{:?}", points.map(|point| (point.count, point.sum)).collect::<Vec<_>>())
            }
            Some(_) => "other data".to_owned(),
        };
        println!("{}: {data}", metric.name);
    }
    let point = HistogramDataPoint { sum: Some(f64::INFINITY), ..Default::default() };
    let written = serde_json::to_value(&point).expect("JSON");
    println!("written: {}", written["sum"]);
}
RS
cat >metrics.py <<'PY'
import math
from google.protobuf.json_format import MessageToJson, Parse
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

gauge, infinite, finite = metrics = [Metric(name=name) for name in ("gauge", "infinite", "finite")]
for value in math.inf, math.nan, 1:
    gauge.gauge.data_points.add(as_double=value)
infinite.histogram.data_points.add(count=3, sum=math.inf, bucket_counts=[3])
finite.histogram.data_points.add(count=3, sum=1.5, bucket_counts=[3])
for metric in metrics:
    text = MessageToJson(metric, indent=None)
    assert MessageToJson(Parse(text, Metric()), indent=None) == text
    print(text)
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
PYTHONPATH=py python3 metrics.py >metrics.jsonl || changed "Python reads or writes it otherwise"
said=$(target/debug/metrics <metrics.jsonl)
echo "by Python:"
cat metrics.jsonl
printf '%s\n' "by Rust:" "$said"
grep -q '"asDouble": "Infinity"' metrics.jsonl || changed "Python writes infinity otherwise"
grep -q '"asDouble": "NaN"' metrics.jsonl || changed "Python writes NaN otherwise"
wanted=$(
    cat <<'SAID'
gauge: [None, None, Some(AsDouble(1.0))]
infinite: no data
finite: [(3, Some(1.5))]
written: null
SAID
)
[[ $said == "$wanted" ]] || changed "Rust reads or writes it otherwise"
