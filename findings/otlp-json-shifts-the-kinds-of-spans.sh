#!/usr/bin/env bash
# Behaviour: otlp-json writes the kind of a span one too low: a server's span is INTERNAL, a
#   client's SERVER, a producer's CLIENT and a consumer's PRODUCER. Links of a span and its trace
#   state are left out.
# Versions: PyPI otlp-json 1.0.1, opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-common
#   1.45.2, protobuf 7.36.2.
# Expected: OTLP (trace.proto): SPAN_KIND_INTERNAL is 1, SERVER 2, CLIENT 3, PRODUCER 4, CONSUMER 5,
#   as OpenTelemetry's own exporter has it; Python's enum begins with INTERNAL as 0.
# Seen: INTERNAL 1 1, SERVER 2 1, CLIENT 3 2, PRODUCER 4 3, CONSUMER 5 4 (own exporter, otlp-json);
#   a span with a link and the trace state a=1: 1 link and a=1, neither
# Here: a call that a component makes and the shims' daemon are in one trace; where a service's
#   spans come by this package, each call is its own server's, and graphs of services are wrong.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py otlp-json==1.0.1 opentelemetry-sdk==1.45.2 \
    opentelemetry-exporter-otlp-proto-common==1.45.2 protobuf==7.36.2
cat >kinds.py <<'PY'
import json

import otlp_json
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context,
)

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("test")
other = SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "1")]))
context = set_span_in_context(NonRecordingSpan(other))
for kind in SpanKind:
    tracer.start_span(kind.name, context, kind, links=[Link(other)]).end()
spans = exporter.get_finished_spans()
own = encode_spans(spans).resource_spans[0].scope_spans[0].spans
written = json.loads(otlp_json.encode_spans(spans))["resourceSpans"][0]["scopeSpans"][0]["spans"]
for first, second in zip(own, written, strict=True):
    print(f"{first.name}: own {first.kind}, {len(first.links)} links, {first.trace_state};",
          f"otlp-json {second['kind']}, links {second.get('links')}, {second.get('traceState')}")
PY
said=$(PYTHONPATH=py python3 kinds.py)
echo "$said"
wanted=$(
    cat <<'SAID'
INTERNAL: own 1, 1 links, a=1; otlp-json 1, links None, None
SERVER: own 2, 1 links, a=1; otlp-json 1, links None, None
CLIENT: own 3, 1 links, a=1; otlp-json 2, links None, None
PRODUCER: own 4, 1 links, a=1; otlp-json 3, links None, None
CONSUMER: own 5, 1 links, a=1; otlp-json 4, links None, None
SAID
)
[[ $said == "$wanted" ]] || changed "it writes them otherwise"
