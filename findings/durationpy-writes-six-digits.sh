#!/usr/bin/env bash
# Behaviour: durationpy writes of a duration's seconds six digits: 12.345678 s is "12.3457s". A fraction
#   below 0.1 ms beside minutes or hours is lost or comes with an exponent, which neither Go nor
#   durationpy itself reads. Below one second nothing is lost.
# Versions: PyPI durationpy 0.11.
# Expected: Go's time.Duration (String, ParseDuration), whose strings these are: all digits, and no
#   exponents; a timedelta has microseconds. The README names no limit.
# Seen: 0.123456: 123ms456us; 12.345678: 12.3457s, read as 12.3457; 61.000002: 1m1s; 3600.000001:
#   "1h1e-06s", which is an error
# Here: Kubernetes' client for Python reads durations with this package; a tool that writes one with it
#   into a resource changes it, or Kubernetes refuses it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py durationpy==0.11
cat >write.py <<'PY'
from datetime import timedelta
import durationpy

for seconds in 0.123456, 90.5, 12.345678, 61.000002, 3600.000001:
    text = durationpy.to_str(timedelta(seconds=seconds))
    try:
        read = durationpy.from_str(text).total_seconds()
    except durationpy.DurationError as error:
        read = error
    print(f"{seconds}: {text}, read as {read}")
PY
seen=$(PYTHONPATH=py python3 write.py)
echo "$seen"
[[ $seen == '0.123456: 123ms456us, read as 0.123456
90.5: 1m30.5s, read as 90.5
12.345678: 12.3457s, read as 12.3457
61.000002: 1m1s, read as 61.0
3600.000001: 1h1e-06s, read as Unknown unit e in duration 1h1e-06s' ]] || changed "it writes them otherwise"
