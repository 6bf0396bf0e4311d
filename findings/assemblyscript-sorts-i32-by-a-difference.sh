#!/usr/bin/env bash
# Behaviour: `sort()` of AssemblyScript leaves i32 arrays and an Int32Array unsorted where two
#   numbers are 2^31 or more apart: it compares by a difference that wraps around.
# Versions: npm assemblyscript 0.28.20, Node 20.
# Expected: the comment of `TypedArray#sort` in AssemblyScript's index.d.ts: "sorts the elements of
#   a typed array numerically". With a comparator that uses `<` and `>` it does, and so does Node.
# Seen: -2000000000 2000000000 0 7 -7 becomes 0 2000000000 -2000000000 -7 7; with a comparator and
#   in Node -2000000000 -7 0 7 2000000000
# Here: a guest that sorts hashes or offsets and then searches by halves does not find what it has.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20

cat >sort.ts <<'TS'
export function array(numbers: i32[]): i32[] {
  return numbers.sort();
}
export function typed(numbers: Int32Array): Int32Array {
  return numbers.sort();
}
export function compared(numbers: i32[]): i32[] {
  return numbers.sort((a, b) => i32(a > b) - i32(a < b));
}
TS
cat >run.mjs <<'JS'
import { array, compared, typed } from "./sort.js";
for (const numbers of [
  [2147483647, -2147483648],
  [-2000000000, 2000000000, 0, 7, -7],
  [-1000000000, 1000000000, 0, 7, -7],
]) {
  const words = [array(numbers), typed(Int32Array.from(numbers)), compared(numbers)];
  words.push(Int32Array.from(numbers).sort());
  console.log(...["array", "typed", "compared", "node"].map((name, index) =>
    `${name}: ${[...words[index]].join(" ")};`));
}
JS
echo '{ "type": "module" }' >package.json
# run OPTION…: the results of what asc makes with them.
run() {
    node_modules/.bin/asc sort.ts -o sort.wasm --bindings esm "$@"
    node run.mjs
}
plain=$(run)
optimized=$(run -O3)
echo "$plain"
same() {
    echo "array: $1; typed: $1; compared: $2; node: $2;"
}
wanted=$(
    same '2147483647 -2147483648' '-2147483648 2147483647'
    same '0 2000000000 -2000000000 -7 7' '-2000000000 -7 0 7 2000000000'
    same '-1000000000 -7 0 7 1000000000' '-1000000000 -7 0 7 1000000000'
)
[[ $plain == "$wanted" ]] || changed "other orders"
[[ $optimized == "$wanted" ]] || changed "other orders with -O3"
