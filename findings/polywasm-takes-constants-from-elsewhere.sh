#!/usr/bin/env bash
# Behaviour: of a module that is a part of a larger buffer, polywasm takes the constants of type f32 and
#   f64 from the beginning of the buffer instead of the module's: 2.5 is another number, depending on
#   what lies there. Its integers and all else are right, and nothing is said.
# Versions: npm polywasm 0.2.0, wabt 1.0.39, Node 20.
# Expected: WebAssembly's JavaScript interface, "WebAssembly.Module": the module is "a copy of the bytes
#   held by the buffer", of a view those that it shows (Web IDL, "get a copy of the buffer source").
# Seen: in a buffer of its own 2.5 and 7; from the 16th byte of one of zeros on: f64.const 2.5 is
#   1.1417716770067403e+243, i64.const is 7; Node's engine: 2.5 and 7
# Here: modules come in such parts: what Node's `readFileSync` gives of a small file is one, and so is a
#   module's layer inside an image's tar.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts polywasm@0.2.0 wabt@1.0.39
cat >constants.wat <<'WAT'
(module
  (func (export "float") (result f64) (f64.const 2.5))
  (func (export "integer") (result i64) (i64.const 7)))
WAT
node_modules/.bin/wat2wasm constants.wat -o constants.wasm
cat >constants.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WebAssembly as Poly } from "polywasm";

const module = new Uint8Array(readFileSync("constants.wasm"));
for (const [engine, { Module, Instance }] of [["polywasm", Poly], ["Node", WebAssembly]]) {
  for (const start of [0, 16]) {
    const buffer = new Uint8Array(start + module.length);
    buffer.set(module, start);
    const { float, integer } = new Instance(new Module(buffer.subarray(start))).exports;
    console.log(`${engine}, from byte ${start} on: ${float()} ${integer()}`);
  }
}
const read = new Poly.Instance(new Poly.Module(readFileSync("constants.wasm"))).exports;
console.log(`polywasm, as read from the file: ${read.float() === 2.5 ? "2.5" : "another number"} ${read.integer()}`);
JS
seen=$(node constants.mjs)
echo "$seen"
[[ $seen == 'polywasm, from byte 0 on: 2.5 7
polywasm, from byte 16 on: 1.1417716770067403e+243 7
Node, from byte 0 on: 2.5 7
Node, from byte 16 on: 2.5 7
polywasm, as read from the file: another number 7' ]] || changed "it reads others"
