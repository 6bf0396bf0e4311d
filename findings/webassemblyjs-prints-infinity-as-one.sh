#!/usr/bin/env bash
# Behaviour: @webassemblyjs/wast-printer, which turns what @webassemblyjs/wasm-parser reads into
#   text, prints infinity as 1, a NaN as the number of its payload, and -0 as 0: valid text of other
#   numbers.
# Versions: npm @webassemblyjs/wast-printer, @webassemblyjs/wasm-parser 1.14.1, wabt 1.0.39, Node
#   20.
# Expected: the specification (text format, floats): `inf`, `nan`, `nan:0x…` and a sign are written
#   so; wabt's `wasm2wat` prints them, and text of a module is text of the same module.
# Seen: inf -inf nan -0 0.1 before; printed and assembled: 1 -1 2251799813685248 0 0.1; by wabt:
#   Infinity -Infinity NaN -0 0.1
# Here: a dump of a guest is read to see what it computes; a loop's first minimum is then 1.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts @webassemblyjs/wast-printer@1.14.1 \
    @webassemblyjs/wasm-parser@1.14.1 wabt@1.0.39

cat >numbers.wat <<'WAT'
(module
  (func (export "infinity") (result f64) (f64.const inf))
  (func (export "less") (result f32) (f32.const -inf))
  (func (export "nan") (result f64) (f64.const nan))
  (func (export "zero") (result f64) (f64.const -0.0))
  (func (export "tenth") (result f64) (f64.const 0.1)))
WAT
node_modules/.bin/wat2wasm numbers.wat -o numbers.wasm
cat >print.js <<'JS'
const { decode } = require("@webassemblyjs/wasm-parser");
const { print } = require("@webassemblyjs/wast-printer");
console.log(print(decode(require("node:fs").readFileSync("numbers.wasm"))));
JS
node print.js >printed.wat
node_modules/.bin/wasm2wat numbers.wasm -o by-wabt.wat
# values TEXT: what the functions of the assembled text return.
values() {
    node_modules/.bin/wat2wasm "$1" -o assembled.wasm
    node -e 'const module = new WebAssembly.Module(require("fs").readFileSync("assembled.wasm"));
        const functions = new WebAssembly.Instance(module).exports;
        console.log(...Object.values(functions).map((call) => call()));'
}
before=$(values numbers.wat)
by_wabt=$(values by-wabt.wat)
printed=$(values printed.wat)
grep const printed.wat
printf '%s: %s\n' before "$before" wabt "$by_wabt" webassemblyjs "$printed"
[[ $before == 'Infinity -Infinity NaN -0 0.1' ]] || changed "the module has other numbers"
[[ $by_wabt == "$before" ]] || changed "wabt prints other numbers"
[[ $printed == '1 -1 2251799813685248 0 0.1' ]] || changed "webassemblyjs prints other numbers"
