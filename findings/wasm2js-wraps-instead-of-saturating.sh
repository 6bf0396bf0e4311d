#!/usr/bin/env bash
# Behaviour: in the JavaScript of `wasm2js`, `i32.trunc_sat_…` wraps around modulo 2^32 and makes 0
#   of infinity, also with `--deterministic` and `--pedantic`; nothing is said.
# Versions: npm binaryen 132.0.0, Debian binaryen 108-1, Node 20.
# Expected: the specification (numerics, trunc_sat): the nearest value of the type, so the greatest
#   for infinity. The options' help speaks of what would trap, and these do not. Node has it so.
# Seen: 3e9: 2147483647, by wasm2js -1294967296; infinity: 2147483647, by wasm2js 0; to u32 -3: 0,
#   by wasm2js 4294967293; the same of all versions and options
# Here: Rust's `x as i32` is this instruction; a guest computes other numbers where its module is
#   turned into JavaScript.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts binaryen@132.0.0
apt-get -qq -o APT::Sandbox::User=root download binaryen=108-1
dpkg -x binaryen_*.deb debian
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu
feature=--enable-nontrapping-float-to-int

cat >convert.wat <<'WAT'
(module
  (func (export "to_i32") (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0)))
  (func (export "to_u32") (param f64) (result i32) (i32.trunc_sat_f64_u (local.get 0))))
WAT
node_modules/.bin/wasm-as "$feature" convert.wat -o convert.wasm
cat >call.mjs <<'JS'
import { readFileSync } from "node:fs";
let functions;
if (process.argv[2] === "engine") {
  const module = new WebAssembly.Module(readFileSync("convert.wasm"));
  functions = new WebAssembly.Instance(module).exports;
} else {
  functions = await import("./convert.mjs");
}
const { to_i32, to_u32 } = functions;
const numbers = [3e9, 1e10, -Infinity, Infinity, -3];
console.log(...numbers.map((number) => `${to_i32(number)}/${to_u32(number) >>> 0}`));
JS
# by COMMAND…: the conversions of the JavaScript that COMMAND makes.
by() {
    "$@" "$feature" convert.wasm -o convert.mjs
    node call.mjs wasm2js
}
by_engine=$(node call.mjs engine)
by_132=$(by node_modules/.bin/wasm2js)
by_108=$(by debian/usr/bin/wasm2js)
deterministic=$(by node_modules/.bin/wasm2js -O --deterministic)
pedantic=$(by node_modules/.bin/wasm2js --pedantic)
echo "of 3e9, 1e10, -infinity, infinity, -3, to i32/u32:"
printf '%s: %s\n' engine "$by_engine" 'wasm2js 132' "$by_132" 'wasm2js 108' "$by_108" \
    'deterministic' "$deterministic" pedantic "$pedantic"
saturated='2147483647/3000000000 2147483647/4294967295 -2147483648/0 2147483647/4294967295 -3/0'
[[ $by_engine == "$saturated" ]] || changed "Node's engine converts otherwise"
wrapped='-1294967296/3000000000 1410065408/1410065408 0/0 0/0 -3/4294967293'
for got in "$by_132" "$by_108" "$deterministic" "$pedantic"; do
    [[ $got == "$wrapped" ]] || changed "wasm2js converts otherwise: $got"
done
