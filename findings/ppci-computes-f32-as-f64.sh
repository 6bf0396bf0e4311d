#!/usr/bin/env bash
# Behaviour: ppci's Python code of a module computes f32 with 64 bits and never rounds: a sum, a
#   conversion and a demotion have digits that no f32 has, and there is no infinity below 1e308. Its
#   machine code of the same module rounds.
# Versions: PyPI ppci 0.5.8 (targets "python" and "native"), wasmtime 50.0.1.
# Expected: the core specification, "Floating-point operations": results are rounded to a value of the
#   type, to nearest, ties to even.
# Seen: 16777216 + 1 is 16777217, 1e30 x 1e30 is 1.0000000000000001e+60, 0.1 demoted is 0.1, i32
#   16777217 converted is 16777217; native and wasmtime: 16777216, inf, 0.10000000149011612, 16777216
# Here: a module that was tried with the interpreter behaves otherwise in a container.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py ppci==0.5.8 wasmtime==50.0.1
cat >round.py <<'PY'
import ppci.wasm
import wasmtime

TEXT = """(module
  (func (export "add") (result f32) (f32.add (f32.const 16777216) (f32.const 1)))
  (func (export "mul") (result f32) (f32.mul (f32.const 1e30) (f32.const 1e30)))
  (func (export "demote") (result f32) (f32.demote_f64 (f64.const 0.1)))
  (func (export "convert") (result f32) (f32.convert_i32_s (i32.const 16777217))))"""
NAMES = ["add", "mul", "demote", "convert"]


def by_ppci(target):
    exports = ppci.wasm.instantiate(ppci.wasm.Module(TEXT), imports={}, target=target).exports
    return [getattr(exports, name)() for name in NAMES]


def by_wasmtime():
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, TEXT), []).exports(store)
    return [exports[name](store) for name in NAMES]


for engine, results in (
    ("python", by_ppci("python")),
    ("native", by_ppci("native")),
    ("wasmtime", by_wasmtime()),
):
    print(f"{engine}:", *(repr(float(result)) for result in results))
PY
seen=$(PYTHONPATH=py python3 round.py)
echo "$seen"
right='16777216.0 inf 0.10000000149011612 16777216.0'
[[ $seen == "python: 16777217.0 1.0000000000000001e+60 0.1 16777217.0
native: $right
wasmtime: $right" ]] || changed "the results are others"
