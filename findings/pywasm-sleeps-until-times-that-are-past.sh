#!/usr/bin/env bash
# Behaviour: in pywasm's WASI a program that waits until a time that was half a second ago waits for
#   half a second, and one that waits until a time to come ends with Python's error "timeout must be
#   non-negative": the difference to now has the wrong sign.
# Versions: PyPI pywasm 2.2.3, wasmtime 50.0.1.
# Expected: WASI (preview 1), `subscription_clock_abstime`: "treat the timestamp provided in
#   `subscription_clock::timeout` as an absolute timestamp": a time in the past is reached at once.
#   wasmtime does so.
# Seen: waited until half a second ago, and until in half a second: wasmtime: less than 0.4 s, 0.5 s
#   or more; pywasm: 0.5 s or more, "timeout must be non-negative"
# Here: programs that wait for a deadline (clock_nanosleep, as Python's time.sleep) run under the
#   shims and not under this host.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pywasm==2.2.3 wasmtime==50.0.1

# wait(nanoseconds): waits until the realtime clock shows that much more than now; the result is
# the time that it took.
cat >wait.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func $now (result i64)
    (call $must (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 8)))
    (i64.load (i32.const 8)))
  (func (export "wait") (param i64) (result i64) (local $begin i64)
    (local.set $begin (call $now))
    ;; A subscription, at 96: a clock (0), realtime (0), the time, and abstime (1).
    (i64.store (i32.const 120) (i64.add (local.get $begin) (local.get 0)))
    (i32.store16 (i32.const 136) (i32.const 1))
    (call $must (call $poll_oneoff
      (i32.const 96) (i32.const 200) (i32.const 1) (i32.const 16)))
    (i64.sub (call $now) (local.get $begin))))
WAT
cat >wait.py <<'PY'
import pywasm
import wasmtime

open("wait.wasm", "wb").write(wasmtime.wat2wasm(open("wait.wat").read()))
store = wasmtime.Store()
store.set_wasi(wasmtime.WasiConfig())
linker = wasmtime.Linker(store.engine)
linker.define_wasi()
module = wasmtime.Module.from_file(store.engine, "wait.wasm")
wait = linker.instantiate(store, module).exports(store)["wait"]
runtime = pywasm.core.Runtime()
pywasm.wasi.Preview1([], {}, {}).bind(runtime)
instance = runtime.instance_from_file("wait.wasm")

def result(call, argument):
    try:
        return "waits" if call(argument) >= 400_000_000 else "does not wait"
    except Exception as error:
        return error

for name, call in (
    ("wasmtime", lambda time: wait(store, time)),
    ("pywasm", lambda time: runtime.invocate(instance, "wait", [time])[0]),
):
    print(name, result(call, -500_000_000), result(call, 500_000_000), sep=", ")
PY
said=$(PYTHONPATH=py python3 wait.py)
echo "$said"
[[ $said == *"wasmtime, does not wait, waits"* ]] || changed "wasmtime waits otherwise"
[[ $said == *"pywasm, waits, timeout must be non-negative"* ]] || changed "pywasm waits otherwise"
