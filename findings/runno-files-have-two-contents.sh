#!/usr/bin/env bash
# Behaviour: in Runno's WASI each descriptor has a content of its own. What one writes, another that
#   is open does not see, also not after the first is closed.
# Versions: npm @runno/wasi 0.10.0, npm wabt 1.0.39, Node 20.
# Expected: one content for a file: POSIX's read() after a write() by whomever returns what was
#   written; `node:wasi` does so.
# Seen: node:wasi: reads 4 bytes of 4; Runno: 0 bytes, after fd_close 0 bytes, by a new descriptor
#   4; no call gives an error
# Here: a guest with a file opened once to write and once to read, as databases have it, works under
#   the shims and reads old content under this host.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @runno/wasi@0.10.0 wabt@1.0.39

# Opens `note` twice, writes 4 bytes by one descriptor and reads by the other, before and after the
# first is closed, and by a third; the exit status has the three lengths as digits.
cat >twice.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "note" "text")
  ;; Two buffers: address and length.
  (data (i32.const 16) "\68\00\00\00\04\00\00\00" "\00\02\00\00\40\00\00\00")
  (func $must (param i32)
    (if (local.get 0) (then (call $proc_exit (i32.add (i32.const 1000) (local.get 0))))))
  (func $open (result i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0) (i32.const 40)))
    (i32.load (i32.const 40)))
  (func $length (param $file i32) (result i32)
    (call $must (call $fd_pread
      (local.get $file) (i32.const 24) (i32.const 1) (i64.const 0) (i32.const 48)))
    (i32.load (i32.const 48)))
  (func (export "_start") (local $writer i32) (local $reader i32) (local $lengths i32)
    (local.set $writer (call $open))
    (local.set $reader (call $open))
    (call $must (call $fd_write
      (local.get $writer) (i32.const 16) (i32.const 1) (i32.const 48)))
    (local.set $lengths (i32.mul (call $length (local.get $reader)) (i32.const 100)))
    (call $must (call $fd_close (local.get $writer)))
    (local.set $lengths (i32.add (local.get $lengths)
      (i32.mul (call $length (local.get $reader)) (i32.const 10))))
    (call $proc_exit (i32.add (local.get $lengths) (call $length (call $open))))))
WAT
node_modules/.bin/wat2wasm twice.wat -o twice.wasm
cat >run.js <<'JS'
import { mkdirSync, readFileSync } from "node:fs";
import { WASI as OfNode } from "node:wasi";
import { WASI as OfRunno } from "@runno/wasi";

const module = await WebAssembly.compile(readFileSync("twice.wasm"));
const shown = (status) => String(status).padStart(3, "0");
mkdirSync("files");
const node = new OfNode({ version: "preview1", preopens: { "/": "files" }, returnOnExit: true });
const imports = { wasi_snapshot_preview1: node.wasiImport };
console.log("node:wasi:", shown(node.start(await WebAssembly.instantiate(module, imports))));
const runno = new OfRunno({ args: ["twice"], env: {}, fs: {} });
const instance = await WebAssembly.instantiate(module, runno.getImportObject());
console.log("runno:", shown(runno.start({ instance, module }).exitCode));
JS
said=$(node --no-warnings run.js)
echo "$said"
[[ $said == $'node:wasi: 444\nrunno: 004' ]] || changed "other lengths"
