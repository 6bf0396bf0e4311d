#!/usr/bin/env bash
# Behaviour: the Python bindings pass the error `true` of a result<u32, bool> to a component as the
#   success 1, since Python's True is an int, too: what one function returns as an error is a success for
#   the next. There is no other way to say it: a Variant is refused for such a type.
# Versions: PyPI wasmtime 50.0.1.
# Expected: the canonical ABI (a value that is lifted and lowered again is the same one), and the
#   bindings' own rule that a bool is the type bool; with the cases in the other order it is right.
# Seen: err(true) is True in Python, and arrives as ok(1); err(false) as ok(0); of result<bool, u32>
#   ok(true) arrives as ok(true); Variant("err", True): "value not valid for this variant"
# Here: results are how components report errors; a host in Python that passes one on reports success.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py wasmtime==50.0.1
cat >pass.py <<'PY'
from wasmtime import Engine, Store
from wasmtime.component import Component, Linker, Variant

# `make` returns the value that lies in memory, `which` gives the case and the number that it gets.
TEXT = """(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 8) "%s")
    (func (export "make") (result i32) (i32.const 8))
    (func (export "which") (param i32 i32) (result i32)
      (i32.add (i32.mul (i32.const 10) (local.get 0)) (local.get 1))))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (func (export "make") (result %s)
    (canon lift (core func $i "make") (memory $memory)))
  (func (export "which") (param "value" %s) (result u32)
    (canon lift (core func $i "which"))))"""


def functions(type, bytes=""):
    engine = Engine()
    store = Store(engine)
    component = Component(engine, TEXT % (bytes, type, type))
    instance = Linker(engine).instantiate(store, component)
    return [lambda *value, name=name: instance.get_func(store, name)(store, *value) for name in ("make", "which")]


def show(name, type, bytes):
    make, which = functions(type, bytes)
    value = make()
    case, number = divmod(which(value), 10)
    print(f"{name}: in Python {value}, passed on {'err' if case else 'ok'}({number})")


show("ok(7) of u32, bool", "(result u32 (error bool))", "\\00\\00\\00\\00\\07")
show("err(true) of u32, bool", "(result u32 (error bool))", "\\01\\00\\00\\00\\01")
show("err(false) of u32, bool", "(result u32 (error bool))", "\\01\\00\\00\\00\\00")
show("ok(true) of bool, u32", "(result bool (error u32))", "\\00\\00\\00\\00\\01")
show("err(7) of bool, u32", "(result bool (error u32))", "\\01\\00\\00\\00\\07")
try:
    print(functions("(result u32 (error bool))")[1](Variant("err", True)))
except ValueError as error:
    print(f"Variant: {error}")
PY
seen=$(PYTHONPATH=py python3 pass.py)
echo "$seen"
[[ $seen == 'ok(7) of u32, bool: in Python 7, passed on ok(7)
err(true) of u32, bool: in Python True, passed on ok(1)
err(false) of u32, bool: in Python False, passed on ok(0)
ok(true) of bool, u32: in Python True, passed on ok(1)
err(7) of bool, u32: in Python 7, passed on err(7)
Variant: value not valid for this variant' ]] || changed "it passes others on"
