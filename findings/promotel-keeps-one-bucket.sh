#!/usr/bin/env bash
# Behaviour: promotel, which turns Prometheus' text into OTLP, keeps of a histogram's buckets the
#   last one: all counts are in one bucket without a bound. A gauge named like a sum or a count is a
#   histogram without buckets, and a line with a `}` in a label, with NaN, with +Inf or with a time
#   before 1970 is left out. No error is raised.
# Versions: npm @platformatic/promotel 0.2.2, Node 20.
# Expected: OTLP (metrics.proto): bucket_counts of bounds 0.1 and 1 are 3, 2 and 1 for the
#   cumulative 3, 5 and 6; and by the text format's page (exposition formats) the type of a family
#   is what its TYPE says, a value may be NaN or infinite, and a label has any letter.
# Seen: histogram: counts 6, no bounds, sum 2.5, count 6; gauge files_count: histogram "files" with
#   count 4; of the four further lines: nothing
# Here: the shims' and the daemon's metrics have such histograms; quantiles of what this package
#   passes on do not exist.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @platformatic/promotel@0.2.2
cat >convert.mjs <<'JS'
import { convert, parse } from "@platformatic/promotel";

const metrics = (text) => convert(parse(text)).resource_metrics[0].scope_metrics[0].metrics;
const show = ({ name, ...kinds }) =>
  Object.entries(kinds).map(([kind, { data_points: [point] }]) =>
    kind === "histogram"
      ? `${name}: counts ${point.bucket_counts}, bounds ${point.explicit_bounds}, ` +
        `sum ${point.sum}, count ${point.count}`
      : `${name}: ${kind} ${point.as_double}`,
  );
const texts = [
  `# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 3
wait_seconds_bucket{le="1"} 5
wait_seconds_bucket{le="+Inf"} 6
wait_seconds_sum 2.5
wait_seconds_count 6`,
  "# TYPE files_count gauge\nfiles_count 4",
  "# TYPE load gauge\nload 1.5",
  '# TYPE load gauge\nload{set="{a}"} 1.5',
  "# TYPE load gauge\nload NaN",
  "# TYPE load gauge\nload +Inf",
  "# TYPE load gauge\nload 1.5 -1000",
];
for (const text of texts) {
  const line = text.split("\n")[1];
  console.log(`${line} -> ${metrics(text).flatMap(show).join("; ") || "nothing"}`);
}
JS
said=$(node convert.mjs)
echo "$said"
wanted=$(
    cat <<'SAID'
wait_seconds_bucket{le="0.1"} 3 -> wait_seconds: counts 6, bounds , sum 2.5, count 6
files_count 4 -> files: counts , bounds , sum 0, count 4
load 1.5 -> load: gauge 1.5
load{set="{a}"} 1.5 -> nothing
load NaN -> nothing
load +Inf -> nothing
load 1.5 -1000 -> nothing
SAID
)
[[ $said == "$wanted" ]] || changed "it converts them otherwise"
