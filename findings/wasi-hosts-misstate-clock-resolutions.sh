#!/usr/bin/env bash
# Behaviour: node:wasi gives the thread's processor time so far for the resolution of its clock, and
#   wasi-js writes resolutions with the first byte last: 1 nanosecond is 833 days.
# Versions: Node 20, npm wasi-js 1.7.3, npm wabt 1.0.39.
# Expected: WASI (preview 1): `clock_res_get` "Return the resolution of a clock", a `timestamp` in
#   nanoseconds; memory is little endian (WebAssembly, numerics, "bytes").
# Seen: resolutions of the realtime, monotonic, process' and thread's clocks, twice, with work
#   between: node:wasi: 1 1 1 68542968, then 598677495 more for the last one; wasi-js:
#   16718206241729413120 for 1000, and 72057594037927936 for 1
# Here: a guest that waits for a tick of its clock, or rounds to one, waits for years under this
#   host.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts wasi-js@1.7.3 wabt@1.0.39

# resolution(clock); 0 is realtime, 1 monotonic, 2 of the process' time, 3 of the thread's time.
cat >resolution.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $res (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start")
    ;; wasi-js finds the memory with the first call.
    (call $must (call $args_sizes (i32.const 16) (i32.const 20))))
  (func (export "resolution") (param i32) (result i64)
    (call $must (call $res (local.get 0) (i32.const 8)))
    (i64.load (i32.const 8))))
WAT
node_modules/.bin/wat2wasm resolution.wat -o resolution.wasm
cat >run.js <<'JS'
const fs = require("node:fs");
const options = { version: "preview1" };
let WASI;
if (process.argv[2] === "wasi-js") {
  WASI = require("wasi-js").default;
  options.bindings = { ...require("wasi-js/dist/bindings/node").default, fs };
} else {
  WASI = require("node:wasi").WASI;
}
const wasi = new WASI(options);
const module_ = new WebAssembly.Module(fs.readFileSync("resolution.wasm"));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const instance = new WebAssembly.Instance(module_, imports);
wasi.start(instance);
const all = () => [0, 1, 2, 3].map((clock) =>
  BigInt.asUintN(64, instance.exports.resolution(clock)));
const before = all();
const begin = process.cpuUsage();
while (process.cpuUsage(begin).user < 100000);
const after = all();
console.log(before.join(" "), "+", after.map((value, clock) => value - before[clock]).join(" "));
JS
of_node=$(node --no-warnings run.js node:wasi)
of_js=$(node --no-warnings run.js wasi-js)
printf '%s: %s\n' node:wasi "$of_node" wasi-js "$of_js"
# Both, the first value and what is added, are longer than ten milliseconds.
[[ $of_node =~ ^1\ 1\ 1\ [0-9]{8,}\ \+\ 0\ 0\ 0\ [0-9]{8,}$ ]] ||
    changed "node:wasi has other resolutions"
of_one=72057594037927936
[[ $of_js == "16718206241729413120 $of_one $of_one $of_one + 0 0 0 0" ]] ||
    changed "wasi-js has other resolutions"
