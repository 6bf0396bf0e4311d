#!/usr/bin/env bash
# Behaviour: OpenTelemetry's SDK for Rust takes the values of OTEL_RESOURCE_ATTRIBUTES as they are:
#   `a%2Cb` stays, where those for Python and JavaScript make `a,b` of it. A value with a comma, which
#   has to be encoded, so has two names in one system.
# Versions: Rust crate opentelemetry_sdk 0.33.1; PyPI opentelemetry-sdk 1.45.2; npm
#   @opentelemetry/resources 2.12.1 and api 1.9.1.
# Expected: OpenTelemetry's specification, Resource SDK ("Specifying resource information via an
#   environment variable"): characters such as `,` and `=` are percent-encoded, and values decoded.
# Seen: team=a%2Cb,place=north%20pole: "a%2Cb", "north%20pole" by Rust; "a,b", "north pole" by Python
#   and JavaScript
# Here: the daemon's traces have the attributes of its environment by this SDK, and a query for a value
#   finds the spans of the guests' own SDKs and not those of the daemon.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py opentelemetry-sdk==1.45.2 opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund --ignore-scripts @opentelemetry/resources@2.12.1 \
    @opentelemetry/api@1.9.1
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "attributes"
version = "0.0.0"
edition = "2021"

[dependencies.opentelemetry_sdk]
version = "=0.33.1"
default-features = false
TOML
cat >app/src/main.rs <<'RS'
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector};

fn main() {
    for (key, value) in EnvResourceDetector::new().detect().iter() {
        println!("{key}: {}", value.as_str());
    }
}
RS
cat >attributes.py <<'PY'
from opentelemetry.sdk.resources import OTELResourceDetector

for key, value in OTELResourceDetector().detect().attributes.items():
    print(f"{key}: {value}")
PY
cat >attributes.js <<'JS'
const { envDetector } = require("@opentelemetry/resources");

for (const [key, value] of Object.entries(envDetector.detect().attributes)) {
  console.log(`${key}: ${value}`);
}
JS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
export OTEL_RESOURCE_ATTRIBUTES=team=a%2Cb,place=north%20pole,plain=1
rust=$(target/debug/attributes | sort)
python=$(PYTHONPATH=py python3 attributes.py | sort)
javascript=$(node attributes.js | sort)
printf '%s\n' "$OTEL_RESOURCE_ATTRIBUTES" "by Rust:" "$rust" "by Python:" "$python" \
    "by JavaScript:" "$javascript"
decoded='place: north pole
plain: 1
team: a,b'
[[ $python == "$decoded" ]] || changed "Python reads them otherwise"
[[ $javascript == "$decoded" ]] || changed "JavaScript reads them otherwise"
[[ $rust == 'place: north%20pole
plain: 1
team: a%2Cb' ]] || changed "Rust reads them otherwise"
