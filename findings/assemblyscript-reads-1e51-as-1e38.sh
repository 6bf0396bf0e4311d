#!/usr/bin/env bash
# Behaviour: AssemblyScript's `parseFloat` reads numbers of 17 digits from 1e39 to 1e53 as numbers
#   of the size of 1e38. Nothing tells.
# Versions: npm assemblyscript 0.28.20, Node 20.
# Expected: the nearest number, as ECMAScript's `parseFloat` gives, whose name and form it has; and
#   what `toString` has written is read as the same number.
# Seen: 2 ** 170 is written 1.4965776766268446e+51 and read as 1.4965776766268446e+38; of the powers
#   up to 2 ** 1023, 19 are read as less than a half of what they are
# Here: a guest in AssemblyScript that reads such numbers from a file or a variable works with
#   others. The same module does so under every engine.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20

cat >numbers.ts <<'TS'
export function read(text: string): f64 {
  return parseFloat(text);
}
export function written(number: f64): string {
  return number.toString();
}
TS
node_modules/.bin/asc numbers.ts -O --bindings esm -o numbers.wasm
cat >compare.js <<'JS'
import { read, written } from "./numbers.js";
for (const text of ["1.5e51", "1.4965776766268446e+38", "1.4965776766268446e+54"])
  console.log(`${text}: right: ${read(text) === parseFloat(text)}`);
const text = written(2 ** 170);
console.log(`2 ** 170: ${text}, read: ${read(text)}, by Node: ${parseFloat(text)}`);
let [far, first, last] = [0, 0, 0];
for (let exponent = 1; exponent < 1024; exponent++)
  if (read(written(2 ** exponent)) < 2 ** (exponent - 1)) {
    far++;
    first ||= exponent;
    last = exponent;
  }
console.log(`far off: ${far}, from 2 ** ${first} to 2 ** ${last}`);
JS
said=$(node compare.js)
echo "$said"
wanted=$(
    cat <<'SAID'
1.5e51: right: true
1.4965776766268446e+38: right: true
1.4965776766268446e+54: right: true
2 ** 170: 1.4965776766268446e+51, read: 1.4965776766268446e+38, by Node: 1.4965776766268446e+51
far off: 19, from 2 ** 133 to 2 ** 176
SAID
)
[[ $said == "$wanted" ]] || changed "other numbers"
