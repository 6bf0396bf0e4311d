#!/usr/bin/env bash
# Behaviour: an empty OTEL_EXPORTER_OTLP_TRACES_HEADERS hides OTEL_EXPORTER_OTLP_HEADERS from the
#   Rust exporter: it sends no header at all. Of the empty variable of the endpoint it takes no
#   notice.
# Versions: Rust crates opentelemetry-otlp, opentelemetry-http, opentelemetry_sdk and opentelemetry
#   0.33.1, PyPI opentelemetry-exporter-otlp-proto-http 1.45.2.
# Expected: OpenTelemetry's specification (environment variables, parsing empty value): "The SDK
#   MUST interpret an empty value of an environment variable the same way as when the variable is
#   unset." Python's exporter has it so.
# Seen: HEADERS=authorization=a: Rust a, Python a; with an empty TRACES_HEADERS beside it: Rust
#   nothing, Python a; with an empty TRACES_ENDPOINT both have the endpoint of ENDPOINT
# Here: the daemon's traces leave by this crate; a unit or a chart that sets the variable to nothing
#   takes the authorization away, without which a collector may refuse the traces.
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
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "headers"
version = "0.0.0"
edition = "2021"

[dependencies]
async-trait = "0.1"
bytes = "1"
http = "1"
opentelemetry = { version = "=0.33.1", default-features = false, features = ["trace"] }
opentelemetry-http = { version = "=0.33.1", default-features = false }
opentelemetry_sdk = { version = "=0.33.1", default-features = false, features = ["trace"] }

[dependencies.opentelemetry-otlp]
version = "=0.33.1"
default-features = false
features = ["http-proto", "trace"]
TOML
cat >app/src/main.rs <<'RS'
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;

/// Prints what would be sent.
#[derive(Debug)]
struct Printer;

#[async_trait::async_trait]
impl HttpClient for Printer {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let value = request.headers().get("authorization");
        let value = value.map_or("none", |value| value.to_str().expect("text"));
        println!("{} {value}", request.uri());
        Ok(Response::new(Bytes::new()))
    }
}

fn main() {
    let exporter = SpanExporter::builder().with_http().with_http_client(Printer);
    let exporter = exporter.build().expect("exporter");
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    provider.tracer("test").start("span").end();
}
RS
cat >headers.py <<'PY'
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


class Printer(requests.Session):
    def send(self, request, **options):
        print(request.url, request.headers.get("authorization", "none"))
        response = requests.Response()
        response.status_code = 200
        return response


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(session=Printer())))
provider.get_tracer("test").start_span("span").end()
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
name=OTEL_EXPORTER_OTLP
# both VARIABLE=VALUE…: what the two send with these variables.
both() {
    echo "$*"
    echo "  Rust: $(env "$@" target/debug/headers)"
    echo "  Python: $(PYTHONPATH=py env "$@" python3 headers.py)"
}
said=$(
    both ${name}_HEADERS=authorization=a
    both ${name}_HEADERS=authorization=a ${name}_TRACES_HEADERS=
    both ${name}_ENDPOINT=http://a ${name}_TRACES_ENDPOINT=
)
echo "$said"
default=http://localhost:4318/v1/traces
wanted=$(
    cat <<SAID
${name}_HEADERS=authorization=a
  Rust: $default a
  Python: $default a
${name}_HEADERS=authorization=a ${name}_TRACES_HEADERS=
  Rust: $default none
  Python: $default a
${name}_ENDPOINT=http://a ${name}_TRACES_ENDPOINT=
  Rust: http://a/v1/traces none
  Python: http://a/v1/traces none
SAID
)
[[ $said == "$wanted" ]] || changed "they send something else"
