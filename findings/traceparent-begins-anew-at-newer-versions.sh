#!/usr/bin/env bash
# Behaviour: the package traceparent begins another trace where a header of a later version has a field
#   behind the flags, passes on the later version as its own where there is none, and continues a trace
#   whose identifier is zero, which is none.
# Versions: npm traceparent 1.0.0; PyPI opentelemetry-api 1.45.2.
# Expected: W3C Trace Context (Versioning of traceparent): the four fields of a higher version are read,
#   what follows is ignored, and the version written is one's own, 00; an all-zero trace-id is invalid
#   and the header ignored. OpenTelemetry for Python does both.
# Seen: 01-…-01: passed on as 01-…, by Python as 00-…; 01-…-01-more: another trace, by Python 00-…;
#   00-0…0-…-01: the trace 0…0, by Python none
# Here: a request to a guest has a traceparent from whatever sent it, and the guest's own requests go
#   on with it to services in any language; at one with this package a newer sender's trace ends.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py opentelemetry-api==1.45.2 \
    typing-extensions==4.16.0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts traceparent@1.0.0

# Each prints version and trace of what it passes on.
cat >pass.js <<'JS'
const TraceParent = require("traceparent");

const sent = process.argv[2];
const passed = TraceParent.startOrResume(sent, { transactionSampleRate: 0 });
const same = passed.traceId === sent.split("-")[1] ? passed.traceId : "another trace";
console.log(`${passed.version}-${same}`);
JS
cat >pass.py <<'PY'
import sys
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

propagator = TraceContextTextMapPropagator()
out = {}
propagator.inject(out, propagator.extract({"traceparent": sys.argv[1]}))
print(out["traceparent"][:35] if out else "no trace")
PY
trace=0af7651916cd43dd8448eb211c80319c
none=00000000000000000000000000000000
parent=b7ad6b7169203331
# check HEADER BY-TRACEPARENT BY-PYTHON
check() {
    local package python
    package=$(node pass.js "$1")
    python=$(PYTHONPATH=py python3 pass.py "$1")
    echo "$1: traceparent $package, Python $python"
    [[ $package == "$2" ]] || changed "traceparent passes on $package"
    [[ $python == "$3" ]] || changed "Python passes on $python"
}
check "00-$trace-$parent-01" "00-$trace" "00-$trace"
check "01-$trace-$parent-01" "01-$trace" "00-$trace"
check "01-$trace-$parent-01-more" '00-another trace' "00-$trace"
check "00-$none-$parent-01" "00-$none" 'no trace'
