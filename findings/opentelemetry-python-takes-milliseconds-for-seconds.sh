#!/usr/bin/env bash
# Behaviour: with OTEL_EXPORTER_OTLP_TIMEOUT=5 the exporter of JavaScript gives up after 5 ms, and
#   Python's after 5 s: it takes the number for seconds. 0.3, which it takes, is no valid value.
# Versions: PyPI opentelemetry-exporter-otlp-proto-http 1.45.2, npm
#   @opentelemetry/exporter-trace-otlp-http 0.57.2, sdk-trace-base 1.30.1, api 1.9.1, Node 20.
# Expected: OpenTelemetry's specification (environment variables, duration): "Any value that
#   represents a duration MUST be an integer representing a number of milliseconds."
# Seen: a collector that does not answer: 5: JavaScript gives up within 3 s, Python after 5 s; 0.3:
#   Python within 3 s
# Here: the variables of a template are the same for all containers of a pod; where Python is among
#   them, it waits a thousand times as long for its collector.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py opentelemetry-exporter-otlp-proto-http==1.45.2
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts \
    @opentelemetry/exporter-trace-otlp-http@0.57.2 @opentelemetry/sdk-trace-base@1.30.1 \
    @opentelemetry/api@1.9.1
# Both have a collector of their own, which takes connections and does not answer.
cat >wait.js <<'JS'
const { createServer } = require("node:http");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-http");
const { BasicTracerProvider } = require("@opentelemetry/sdk-trace-base");

const server = createServer(() => {}).listen(0, "127.0.0.1", () => {
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${server.address().port}`;
  const span = new BasicTracerProvider().getTracer("test").startSpan("span");
  span.end();
  const start = performance.now();
  new OTLPTraceExporter().export([span], ({ error }) => {
    const seconds = (performance.now() - start) / 1000;
    console.log(error ? "gave up" : "sent", seconds < 3 ? "within 3 s" : "later");
    process.exit();
  });
});
JS
cat >wait.py <<'PY'
import logging, os, socket, time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider

logging.disable()
server = socket.create_server(("127.0.0.1", 0))
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.getsockname()[1]}"
span = TracerProvider().get_tracer("test").start_span("span")
span.end()
start = time.monotonic()
result = OTLPSpanExporter().export([span])
seconds = time.monotonic() - start
print("gave up" if result.name == "FAILURE" else "sent",
      "within 3 s" if seconds < 3 else "after 5 s" if seconds > 4.9 else seconds)
PY
# with TIMEOUT COMMAND…: what it says.
with() {
    OTEL_EXPORTER_OTLP_TIMEOUT=$1 PYTHONPATH=py "${@:2}"
}
said=$(
    echo "5: JavaScript $(with 5 node wait.js)"
    echo "5: Python $(with 5 python3 wait.py)"
    echo "0.3: Python $(with 0.3 python3 wait.py)"
)
echo "$said"
[[ $said == '5: JavaScript gave up within 3 s
5: Python gave up after 5 s
0.3: Python gave up within 3 s' ]] || changed "they wait otherwise"
