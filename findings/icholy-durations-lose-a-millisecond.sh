#!/usr/bin/env bash
# Behaviour: @icholy/duration and duration-js multiply floats and cut off what is behind the
#   point: 1.001s are 1000 ms, 4.35h a millisecond less than 4h21m, and so for one of 105 texts
#   from 0.001s to 9.999s. `truncate` of the first rounds up, so that 1.9s is 2s in whole seconds.
# Versions: npm @icholy/duration 5.1.0, duration-js 4.0.0, Node 20; PyPI goduration 0.1.0.
# Expected: their smallest unit is the millisecond, and these are whole numbers of it. The package
#   time of Go, whose notation it is: ParseDuration gives 1.001s and 4h21m0s, Truncate rounds
#   toward zero, as goduration does.
# Seen: 1.001s: 1s, Go 1.001s; 4.35h: 4h20m59s999ms, Go 4h21m0s; 1.9s in whole seconds: 2s, Go 1s
# Here: timeouts of containerd's and Kubernetes' settings are written so; a comparison with what a
#   tool reads of one fails.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py goduration==0.1.0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @icholy/duration@5.1.0 duration-js@4.0.0
cat >read.js <<'JS'
const { Duration } = require("@icholy/duration");
const Other = require("duration-js");

for (const text of ["1m30s", "1.001s", "4.35h", "1.9s"]) {
  console.log(`${text}: @icholy/duration ${new Duration(text)}, duration-js ${new Other(text)}`);
}
console.log(`1.9s in whole seconds: ${new Duration("1.9s").truncate("1s")}`);
let wrong = 0;
for (let ms = 1; ms < 10000; ms++) {
  if (new Duration(`${(ms / 1000).toFixed(3)}s`).valueOf() !== ms) wrong++;
}
console.log(`wrong of 9999: ${wrong}`);
JS
cat >read.py <<'PY'
from goduration.go import SECOND, Duration

for text in "1m30s", "1.001s", "4.35h", "1.9s":
    print(f"{text}: Go {Duration.parse(text)}")
print("1.9s in whole seconds: Go", Duration.parse("1.9s").truncate(SECOND))
PY
seen="$(node read.js)
$(PYTHONPATH=py python3 read.py)"
echo "$seen"
wanted=$(
    cat <<'SEEN'
1m30s: @icholy/duration 1m30s, duration-js 1m30s
1.001s: @icholy/duration 1s, duration-js 1s
4.35h: @icholy/duration 4h20m59s999ms, duration-js 4h20m59s999ms
1.9s: @icholy/duration 1s900ms, duration-js 1s900ms
1.9s in whole seconds: 2s
wrong of 9999: 95
1m30s: Go 1m30s
1.001s: Go 1.001s
4.35h: Go 4h21m0s
1.9s: Go 1.9s
1.9s in whole seconds: Go 1s
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the durations otherwise"
