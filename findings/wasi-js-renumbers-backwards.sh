#!/usr/bin/env bash
# Behaviour: wasi-js's `fd_renumber` moves the second descriptor to the first one's number: a
#   program that lets `second` stand for its open file `first` loses `first`, and writes to the
#   other file.
# Versions: npm wasi-js 1.7.3, npm wabt 1.0.39, Node 20.
# Expected: WASI (preview 1): `fd_renumber(fd, to)` "Atomically replace a file descriptor by
#   renumbering another file descriptor": `to` is "the file descriptor to overwrite". `node:wasi`
#   has it so.
# Seen: node:wasi: write by the first number: errno 8, by the second: 0, first "text", second "";
#   wasi-js: 0, 8, first "", second "text"
# Here: a guest that redirects its output to a file in this way writes it elsewhere.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts wasi-js@1.7.3 wabt@1.0.39

# Creates the files `first` and `second`, renumbers the first one's descriptor to the second one's,
# and writes "text" by each of the two numbers.
cat >renumber.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber"
    (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "first" "second" "text")
  ;; A buffer: address and length.
  (data (i32.const 0) "\6f\00\00\00\04\00\00\00")
  (global (export "by_first") (mut i32) (i32.const -1))
  (global (export "by_second") (mut i32) (i32.const -1))
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func $create (param $name i32) (param $length i32) (result i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (local.get $name) (local.get $length)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0) (i32.const 40)))
    (i32.load (i32.const 40)))
  (func $write (param $file i32) (result i32)
    (call $fd_write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 48)))
  (func (export "_start") (local $first i32) (local $second i32)
    (local.set $first (call $create (i32.const 100) (i32.const 5)))
    (local.set $second (call $create (i32.const 105) (i32.const 6)))
    (call $must (call $fd_renumber (local.get $first) (local.get $second)))
    (global.set 0 (call $write (local.get $first)))
    (global.set 1 (call $write (local.get $second)))))
WAT
node_modules/.bin/wat2wasm renumber.wat -o renumber.wasm
cat >run.js <<'JS'
const fs = require("node:fs");
const [host, directory] = process.argv.slice(2);
const options = { version: "preview1", preopens: { "/": directory } };
let WASI;
if (host === "wasi-js") {
  WASI = require("wasi-js").default;
  options.bindings = { ...require("wasi-js/dist/bindings/node").default, fs };
} else {
  WASI = require("node:wasi").WASI;
}
const wasi = new WASI(options);
const module_ = new WebAssembly.Module(fs.readFileSync("renumber.wasm"));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const instance = new WebAssembly.Instance(module_, imports);
wasi.start(instance);
const { by_first, by_second } = instance.exports;
const text = (name) => fs.readFileSync(`${directory}/${name}`, "utf8");
console.log(by_first.value, by_second.value, `"${text("first")}" "${text("second")}"`);
JS
mkdir of-node of-js
of_node=$(node --no-warnings run.js node:wasi of-node)
of_js=$(node --no-warnings run.js wasi-js of-js)
echo "host: errno by the first and the second number, contents of first and second"
printf '%s: %s\n' node:wasi "$of_node" wasi-js "$of_js"
[[ $of_node == '8 0 "text" ""' ]] || changed "node:wasi writes elsewhere"
[[ $of_js == '0 8 "" "text"' ]] || changed "wasi-js writes elsewhere"
