#!/usr/bin/env bash
# Behaviour: wasmtime's Python bindings reduce any integer modulo 2^32 when a parameter is an i32,
#   without an error, yet refuse the integer 3 for an f32.
# Version: PyPI wasmtime 50.0.1.
# Expected: OverflowError (or at least the check that the float parameter gets).
# Seen: 2^40 -> 0, 2^32 + 5 -> 5, 10^39 -> 0; f32 of 3 -> TypeError
# Here: a test that drives a guest from Python passes with a wrong argument.
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
cat >call.py <<'PY'
from wasmtime import Instance, Module, Store

store = Store()
module = Module(store.engine, """(module
  (func (export "int") (param i32) (result i32) local.get 0)
  (func (export "float") (param f32) (result f32) local.get 0))""")
exports = Instance(store, module, []).exports(store)
for value in (2**40, 2**32 + 5, 10**39, 2**32 - 1):
    print("i32", value, "->", exports["int"](store, value))
try:
    print("f32 3 ->", exports["float"](store, 3))
except TypeError:
    print("f32 3 -> TypeError")
PY
said=$(PYTHONPATH=py python3 call.py)
echo "$said"
expected="i32 $((1 << 40)) -> 0
i32 $(((1 << 32) + 5)) -> 5
i32 1$(printf '0%.0s' {1..39}) -> 0
i32 $(((1 << 32) - 1)) -> -1
f32 3 -> TypeError"
[[ $said == "$expected" ]] || changed "other results"
