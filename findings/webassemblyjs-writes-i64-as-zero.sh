#!/usr/bin/env bash
# Behaviour: of a constant of type i64 that @webassemblyjs/wasm-gen writes, the value is 0, whatever
#   it was: in an edited function, in an added global, and in what @webassemblyjs/wasm-parser read.
#   Infinity becomes 1, and NaN a number. i32 and other floats are right, and nothing is reported.
# Versions: npm @webassemblyjs/wasm-gen, wasm-edit, wasm-parser, ast 1.14.1, wabt 1.0.39, Node 20.
# Expected: WebAssembly's core specification, binary format, numeric instructions: the value follows
#   the opcode 0x42 as an i64, and 0x44 as the bytes of an f64.
# Seen: i32.const 8 stays 8; i64.const 8 and -1 become 0; f64.const inf becomes 1; the added global
#   of 9 has 0; read and written: i64 7 is 42 00
# Here: bundlers edit modules with these packages before they are put into an image; what a program
#   has as its limits and sizes in 64 bits is 0 then, and it runs with that.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @webassemblyjs/wasm-gen@1.14.1 \
    @webassemblyjs/wasm-edit@1.14.1 @webassemblyjs/wasm-parser@1.14.1 @webassemblyjs/ast@1.14.1 \
    wabt@1.0.39
cat >edit.js <<'JS'
const { add, edit } = require("@webassemblyjs/wasm-edit");
const { decode } = require("@webassemblyjs/wasm-parser");
const { encodeNode } = require("@webassemblyjs/wasm-gen");
const t = require("@webassemblyjs/ast");

const constant = (type, value) =>
  t.objectInstruction("const", type, [t.numberLiteralFromRaw(value, type)]);

(async () => {
  const wabt = await require("wabt")();
  const constants = (module) => {
    const text = wabt.readWasm(new Uint8Array(module), {}).toText({});
    return text.match(/(i32|i64|f64)\.const \S+?(?=[\s)])/g).join(", ");
  };
  const module = wabt
    .parseWat("module", `(module
      (func (result i32) i32.const 7)
      (func (result i64) i64.const 7)
      (func (result f64) f64.const 7))`)
    .toBinary({}).buffer;
  console.log(`module: ${constants(module)}`);
  for (const [type, value] of [
    ["i32", "8"], ["f64", "0.25"], ["i64", "8"], ["i64", "-1"], ["f64", "inf"], ["f64", "nan"],
  ]) {
    const edited = edit(module, {
      Instr(path) {
        if (path.node.id === "const" && path.node.object === type) {
          path.replaceWith(constant(type, value));
        }
      },
    });
    console.log(`${type} ${value}: ${constants(edited)}`);
  }
  const global = t.global(t.globalType("i64", "const"),
    [constant("i64", "9"), t.instruction("end")]);
  console.log(`global 9: ${constants(add(module, [global]))}`);
  const read = decode(module).body[0].fields.filter(({ type }) => type === "Func");
  const bytes = read.map(({ body }) => Buffer.from(encodeNode(body[0])).toString("hex"));
  console.log(`read and written: ${bytes.join(", ")}`);
})();
JS
seen=$(node edit.js)
echo "$seen"
wanted=$(
    cat <<'SEEN'
module: i32.const 7, i64.const 7, f64.const 0x1.cp+2
i32 8: i32.const 8, i64.const 7, f64.const 0x1.cp+2
f64 0.25: i32.const 7, i64.const 7, f64.const 0x1p-2
i64 8: i32.const 7, i64.const 0, f64.const 0x1.cp+2
i64 -1: i32.const 7, i64.const 0, f64.const 0x1.cp+2
f64 inf: i32.const 7, i64.const 7, f64.const 0x1p+0
f64 nan: i32.const 7, i64.const 7, f64.const 0x1p+51
global 9: i32.const 7, i64.const 7, f64.const 0x1.cp+2, i64.const 0
read and written: 4107, 4200, 440000000000001c40
SEEN
)
[[ $seen == "$wanted" ]] || changed "it writes other constants"
