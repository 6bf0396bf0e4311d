#!/usr/bin/env bash
# Behaviour: parse-prometheus-text-format makes one histogram of all the series of a histogram: its
#   buckets are those of the last series, the labels are gone, and so are the sums and the counts. A
#   summary likewise; a counter keeps its series.
# Version: npm parse-prometheus-text-format 1.1.1.
# Expected: one histogram for each set of labels besides `le`, with its own buckets, sum and count,
#   by Prometheus' text format (Exposition formats, Histograms and summaries) and data model.
# Seen: histogram: [{"buckets":{"1":"5","+Inf":"6"}}]; summary: [{"quantiles":{"0.5":"4"}}];
#   counter: 2 series with their labels
# Here: a table of how long each guest's calls take has one line, of some guest, without its name.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts parse-prometheus-text-format@1.1.1
cat >metrics.txt <<'TXT'
# TYPE seconds histogram
seconds_bucket{guest="a",le="1"} 90
seconds_bucket{guest="a",le="+Inf"} 100
seconds_sum{guest="a"} 60
seconds_count{guest="a"} 100
seconds_bucket{guest="b",le="1"} 5
seconds_bucket{guest="b",le="+Inf"} 6
seconds_sum{guest="b"} 7
seconds_count{guest="b"} 6
# TYPE wait summary
wait{guest="a",quantile="0.5"} 3
wait_sum{guest="a"} 30
wait_count{guest="a"} 10
wait{guest="b",quantile="0.5"} 4
wait_sum{guest="b"} 40
wait_count{guest="b"} 10
# TYPE calls counter
calls{guest="a"} 100
calls{guest="b"} 6
TXT
cat >families.cjs <<'JS'
const parse = require("parse-prometheus-text-format");
const text = require("fs").readFileSync("metrics.txt", "utf8");
for (const { type, metrics } of parse(text)) console.log(type, JSON.stringify(metrics));
JS
said=$(node families.cjs)
echo "$said"
[[ $said == 'HISTOGRAM [{"buckets":{"1":"5","+Inf":"6"}}]
SUMMARY [{"quantiles":{"0.5":"4"}}]
COUNTER [{"value":"100","labels":{"guest":"a"}},{"value":"6","labels":{"guest":"b"}}]' ]] ||
    changed "it reads something else"
