#!/usr/bin/env bash
# Behaviour: OpenTelemetry's baggage for Python takes a `+` in a value for a space and writes a
#   space as `+`, as in forms. OpenTelemetry for JavaScript does neither, so "a b" from Python is
#   "a+b" there. Python also makes an entry's properties a part of its value, and passes them on so.
# Versions: PyPI opentelemetry-api 1.45.2, npm @opentelemetry/core 2.12.1 and api 1.9.1.
# Expected: by W3C Baggage (Baggage HTTP Header Format, Header Content) `+` is a character like
#   others in a value, a space is %20, and what follows `;` are properties, which are no value.
# Seen: k=1+1: Python "1 1", JavaScript "1+1"; k=a%20b: passed on by Python, JavaScript has "a+b";
#   k=v;p=1: Python "v;p=1", JavaScript "v"
# Here: baggage goes through components in several languages; a version like 1.2+3 or a zone like
#   +02:00, sent as it is, is another value in one of them.
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

# Each prints the value of k that it gets, and the header that it passes on.
cat >pass.py <<'PY'
import sys
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator

propagator = W3CBaggagePropagator()
context = propagator.extract({"baggage": sys.argv[1]})
out = {}
propagator.inject(out, context)
print(baggage.get_baggage("k", context), "->", out["baggage"])
PY
cat >pass.js <<'JS'
import { W3CBaggagePropagator } from "@opentelemetry/core";
import * as api from "@opentelemetry/api";

const propagator = new W3CBaggagePropagator();
const [get, set] = [api.defaultTextMapGetter, api.defaultTextMapSetter];
const context = propagator.extract(api.ROOT_CONTEXT, { baggage: process.argv[2] }, get);
const out = {};
propagator.inject(context, out, set);
const { value } = api.propagation.getBaggage(context).getEntry("k");
console.log(value, "->", out.baggage);
JS
seen=$(for header in 'k=1+1' 'k=a%20b' 'k=v;p=1'; do
    python=$(PYTHONPATH=py python3 pass.py "$header")
    echo "$header Python: $python | JavaScript: $(node pass.js "$header")" \
        "| both: $(node pass.js "${python##* -> }")"
done)
echo "$seen"
[[ $seen == 'k=1+1 Python: 1 1 -> k=1+1 | JavaScript: 1+1 -> k=1%2B1 | '*'
k=a%20b Python: a b -> k=a+b | JavaScript: a b -> k=a%20b | both: a+b -> k=a%2Bb
k=v;p=1 Python: v;p=1 -> k=v%3Bp%3D1 | JavaScript: v -> k=v;p=1 | both: v;p=1 -> '* ]] ||
    changed "other values"
