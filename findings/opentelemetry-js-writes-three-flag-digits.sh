#!/usr/bin/env bash
# Behaviour: OpenTelemetry for JavaScript passes on trace flags from 0x10 up as three digits. That
#   is no traceparent: OpenTelemetry for Python, and JavaScript's own reader, drop it.
# Versions: npm @opentelemetry/core 2.12.1 and api 1.9.1, PyPI opentelemetry-api 1.45.2.
# Expected: two digits, by W3C Trace Context (traceparent Header Field Values: trace-flags =
#   2HEXDIGLC). A header of a later version, which may define more flags, is to be read too
#   (Versioning of traceparent), and the other flags are to be written as zero.
# Seen: 01-…-11 -> 00-…-011 -> no trace (Python alone: 00-…-11); 01-…-01 -> 00-…-01
# Here: a trace ends at the first service in JavaScript behind a sender that uses another flag.
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
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @opentelemetry/core@2.12.1 \
    @opentelemetry/api@1.9.1

# Each prints the header that it passes on.
cat >pass.py <<'PY'
import sys
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

propagator = TraceContextTextMapPropagator()
out = {}
propagator.inject(out, propagator.extract({"traceparent": sys.argv[1]}))
print(out.get("traceparent", "no trace"))
PY
cat >pass.js <<'JS'
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import * as api from "@opentelemetry/api";

const propagator = new W3CTraceContextPropagator();
const [get, set] = [api.defaultTextMapGetter, api.defaultTextMapSetter];
const out = {};
const sent = { traceparent: process.argv[2] };
propagator.inject(propagator.extract(api.ROOT_CONTEXT, sent, get), out, set);
console.log(out.traceparent ?? "no trace");
JS
ids=0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
for flags in 01 11; do
    passed=$(node pass.js "01-$ids-$flags")
    of_js=$(node pass.js "$passed")
    of_python=$(PYTHONPATH=py python3 pass.py "$passed")
    direct=$(PYTHONPATH=py python3 pass.py "01-$ids-$flags")
    echo "01-…-$flags: JavaScript $passed, then JavaScript $of_js, then Python $of_python;" \
        "Python alone $direct" | sed "s/$ids/…/g"
    if [[ $flags == 01 ]]; then
        [[ $passed == "00-$ids-01" && $of_js == "$passed" && $of_python == "$passed" ]] ||
            changed "the sampled flag alone is passed on otherwise"
    else
        [[ $passed == "00-$ids-011" ]] || changed "JavaScript passes on $passed"
        [[ $of_js == 'no trace' && $of_python == 'no trace' ]] || changed "it is read"
    fi
done
