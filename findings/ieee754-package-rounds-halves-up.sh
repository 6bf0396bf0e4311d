#!/usr/bin/env bash
# Behaviour: the package ieee754 rounds a number in the middle of two 32-bit ones away from zero:
#   16777217 becomes 16777218, and half of the least number becomes the least number. What is built upon
#   it does so too: Node's Buffer for browsers, and the literals of wasmati's modules.
# Versions: npm ieee754 1.2.1, buffer 6.0.3, wasmati 0.2.4; Node 20.
# Expected: IEEE 754 and ECMAScript (Math.fround, DataView.setFloat32) round to the one whose last bit
#   is 0; Node's own Buffer has it so.
# Seen: 16777217: Node 16777216, the three 16777218; 1 + 2^-24: 1 and 1.0000001192092896; 2^-150: 0 and
#   1.401298464324817e-45; 16777219, which is even upwards: all 16777220
# Here: a guest built with wasmati, or a client in a browser that makes a guest's numbers with this
#   Buffer, has other numbers than one under Node.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts ieee754@1.2.1 buffer@6.0.3 wasmati@0.2.4
cat >round.js <<'JS'
import { Buffer as OfNode } from "node:buffer";
import { Buffer as OfPackage } from "buffer/index.js";
import ieee754 from "ieee754";
import { Module, f32, func } from "wasmati";

function byBuffer(Buffer, number) {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(number);
  return new DataView(buffer.buffer, buffer.byteOffset).getFloat32(0, true);
}
function byPackage(number) {
  const bytes = new Uint8Array(4);
  ieee754.write(bytes, number, 0, true, 23, 4);
  return new DataView(bytes.buffer).getFloat32(0, true);
}
async function byWasmati(number) {
  const run = func({ in: [], out: [f32] }, () => f32.const(number));
  return (await Module({ exports: { run } }).instantiate()).instance.exports.run();
}
for (const number of [1.5, 16777217, -16777217, 16777219, 1 + 2 ** -24, 2 ** -150]) {
  const all = [byPackage(number), byBuffer(OfPackage, number), await byWasmati(number)];
  console.log(`${number}: Node ${byBuffer(OfNode, number)}, the three ${all.join(" ")}`);
}
JS
said=$(node round.js)
echo "$said"
up=1.0000001192092896
least=1.401298464324817e-45
[[ $said == "1.5: Node 1.5, the three 1.5 1.5 1.5
16777217: Node 16777216, the three 16777218 16777218 16777218
-16777217: Node -16777216, the three -16777218 -16777218 -16777218
16777219: Node 16777220, the three 16777220 16777220 16777220
1.0000000596046448: Node 1, the three $up $up $up
7.006492321624085e-46: Node 0, the three $least $least $least" ]] || changed "they round otherwise"
