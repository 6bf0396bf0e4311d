#!/usr/bin/env bash
# Behaviour: a program under node:wasi that waits until a time of the monotonic clock, and for two
#   seconds at most, always waits for the two seconds: Node takes the time of day from that time,
#   and the negative difference is a very long one. Waits for so and so long, and until a time of
#   day, are right.
# Versions: Node 20, npm wabt 1.0.39, PyPI wasmtime 50.0.1.
# Expected: WASI (preview 1), subscription_clock: with the flag subscription_clock_abstime the
#   timeout is "an absolute timestamp of clock subscription_clock::id". wasmtime has it so.
# Seen: 0.2 s from now, and at most 2 s: relative, until a time of day, until a monotonic time:
#   node:wasi the first, the first, the limit; wasmtime the first of the three
# Here: clock_nanosleep() of wasi-libc waits so with TIMER_ABSTIME, and with it time.sleep() of
#   CPython 3.12; a program that was made for the shims oversleeps in Node.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime==50.0.1
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
# Waits for 0.2 s by clock and flags, and for 2 s at most; gives the number of what came first, 1 or
# 2. With the flag it waits until the clock's time and 0.2 s.
cat >wait.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "wait") (param $clock i32) (param $flags i32) (result i32)
    (call $must (call $clock_time_get (local.get $clock) (i64.const 1) (i32.const 200)))
    ;; Two subscriptions: a number, the type 0 (a clock), the clock, the time, flags.
    (i64.store (i32.const 0) (i64.const 1))
    (i32.store (i32.const 16) (local.get $clock))
    (i64.store (i32.const 24) (i64.add (i64.const 200000000)
      (select (i64.load (i32.const 200)) (i64.const 0) (local.get $flags))))
    (i32.store16 (i32.const 40) (local.get $flags))
    (i64.store (i32.const 48) (i64.const 2))
    (i32.store (i32.const 64) (i32.const 1))
    (i64.store (i32.const 72) (i64.const 2000000000))
    (call $must (call $poll_oneoff (i32.const 0) (i32.const 104) (i32.const 2) (i32.const 208)))
    ;; The number of the first event.
    (i32.wrap_i64 (i64.load (i32.const 104)))))
WAT
node_modules/.bin/wat2wasm wait.wat -o wait.wasm
cat >wait.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1" });
const module = new WebAssembly.Module(readFileSync("wait.wasm"));
const { exports } = new WebAssembly.Instance(module, wasi.getImportObject());
wasi.initialize({ exports: { memory: exports.memory } });
console.log(exports.wait(1, 0), exports.wait(0, 1), exports.wait(1, 1));
JS
cat >wait.py <<'PY'
from wasmtime import Engine, Linker, Module, Store, WasiConfig

store = Store(engine := Engine())
store.set_wasi(WasiConfig())
linker = Linker(engine)
linker.define_wasi()
wait = linker.instantiate(store, Module.from_file(engine, "wait.wasm")).exports(store)["wait"]
print(wait(store, 1, 0), wait(store, 0, 1), wait(store, 1, 1))
PY
of_node=$(node --no-warnings wait.mjs)
of_wasmtime=$(PYTHONPATH=py python3 wait.py)
echo "relative, until a time of day, until a monotonic time:"
echo "node:wasi $of_node, wasmtime $of_wasmtime"
[[ $of_node == "1 1 2" ]] || changed "node:wasi waits otherwise"
[[ $of_wasmtime == "1 1 1" ]] || changed "wasmtime waits otherwise"
