#!/usr/bin/env bash
# Behaviour: after a seek to the start of a file, wasi-js writes where the last write ended, and the
#   seek has told that it is at 0. After a seek to any other place it writes there.
# Versions: npm wasi-js 1.7.3, npm wabt 1.0.39, Node 20.
# Expected: WASI (preview 1): `fd_seek` "Move the offset of a file descriptor" and `fd_write` is
#   "similar to `writev` in POSIX", which writes at the offset. `node:wasi` has it so.
# Seen: "head", seek to N, "X": 0: node:wasi: Xead, wasi-js: headX; 1: hXad, hXad
# Here: a guest that fills in the front of its file last leaves another file under this host than
#   under a shim.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts wasi-js@1.7.3 wabt@1.0.39

# Writes "head" to a new file, seeks to PLACE and writes "X"; `at` is the place that the seek told.
cat >write.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "note" "head" "X")
  ;; Two buffers: address and length.
  (data (i32.const 0) "\68\00\00\00\04\00\00\00" "\6c\00\00\00\01\00\00\00")
  (global $at (export "at") (mut i64) (i64.const -1))
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start") (local $file i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0) (i32.const 40)))
    (local.set $file (i32.load (i32.const 40)))
    (call $must (call $fd_write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 48)))
    ;; whence 0: set.
    (call $must (call $fd_seek (local.get $file) (i64.const PLACE) (i32.const 0) (i32.const 56)))
    (global.set $at (i64.load (i32.const 56)))
    (call $must (call $fd_write (local.get $file) (i32.const 8) (i32.const 1) (i32.const 48)))))
WAT
cat >run.js <<'JS'
const fs = require("node:fs");
const [host, guest] = process.argv.slice(2);
const directory = fs.mkdtempSync("files-");
const options = { version: "preview1", preopens: { "/": directory } };
let WASI;
if (host === "wasi-js") {
  WASI = require("wasi-js").default;
  options.bindings = { ...require("wasi-js/dist/bindings/node").default, fs };
} else {
  WASI = require("node:wasi").WASI;
}
const wasi = new WASI(options);
const module_ = new WebAssembly.Module(fs.readFileSync(guest));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const instance = new WebAssembly.Instance(module_, imports);
wasi.start(instance);
console.log(`at ${instance.exports.at.value}: ${fs.readFileSync(`${directory}/note`, "utf8")}`);
JS
for place in 0 1; do
    sed "s/PLACE/$place/" write.wat >"write-$place.wat"
    node_modules/.bin/wat2wasm "write-$place.wat" -o "write-$place.wasm"
done
# run HOST: what it leaves for both places.
run() {
    node --no-warnings run.js "$1" write-0.wasm
    node --no-warnings run.js "$1" write-1.wasm
}
of_node=$(run node:wasi)
of_js=$(run wasi-js)
printf '%s:\n%s\n' node:wasi "$of_node" wasi-js "$of_js"
[[ $of_node == $'at 0: Xead\nat 1: hXad' ]] || changed "node:wasi writes something else"
[[ $of_js == $'at 0: headX\nat 1: hXad' ]] || changed "wasi-js writes something else"
