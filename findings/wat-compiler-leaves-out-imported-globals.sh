#!/usr/bin/env bash
# Behaviour: wat-compiler drops the import of a global without a word: its number is then that of the
#   module's own global, with which it computes. Letters that are not ASCII become zeros in data, and an
#   `if` with a result in the plain form makes an invalid module.
# Versions: npm wat-compiler 1.1.1, wabt 1.0.39.
# Expected: the core specification, text format: `(import "env" "limit" (global i32))` is global 0; a
#   string's letters are UTF-8; `if … else … end` may be written without parentheses.
# Seen: the imported 42 is 42 by wabt and the module's own 7 by wat-compiler; "grün" as data
#   103 114 195 188 110 and 103 114 0 110 0; the `if` 1 and CompileError
# Here: guests of tests are written in the text format; this compiler makes other guests of them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts wat-compiler@1.1.1 wabt@1.0.39
cat >global.wat <<'WAT'
(module
  (import "env" "limit" (global i32))
  (global i32 (i32.const 7))
  (func (export "run") (result i32) (global.get 0)))
WAT
cat >data.wat <<'WAT'
(module (memory (export "memory") 1) (data (i32.const 0) "grün"))
WAT
cat >plain.wat <<'WAT'
(module
  (func (export "run") (result i32)
    i32.const 1
    if (result i32)
      i32.const 1
    else
      i32.const 2
    end))
WAT
cat >folded.wat <<'WAT'
(module
  (func (export "run") (result i32)
    (if (result i32) (i32.const 1) (then (i32.const 1)) (else (i32.const 2)))))
WAT
cat >run.js <<'JS'
import { readFileSync } from "node:fs";
import byPackage from "wat-compiler";
import Wabt from "wabt";

const wabt = await Wabt();
const byWabt = (text) => wabt.parseWat("x.wat", new TextEncoder().encode(text)).toBinary({}).buffer;
const env = { limit: new WebAssembly.Global({ value: "i32" }, 42) };
function show(compile, text) {
  try {
    const module = new WebAssembly.Module(compile(text));
    const { exports } = new WebAssembly.Instance(module, { env });
    return exports.run ? exports.run() : new Uint8Array(exports.memory.buffer, 0, 5).join(" ");
  } catch (error) {
    return error.name;
  }
}
for (const name of ["global", "data", "plain", "folded"]) {
  const text = readFileSync(`${name}.wat`, "utf8");
  console.log(`${name}: wabt ${show(byWabt, text)}, wat-compiler ${show(byPackage, text)}`);
}
JS
said=$(node run.js)
echo "$said"
[[ $said == 'global: wabt 42, wat-compiler 7
data: wabt 103 114 195 188 110, wat-compiler 103 114 0 110 0
plain: wabt 1, wat-compiler CompileError
folded: wabt 1, wat-compiler 1' ]] || changed "they compile them otherwise"
