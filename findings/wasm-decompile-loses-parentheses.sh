#!/usr/bin/env bash
# Behaviour: `wasm-decompile` prints different formulas alike: `a - (b - 1)` as `a - b - 1`, which
#   is also `(a - b) - 1`, `a / (b * 2)` as `a / b * 2`, and a rotation as a shift, `a << b`.
# Versions: npm wabt 1.0.39, Debian wabt 1.0.32-1 (bookworm), Node 20.
# Expected: wabt's page on the decompiler, Operator precedence: only `+` and `*` are associative,
#   and may stand in a sequence without parentheses.
# Seen: for 10 and 4 a - (b - 1) is 7, (a - b) - 1 is 5, both a - b - 1; for 80 and 4 a / (b * 2) is
#   10, (a / b) * 2 is 40, both a / b * 2; for -1 and 4 rotl is -1, shl -16, both a << b
# Here: who reads a guest's code to find out what it computes reads another formula.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
apt-get -qq -o APT::Sandbox::User=root download wabt=1.0.32-1
dpkg -x wabt_*.deb debian

cat >formulas.wat <<'WAT'
(module
  (func (export "sub_right") (param i32 i32) (result i32)
    (i32.sub (local.get 0) (i32.sub (local.get 1) (i32.const 1))))
  (func (export "sub_left") (param i32 i32) (result i32)
    (i32.sub (i32.sub (local.get 0) (local.get 1)) (i32.const 1)))
  (func (export "div_right") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (i32.mul (local.get 1) (i32.const 2))))
  (func (export "div_left") (param i32 i32) (result i32)
    (i32.mul (i32.div_s (local.get 0) (local.get 1)) (i32.const 2)))
  (func (export "rotl") (param i32 i32) (result i32) (i32.rotl (local.get 0) (local.get 1)))
  (func (export "shl") (param i32 i32) (result i32) (i32.shl (local.get 0) (local.get 1)))
  (func (export "ranks") (param i32 i32) (result i32)
    (i32.mul (i32.add (local.get 0) (local.get 1)) (i32.const 2))))
WAT
node_modules/.bin/wat2wasm formulas.wat -o formulas.wasm
cat >compare.js <<'JS'
const { readFileSync } = require("node:fs");
const guest = new WebAssembly.Module(readFileSync("formulas.wasm"));
const functions = new WebAssembly.Instance(guest).exports;
const text = readFileSync(process.argv[2], "utf8");
const values = { sub: [10, 4], div: [80, 4], rotl: [-1, 4], shl: [-1, 4], ranks: [3, 4] };
for (const [, name, formula] of text.matchAll(/export function (\w+).*\n +return (.*)/g)) {
  const [a, b] = values[name.replace(/_.*/, "")];
  console.log(`${name} of ${a}, ${b}: ${functions[name](a, b)}, printed ${formula}`);
}
JS
node_modules/.bin/wasm-decompile formulas.wasm -o newer.dcmp
debian/usr/bin/wasm-decompile formulas.wasm -o older.dcmp
newer=$(node compare.js newer.dcmp)
older=$(node compare.js older.dcmp)
echo "$newer"
wanted=$(
    cat <<'SAID'
sub_right of 10, 4: 7, printed a - b - 1
sub_left of 10, 4: 5, printed a - b - 1
div_right of 80, 4: 10, printed a / b * 2
div_left of 80, 4: 40, printed a / b * 2
rotl of -1, 4: -1, printed a << b
shl of -1, 4: -16, printed a << b
ranks of 3, 4: 14, printed (a + b) * 2
SAID
)
[[ $newer == "$wanted" ]] || changed "other formulas"
[[ $older == "$wanted" ]] || changed "other formulas of the older version: $older"
