#!/usr/bin/env bash
# Behaviour: in the machine code that ppci makes of a module, NaN is equal to itself and less than any
#   number: a test for NaN by `x != x` never finds one, and a check of bounds by `x < limit` lets it in.
# Versions: PyPI ppci 0.5.8 (target "native"), wasmtime 50.0.1.
# Expected: the core specification ("feq", "flt"): a comparison with NaN is 0, and "fne" is 1, for f32
#   and f64; wasmtime has it so.
# Seen: with NaN and 1: eq 1, ne 0, lt 1, le 1, gt 0, ge 0 by ppci; 0, 1, 0, 0, 0, 0 by wasmtime; with
#   2 and 1 both the same
# Here: guests that test for NaN give other results once another engine runs them.
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
cat >compare.py <<'PY'
import math

import ppci.wasm
import wasmtime

OPERATORS = ["eq", "ne", "lt", "le", "gt", "ge"]


def text(kind):
    functions = "".join(
        f'(func (export "{name}") (param {kind} {kind}) (result i32)'
        f" ({kind}.{name} (local.get 0) (local.get 1)))"
        for name in OPERATORS
    )
    return f"(module {functions})"


def by_ppci(kind):
    exports = ppci.wasm.instantiate(ppci.wasm.Module(text(kind)), imports={}, target="native").exports
    return lambda name, a, b: getattr(exports, name)(a, b)


def by_wasmtime(kind):
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, text(kind)), [])
    return lambda name, a, b: instance.exports(store)[name](store, a, b)


for kind in "f32", "f64":
    for engine in by_ppci, by_wasmtime:
        compare = engine(kind)
        for a, b in (2.0, 1.0), (math.nan, 1.0), (math.nan, math.nan):
            results = " ".join(str(compare(name, a, b)) for name in OPERATORS)
            print(f"{kind} {engine.__name__} {a} {b}: {results}")
PY
seen=$(PYTHONPATH=py python3 compare.py)
echo "$seen"
for kind in f32 f64; do
    for line in 'by_ppci 2.0 1.0: 0 1 0 0 1 1' 'by_wasmtime 2.0 1.0: 0 1 0 0 1 1' \
        'by_ppci nan 1.0: 1 0 1 1 0 0' 'by_wasmtime nan 1.0: 0 1 0 0 0 0' \
        'by_ppci nan nan: 1 0 1 1 0 0' 'by_wasmtime nan nan: 0 1 0 0 0 0'; do
        grep -qxF "$kind $line" <<<"$seen" || changed "not $kind $line"
    done
done
