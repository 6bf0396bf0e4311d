#!/usr/bin/env bash
# Behaviour: leb's encodeInt64 rounds negative numbers to a multiple of 2048: -1025 is written as
#   -2048, -1500000000 as -1500000256. From -1 to -1024 it says "Value out of range". It reads all
#   of them right, and its encoder of 32 bits writes them right.
# Versions: npm leb 1.0.0, @webassemblyjs/leb128 1.14.1, Node 20.
# Expected: signed LEB128 as in WebAssembly's specification (binary format, integers). The README
#   says of 64-bit integers that a flag `lossy` tells of what a number of JavaScript cannot hold;
#   each of these it can, and the flag is not set.
# Seen: -1 and -1024: Value out of range; -1025: 8070, which is -2048; -1500000000: 80a0dfb47a,
#   which is -1500000256; -2147483649: 8080808078, which is -2147483648; positive numbers: right
# Here: `i64.const` has such a number in a module; the package, downloaded two million times a
#   month, writes another one without a word.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts leb@1.0.0 @webassemblyjs/leb128@1.14.1
cat >write.js <<'JS'
const leb = require("leb");
const { decodeInt64 } = require("@webassemblyjs/leb128");

function written(number) {
  try {
    const bytes = leb.encodeInt64(number);
    const { value, lossy } = leb.decodeInt64(bytes);
    const other = decodeInt64(bytes, 0).value.toString();
    return `${bytes.toString("hex")} is ${value}, lossy ${lossy}; for the other ${other}`;
  } catch (error) {
    return error.message;
  }
}
const numbers = [
  1, 2049, 4294967297, -1, -1024, -1025, -4096, -4097, -1500000000, -2147483649, -4294967295,
];
for (const number of numbers) console.log(`${number}: ${written(number)}`);
console.log(`-65 of 32 bits: ${leb.encodeInt32(-65).toString("hex")}`);
console.log(`bf7f read as 64 bits: ${leb.decodeInt64(Buffer.from("bf7f", "hex")).value}`);
JS
said=$(node write.js)
echo "$said"
wanted=$(
    cat <<'SAID'
1: 01 is 1, lossy false; for the other 1
2049: 8110 is 2049, lossy false; for the other 2049
4294967297: 8180808010 is 4294967297, lossy false; for the other 4294967297
-1: Value out of range.
-1024: Value out of range.
-1025: 8070 is -2048, lossy false; for the other -2048
-4096: 8060 is -4096, lossy false; for the other -4096
-4097: 8060 is -4096, lossy false; for the other -4096
-1500000000: 80a0dfb47a is -1500000256, lossy false; for the other -1500000256
-2147483649: 8080808078 is -2147483648, lossy false; for the other -2147483648
-4294967295: 8080808070 is -4294967296, lossy false; for the other -4294967296
-65 of 32 bits: bf7f
bf7f read as 64 bits: -65
SAID
)
[[ $said == "$wanted" ]] || changed "other bytes"
