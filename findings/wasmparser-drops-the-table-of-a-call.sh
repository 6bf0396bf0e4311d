#!/usr/bin/env bash
# Behaviour: npm's wasmparser disassembles a `call_indirect` of the second table without the table:
#   the text calls a function of the first one. `select` with a type is printed in a form that does
#   not exist.
# Versions: npm wasmparser 5.11.1, wabt 1.0.39, Node 20.
# Expected: the core specification, text format: `call_indirect x (type …)`, where x may be left out
#   for table 0 only, and `select (result f32)`. It prints the table of `table.get`.
# Seen: a module whose `run` returns 2: printed and assembled it returns 1; the element segment of
#   the second table is printed with its table; "select f32", which wabt refuses
# Here: the text is what one reads to learn what a guest does, and it shows another guest. Modules
#   may have several tables since version 2.0 of the specification.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts wasmparser@5.11.1 wabt@1.0.39
cat >tables.wat <<'WAT'
(module
  (type $number (func (result i32)))
  (table $first 1 funcref)
  (table $second 1 funcref)
  (elem (table $first) (i32.const 0) func $one)
  (elem (table $second) (i32.const 0) func $two)
  (func $one (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))
  (func (export "run") (result i32) (call_indirect $second (type $number) (i32.const 0))))
WAT
cat >select.wat <<'WAT'
(module
  (func (export "run") (result f32)
    (select (result f32) (f32.const 1) (f32.const 2) (i32.const 0))))
WAT
cat >round.js <<'JS'
const { readFileSync } = require("node:fs");
const { BinaryReader } = require("wasmparser/dist/cjs/WasmParser.js");
const { WasmDisassembler } = require("wasmparser/dist/cjs/WasmDis.js");

function disassemble(bytes) {
  const reader = new BinaryReader();
  reader.setData(bytes.buffer, 0, bytes.length);
  const disassembler = new WasmDisassembler();
  disassembler.disassembleChunk(reader);
  return disassembler.getResult().lines.join("\n");
}
const run = (bytes) => new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.run();
require("wabt")().then((wabt) => {
  const assemble = (text) => wabt.parseWat("x.wat", text).toBinary({}).buffer;
  for (const name of ["tables", "select"]) {
    const bytes = Uint8Array.from(assemble(readFileSync(`${name}.wat`, "utf8")));
    const text = disassemble(bytes);
    console.log(`${name}: ${run(bytes)}`);
    for (const line of text.split("\n")) {
      if (/call_indirect|elem|select/.test(line)) console.log(line);
    }
    try {
      console.log(`${name}, from its text: ${run(assemble(text))}`);
    } catch (error) {
      console.log(`${name}, from its text: ${error.message.split("\n")[1]}`);
    }
  }
});
JS
said=$(node round.js)
echo "$said"
wanted=$(
    cat <<'SAID'
tables: 2
  (elem $elem0 (i32.const 0) funcref (ref.func $func0))
  (elem $elem1 (table $table1) (i32.const 0) funcref (ref.func $func1))
    call_indirect (result i32)
tables, from its text: 1
select: 2
    select f32
select, from its text: x.wat:7:12: error: unexpected token f32, expected ).
SAID
)
[[ $said == "$wanted" ]] || changed "other text"
