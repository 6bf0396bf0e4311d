#!/usr/bin/env bash
# Behaviour: @tybys/wasm-util's WASI seeks from the end that the file had when it was opened. A
#   program that writes to a new file, goes to its end and writes on overwrites what it wrote.
# Versions: npm @tybys/wasm-util 0.10.5, npm wabt 1.0.39, Node 20.
# Expected: WASI's `whence::end`: "seek relative to end-of-file"; `node:wasi` runs it so.
# Seen: node:wasi: at 4, "headtail"; wasm-util: at 0, "tail"; both end with 0
# Here: programs ask so for a file's length, too (`fseek`, `ftell`). A guest that is tried out under
#   this host leaves other files than under a shim.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts @tybys/wasm-util@0.10.5 wabt@1.0.39

# Opens `note` in the first directory, writes "head", seeks to the end, writes "tail"; the exit
# status is the place that the seek gave.
cat >write.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "note" "head" "tail")
  ;; Two buffers: address and length.
  (data (i32.const 16) "\68\00\00\00\04\00\00\00" "\6c\00\00\00\04\00\00\00")
  (func $must (param i32) (if (local.get 0) (then (call $proc_exit (i32.const 99)))))
  (func (export "_start") (local $file i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0) (i32.const 40)))
    (local.set $file (i32.load (i32.const 40)))
    (call $must (call $fd_write (local.get $file) (i32.const 16) (i32.const 1) (i32.const 48)))
    ;; whence 2: end.
    (call $must (call $fd_seek (local.get $file) (i64.const 0) (i32.const 2) (i32.const 56)))
    (call $must (call $fd_write (local.get $file) (i32.const 24) (i32.const 1) (i32.const 48)))
    (call $proc_exit (i32.load (i32.const 56)))))
WAT
node_modules/.bin/wat2wasm write.wat -o write.wasm
cat >run.mjs <<'JS'
import * as fs from "node:fs";
const [host, directory] = process.argv.slice(2);
const { WASI } = await import(host);
const preopens = { "/": directory };
const wasi = new WASI({ version: "preview1", preopens, returnOnExit: true, fs });
const module = await WebAssembly.compile(fs.readFileSync("write.wasm"));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
console.log(wasi.start(await WebAssembly.instantiate(module, imports)));
JS
mkdir of-node of-util
node_at=$(node --no-warnings run.mjs node:wasi of-node)
util_at=$(node --no-warnings run.mjs @tybys/wasm-util of-util)
printf '%s: at %s, "%s"\n' node:wasi "$node_at" "$(<of-node/note)" \
    wasm-util "$util_at" "$(<of-util/note)"
[[ $node_at == 4 && $(<of-node/note) == headtail ]] || changed "node:wasi writes something else"
[[ $util_at == 0 && $(<of-util/note) == tail ]] || changed "wasm-util finds the end"
