#!/usr/bin/env bash
# Behaviour: pywasm's `trunc`, `ceil` and `nearest` give 0.0 where the result is -0.0; `min` of the
#   two zeros is the first one, and `f32.convert_i64_s` rounds twice.
# Versions: PyPI pywasm 2.2.3, PyPI wasmtime 50.0.1.
# Expected: the specification (numerics: ftrunc, fmin, convert); wasmtime has it so.
# Seen: trunc(-0.0): 0, not -0; ceil(-0.5): 0, not -0; nearest(-0.5): 0, not -0; min(0, -0): 0, not
#   -0; convert(0x7fffff4000000001): 0x5efffffe, not 0x5effffff
# Here: a guest that divides by such a number goes to the other infinity, so results of the small
#   interpreter say nothing about the engine.
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

# The results are bit patterns: an i64 passes through both bindings unchanged.
cat >numbers.wat <<'WAT'
(module
  (func (export "trunc -0.0") (result i64)
    (i64.reinterpret_f64 (f64.trunc (f64.const -0.0))))
  (func (export "ceil -0.5") (result i64)
    (i64.reinterpret_f64 (f64.ceil (f64.const -0.5))))
  (func (export "nearest -0.5") (result i64)
    (i64.reinterpret_f64 (f64.nearest (f64.const -0.5))))
  (func (export "min 0.0 -0.0") (result i64)
    (i64.reinterpret_f64 (f64.min (f64.const 0.0) (f64.const -0.0))))
  (func (export "min -0.0 0.0") (result i64)
    (i64.reinterpret_f64 (f64.min (f64.const -0.0) (f64.const 0.0))))
  (func (export "convert 0x7fffff4000000001") (result i64)
    (i64.extend_i32_u
      (i32.reinterpret_f32 (f32.convert_i64_s (i64.const 0x7fffff4000000001))))))
WAT
cat >compare.py <<'PY'
import pywasm
import wasmtime

open("numbers.wasm", "wb").write(wasmtime.wat2wasm(open("numbers.wat").read()))
store = wasmtime.Store()
module = wasmtime.Module.from_file(store.engine, "numbers.wasm")
exports = wasmtime.Instance(store, module, []).exports(store)
runtime = pywasm.core.Runtime()
instance = runtime.instance_from_file("numbers.wasm")
for function in module.exports:
    by_pywasm = runtime.invocate(instance, function.name, [])[0]
    by_wasmtime = exports[function.name](store)
    print(f"{function.name}: {by_pywasm % 2**64:#x}, by wasmtime {by_wasmtime % 2**64:#x}")
PY
said=$(PYTHONPATH=py python3 compare.py)
echo "$said"
wanted=$(
    cat <<'SAID'
trunc -0.0: 0x0, by wasmtime 0x8000000000000000
ceil -0.5: 0x0, by wasmtime 0x8000000000000000
nearest -0.5: 0x0, by wasmtime 0x8000000000000000
min 0.0 -0.0: 0x0, by wasmtime 0x8000000000000000
min -0.0 0.0: 0x8000000000000000, by wasmtime 0x8000000000000000
convert 0x7fffff4000000001: 0x5efffffe, by wasmtime 0x5effffff
SAID
)
[[ $said == "$wanted" ]] || changed "other results"
