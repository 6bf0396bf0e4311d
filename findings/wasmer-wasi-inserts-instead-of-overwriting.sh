#!/usr/bin/env bash
# Behaviour: a write into the middle of a file of @wasmer/wasi's memory file system pushes the rest
#   of the file back, where a write of WASI replaces as many bytes. So does `fd_pwrite`.
# Versions: npm @wasmer/wasi 1.2.2, npm wabt 1.0.39, Node 20.
# Expected: WASI (preview 1): `fd_write` is "similar to `writev` in POSIX", `fd_pwrite` writes
#   "without using and updating the file descriptor's offset". Neither moves bytes. `node:wasi` has
#   it so.
# Seen: "abcdef", "X" at 0, "YZ" at 3: node:wasi: XbcYZf; wasmer: XabYZcdef
# Here: a guest that corrects a length at the front of its file, as archives and images have one,
#   leaves a longer file under this host than under a shim.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts @wasmer/wasi@1.2.2 wabt@1.0.39

# Writes "abcdef" to a new file, "X" at its start, "YZ" at 3, and prints the file.
cat >write.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite"
    (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "note" "abcdef" "X" "YZ")
  ;; Four buffers: address and length. The last one is read into.
  (data (i32.const 0) "\68\00\00\00\06\00\00\00" "\6e\00\00\00\01\00\00\00"
    "\6f\00\00\00\02\00\00\00" "\c8\00\00\00\40\00\00\00")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start") (local $file i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write.
    (call $must (call $path_open (i32.const DIRECTORY) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 0) (i32.const 40)))
    (local.set $file (i32.load (i32.const 40)))
    (call $must (call $fd_write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 48)))
    (call $must (call $fd_seek (local.get $file) (i64.const 0) (i32.const 0) (i32.const 56)))
    (call $must (call $fd_write (local.get $file) (i32.const 8) (i32.const 1) (i32.const 48)))
    (call $must (call $fd_pwrite (local.get $file) (i32.const 16) (i32.const 1) (i64.const 3)
      (i32.const 48)))
    (call $must (call $fd_seek (local.get $file) (i64.const 0) (i32.const 0) (i32.const 56)))
    (call $must (call $fd_read (local.get $file) (i32.const 24) (i32.const 1) (i32.const 48)))
    (i32.store (i32.const 28) (i32.load (i32.const 48)))
    (call $must (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 48)))))
WAT
# Wasmer's first directory is its root, the next one is that of `preopens`.
for directory in 3 4; do
    sed "s/DIRECTORY/$directory/" write.wat >"write-$directory.wat"
    node_modules/.bin/wat2wasm "write-$directory.wat" -o "write-$directory.wasm"
done
cat >by-node.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const wasi = new WASI({ version: "preview1", preopens: { "/": "files" } });
const module = new WebAssembly.Module(readFileSync("write-3.wasm"));
wasi.start(new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport }));
JS
cat >by-wasmer.mjs <<'JS'
import { readFileSync } from "node:fs";
import { init, WASI } from "@wasmer/wasi";
await init();
const wasi = new WASI({ preopens: { "/": "/" } });
const instance = wasi.instantiate(new WebAssembly.Module(readFileSync("write-4.wasm")), {});
wasi.start(instance);
console.log(wasi.getStdoutString());
JS
mkdir files
of_node=$(node --no-warnings by-node.mjs)
of_wasmer=$(node by-wasmer.mjs)
printf '%s: %s\n' node:wasi "$of_node" wasmer "$of_wasmer"
[[ $of_node == XbcYZf && $(<files/note) == XbcYZf ]] || changed "node:wasi writes something else"
[[ $of_wasmer == XabYZcdef ]] || changed "wasmer writes something else"
