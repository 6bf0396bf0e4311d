#!/usr/bin/env bash
# Behaviour: the JavaScript that polywasm makes of a module rounds no f32: sums, quotients and
#   conversions that are used further have 64 bits, and so has what `f32.demote_f64` gives. `nearest`
#   rounds halves up. A 64-bit comparison or shift of an `i64.extend_i32_s` is one of 32 bits.
# Versions: npm polywasm 0.2.0, wabt 1.0.39, Node 20.
# Expected: the core specification, "Floating-point operations" (results are rounded to the type;
#   fnearest: to the even one of two) and "Integer operations"; Node's engine has it so. The package's
#   README says that traps, validation and bit patterns of NaN are left out, and nothing of this.
# Seen: 16777216 + 1 - 16777216: 1 (0), 1 / 3: 0.3333333333333333 (0.3333333432674408), 0.1 demoted:
#   0.1 (0.10000000149011612), 2.5 and 0.5 rounded: 3, 1 (2, 0), -1 < 100 of i64 without sign: 1 (0),
#   -1 >> 40 without sign: -1 (16777215)
# Here: a module that was tried where WebAssembly is turned off behaves otherwise in a container.
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
cat >numbers.wat <<'WAT'
(module
  (func (export "sum") (param f32 f32) (result f32)
    (f32.sub (f32.add (local.get 0) (local.get 1)) (local.get 0)))
  (func (export "third") (result f64) (local f32)
    (local.set 0 (f32.div (f32.const 1) (f32.const 3)))
    (f64.promote_f32 (local.get 0)))
  (func (export "demoted") (param f64) (result f64)
    (f64.promote_f32 (f32.demote_f64 (local.get 0))))
  (func (export "nearest") (param f64) (result f64) (f64.nearest (local.get 0)))
  (func (export "below_100") (param i32) (result i32)
    (i64.lt_u (i64.extend_i32_s (local.get 0)) (i64.const 100)))
  (func (export "shifted") (param i32) (result i32)
    (i32.wrap_i64 (i64.shr_u (i64.extend_i32_s (local.get 0)) (i64.const 40)))))
WAT
node_modules/.bin/wat2wasm numbers.wat -o numbers.wasm
cat >numbers.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WebAssembly as Poly } from "polywasm";

// A copy in memory of its own: from a part of a buffer polywasm reads other constants.
const bytes = new Uint8Array(readFileSync("numbers.wasm"));
const [poly, node] = [Poly, WebAssembly].map(
  ({ Module, Instance }) => new Instance(new Module(bytes)).exports,
);
const calls = [
  ["sum", 16777216, 1],
  ["third"],
  ["demoted", 0.1],
  ["nearest", 2.5],
  ["nearest", 0.5],
  ["nearest", 1.5],
  ["below_100", 5],
  ["below_100", -1],
  ["shifted", -1],
];
for (const [name, ...numbers] of calls) {
  console.log(`${[name, ...numbers].join(" ")}: ${poly[name](...numbers)}, by Node ${node[name](...numbers)}`);
}
JS
seen=$(node numbers.mjs)
echo "$seen"
[[ $seen == 'sum 16777216 1: 1, by Node 0
third: 0.3333333333333333, by Node 0.3333333432674408
demoted 0.1: 0.1, by Node 0.10000000149011612
nearest 2.5: 3, by Node 2
nearest 0.5: 1, by Node 0
nearest 1.5: 2, by Node 2
below_100 5: 1, by Node 1
below_100 -1: 1, by Node 0
shifted -1: -1, by Node 16777215' ]] || changed "the results are others"
