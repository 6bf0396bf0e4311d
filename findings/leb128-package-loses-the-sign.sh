#!/usr/bin/env bash
# Behaviour: npm's @minhducsun2002/leb128 writes some negative numbers as others that are not: -1 as
#   0, and all whose last group would be ones alone, as -65, -100 and -8193, without this group, as
#   63, 28 and 8191. Others, as -64 and -129, are right.
# Versions: npm @minhducsun2002/leb128 1.0.0, @webassemblyjs/leb128 1.14.1, Node 20.
# Expected: signed LEB128 as in WebAssembly's specification (binary format, integers): the last byte
#   has the sign in bit 6. @webassemblyjs/leb128 has it so.
# Seen: -1: 00 for 7f; -64: 40, right; -65: 3f for bf7f; -100: 1c for 9c7f; -128: 00 for 807f; -129:
#   ff7e, right
# Here: in a module's code `i32.const -1` is such a number; what is written with this package is a
#   valid module with 0 in its place.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts @minhducsun2002/leb128@1.0.0 \
    @webassemblyjs/leb128@1.14.1
cat >write.js <<'JS'
const { SignedLEB128 } = require("@minhducsun2002/leb128");
const { encodeI32 } = require("@webassemblyjs/leb128");
const hex = (bytes) => Buffer.from(bytes).toString("hex");

// What a module returns whose only function is `i32.const` with these bytes.
function constant(bytes) {
  const body = [0, 0x41, ...bytes, 0x0b];
  const module = new Uint8Array([
    ...Buffer.from("0061736d01000000", "hex"),
    ...[1, 5, 1, 0x60, 0, 1, 0x7f], ...[3, 2, 1, 0], ...[7, 5, 1, 1, 0x66, 0, 0],
    ...[10, body.length + 2, 1, body.length, ...body],
  ]);
  return new WebAssembly.Instance(new WebAssembly.Module(module)).exports.f();
}
for (const number of [-1, -2, -64, -65, -100, -128, -129, -8193]) {
  const own = SignedLEB128.encode(number);
  const other = encodeI32(number);
  const words = [own, other].map((bytes) => `${hex(bytes)} is ${constant(bytes)}`);
  console.log(`${number}: ${words.join("; ")}`);
}
JS
said=$(node write.js)
echo "$said"
wanted=$(
    cat <<'SAID'
-1: 00 is 0; 7f is -1
-2: 7e is -2; 7e is -2
-64: 40 is -64; 40 is -64
-65: 3f is 63; bf7f is -65
-100: 1c is 28; 9c7f is -100
-128: 00 is 0; 807f is -128
-129: ff7e is -129; ff7e is -129
-8193: ff3f is 8191; ffbf7f is -8193
SAID
)
[[ $said == "$wanted" ]] || changed "other bytes"
