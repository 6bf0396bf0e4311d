#!/usr/bin/env bash
# Behaviour: webassemblyjs runs the first branch of each `if`, whatever the condition is, gives the
#   condition as the result of `select`, takes the first label of each `br_table`, and calls a
#   function with its last argument twice. Arithmetic is right; nothing is said.
# Versions: npm webassemblyjs 1.14.1, wabt 1.0.39, Node 20.
# Expected: the core specification, "Control Instructions" (if: the second branch if the operand is 0;
#   br_table, call) and select; Node's engine has it so. The package is "meant to be a polyfill" and
#   names no limits.
# Seen: if 0: 10 (20); select 0: 0 (2), select 5: 5 (1); br_table 1 and 2: 10 (11, 12); a function
#   for a - b called with 7 and 1: 0 (6); 7 - 2: 5 (5); 6 x 7: 42 (42)
# Here: a module that was tried with it behaves otherwise in a container.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts webassemblyjs@1.14.1 wabt@1.0.39
cat >run.js <<'JS'
const wabt = require("wabt");
const polyfill = require("webassemblyjs");

const functions = {
  times: "(param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1))",
  minus: "(param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1))",
  call: "(param i32) (result i32) (call $minus (local.get 0) (i32.const 1))",
  if: "(param i32) (result i32) (if (result i32) (local.get 0) (then (i32.const 10)) (else (i32.const 20)))",
  select: "(param i32) (result i32) (select (i32.const 1) (i32.const 2) (local.get 0))",
  br_table: `(param i32) (result i32)
    (block (block (block (br_table 0 1 2 (local.get 0))) (return (i32.const 10))) (return (i32.const 11)))
    (i32.const 12)`,
};
const calls = [
  ["times", 6, 7],
  ["minus", 7, 2],
  ["call", 7],
  ["if", 1],
  ["if", 0],
  ["select", 0],
  ["select", 5],
  ["br_table", 0],
  ["br_table", 1],
  ["br_table", 2],
];
(async () => {
  const { parseWat } = await wabt();
  const text = Object.entries(functions).map(([name, body]) => `(func $${name} (export "${name}") ${body})`);
  const module = parseWat("module", `(module ${text.join("\n")})`);
  const bytes = new Uint8Array(module.toBinary({}).buffer).slice().buffer;
  const { exports: right } = (await WebAssembly.instantiate(bytes)).instance;
  const { exports: found } = (await polyfill.instantiate(bytes, {})).instance;
  for (const [name, ...values] of calls) {
    console.log(`${name} ${values.join(" ")}: ${found[name](...values)}, by Node ${right[name](...values)}`);
  }
})();
JS
seen=$(node run.js | grep -v '^traversing')
echo "$seen"
[[ $seen == 'times 6 7: 42, by Node 42
minus 7 2: 5, by Node 5
call 7: 0, by Node 6
if 1: 10, by Node 10
if 0: 10, by Node 20
select 0: 0, by Node 2
select 5: 5, by Node 1
br_table 0: 10, by Node 10
br_table 1: 10, by Node 11
br_table 2: 10, by Node 12' ]] || changed "the results are others"
