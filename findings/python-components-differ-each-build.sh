#!/usr/bin/env bash
# Behaviour: two builds of the same Python component differ, in length as well, also with a fixed
#   hash seed and SOURCE_DATE_EPOCH: what is written is the memory of an interpreter that ran.
# Version: PyPI componentize-py 0.25.1.
# Expected: same sources, same tool, same component.
# Seen: for example 18333400 and 18317943 bytes for a world of one function
# Here: each build is a new image digest and a new entry of the code cache: build once, then copy.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py componentize-py==0.25.1
export PYTHONPATH=$dir/py PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=0
unset VIRTUAL_ENV
mkdir app
cat >app/calc.wit <<'WIT'
package local:calc;
world adder { export add: func(a: u32, b: u32) -> u32; }
WIT
cat >app/main.py <<'PY'
import wit_world


class WitWorld(wit_world.WitWorld):
    def add(self, a: int, b: int) -> int:
        return a + b
PY
cd app
for build in 1 2; do
    ../py/bin/componentize-py -d calc.wit -w local:calc/adder componentize main \
        -o "$build.wasm" >"$build.log" || changed "no component: $(cat "$build.log")"
done
if cmp -s 1.wasm 2.wasm; then changed "two builds are equal"; fi
stat --format '%s bytes' 1.wasm 2.wasm
