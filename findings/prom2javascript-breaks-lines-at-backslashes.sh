#!/usr/bin/env bash
# Behaviour: prom2javascript reads the label `C:\new` with a line break in it, since it looks for
#   `\n` after it has made one backslash of two. A metric whose name has a colon, or with a value of
#   NaN, -Inf or +1, makes the whole text an error, and so does one named like a method of objects.
# Versions: npm prom2javascript 0.2.0, PyPI prometheus-client 0.26.0, Node 20.
# Expected: Prometheus' text format (exposition formats): `\\` is a backslash, `\n` a line break;
#   values are what Go's ParseFloat takes, "NaN, +Inf, and -Inf are valid values"; names have
#   [a-zA-Z0-9_:].
# Seen: disk{path="C:\\new"} 1: C:, a line break, ew; Python's parser: C:\new. job:waits:sum 1,
#   quiet NaN, low -Inf, one +1: "Unable to parse metric"; constructor 1: another error
# Here: a quantile of a summary without observations is NaN; with one such line no metric of the
#   same page is read, the shims' own ones neither.
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
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts prom2javascript@0.2.0
cat >lines <<'LINES'
disk{path="C:\\new"} 1
disk{path="a\nb"} 1
load 1.5
job:waits:sum 1
quiet NaN
low -Inf
one +1
constructor 1
LINES
cat >read.js <<'JS'
const { readFileSync } = require("node:fs");
const { getMetricsFromIterator } = require("prom2javascript");

async function main() {
  for (const line of readFileSync("lines", "utf8").trim().split("\n")) {
    try {
      const [metric] = Object.values(await getMetricsFromIterator([line].values()));
      const [{ labels, value }] = metric.data;
      console.log(`${line} -> ${JSON.stringify(labels)} ${value}`);
    } catch (error) {
      console.log(`${line} -> ${error.constructor.name}`);
    }
  }
}
main();
JS
cat >read.py <<'PY'
import json
from prometheus_client.parser import text_string_to_metric_families

for line in open("lines"):
    family, = text_string_to_metric_families(line)
    sample, = family.samples
    print(f"{line.strip()} -> {json.dumps(sample.labels, separators=(',', ':'))} {sample.value:g}")
PY
of_node=$(node read.js)
of_python=$(PYTHONPATH=py python3 read.py)
printf '%s\n' "prom2javascript:" "$of_node" "Python:" "$of_python"
[[ $of_node == 'disk{path="C:\\new"} 1 -> {"path":"C:\new"} 1
disk{path="a\nb"} 1 -> {"path":"a\nb"} 1
load 1.5 -> {} 1.5
job:waits:sum 1 -> Error
quiet NaN -> Error
low -Inf -> Error
one +1 -> Error
constructor 1 -> TypeError' ]] || changed "prom2javascript reads them otherwise"
[[ $of_python == 'disk{path="C:\\new"} 1 -> {"path":"C:\\new"} 1
disk{path="a\nb"} 1 -> {"path":"a\nb"} 1
load 1.5 -> {} 1.5
job:waits:sum 1 -> {} 1
quiet NaN -> {} nan
low -Inf -> {} -inf
one +1 -> {} 1
constructor 1 -> {} 1' ]] || changed "Python reads them otherwise"
