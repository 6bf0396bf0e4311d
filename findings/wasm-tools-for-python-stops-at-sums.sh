#!/usr/bin/env bash
# Behaviour: the wasm-tools of PyPI, a disassembler in Python, ends a constant expression after its
#   first operand: after a sum the next global has another type and value, and data segments and their
#   texts are missing, without an error. Floats are printed with six digits.
# Versions: PyPI wasm-tools 2.1.0; npm wabt 1.0.39.
# Expected: what wasm-objdump has. WebAssembly 3.0, Validation, Constant Expressions, has `i32.add`
#   among the constant instructions; Text Format: 16777215 and 16777200 are two values of f32.
# Seen: before (global i64 (i64.const 7)) a global with the value (i32.add (global.get 0) (i32.const 8)):
#   "type[8] mutable" with other bytes; of two segments one with 3 bytes of 5, of two texts none;
#   f32.const 16777215: "1.67772e+07"
# Here: modules that are linked to be placed anywhere, such as shared libraries of WASI, have such sums
#   for all that depends on where they are; what looks for texts in an image by this tool finds none.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools==2.1.0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
cat >sum.wat <<'WAT'
(module
  (import "env" "base" (global $base i32))
  (memory 1)
  (global i32 (i32.add (global.get $base) (i32.const 8)))
  (global i64 (i64.const 7))
  (func (result f32) (f32.const 16777215))
  (data (i32.add (global.get $base) (i32.const 3)) "hello")
  (data (i32.const 16) "world"))
WAT
sed 's/(i32.add (global.get $base) (i32.const .))/(global.get $base)/' sum.wat >plain.wat
for name in plain sum; do
    node_modules/.bin/wat2wasm --enable-extended-const $name.wat -o $name.wasm
    echo "$name:"
    node_modules/.bin/wasm-objdump -x $name.wasm | sed -nE 's/^ - (global\[2|segment)/  wabt: \1/p'
    for options in -x -d --strings; do
        PYTHONPATH=py python3 -m wasm_tools.cli $options $name.wasm
    done | sed -nE 's/^ - (global\[2|segment)/  wasm-tools: \1/p
        s/.*\| (f32.*)/  wasm-tools: \1/p; s/^[0-9]+ strings.*/  wasm-tools: &/p'
done | tee seen
cmp seen - <<'SEEN' || changed "they say something else"
plain:
  wabt: global[2] i64 mutable=0 - init i64=7
  wabt: segment[0] memory=0 size=5 - init global=0 <env.base>
  wabt: segment[1] memory=0 size=5 - init i32=16
  wasm-tools: global[2]: i64 const - init i64=7
  wasm-tools: segment[0]: active memory=0 offset=global.get=0 size=5
  wasm-tools: segment[1]: active memory=0 offset=i32=16 size=5
  wasm-tools: f32.const 1.67772e+07
  wasm-tools: 2 strings shown
sum:
  wabt: global[2] i64 mutable=0 - init i64=7
  wabt: segment[0] memory=0 size=5 - init (global.get 0 <env.base>, i32.const 3, i32.add)
  wabt: segment[1] memory=0 size=5 - init i32=16
  wasm-tools: global[2]: type[8] mutable - init 0x0b 0x7e 0x00 0x42 0x07
  wasm-tools: segment[0]: active memory=0 offset=global.get=0 size=3
  wasm-tools: f32.const 1.67772e+07
  wasm-tools: 0 strings shown
SEEN
