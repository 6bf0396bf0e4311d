#!/usr/bin/env bash
# Behaviour: under node:wasi, a program that reads its descriptor's flags, adds one and sets them,
#   as POSIX programs do, overwrites a file that it opened to append to, and appends to one that it
#   opened to write. node:wasi gives the host's flags for WASI's: the host's O_WRONLY is WASI's
#   append, O_RDWR is dsync, and the host's O_APPEND has no meaning.
# Versions: Node 20, npm wabt 1.0.39, PyPI wasmtime 50.0.1.
# Expected: WASI (preview 1), record `fdflags`: bit 0 is append, bit 1 dsync, bit 2 nonblock, and
#   there are five; `fd_fdstat_get` gives such a record. wasmtime has it so.
# Seen: append, then flags | nonblock: wasmtime: 0x1, "old!abcd"; node: 0x8402, "dbc!"; write, then
#   flags | nonblock: wasmtime: 0x0, "dbc!"; node: 0x8001, "old!abcd"
# Here: a logging guest that is tried out under Node loses its earlier lines.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
python3 -m pip -q install --no-deps --target py wasmtime==50.0.1

# change(fdflags, rights): opens `note`, adds nonblock to the flags that it has, writes "abc", seeks
# to the start, writes "d". The result is the flags that it had.
cat >change.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get"
    (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags"
    (func $fd_fdstat_set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "note" "abc" "d")
  ;; Two buffers: address and length.
  (data (i32.const 0) "\68\00\00\00\03\00\00\00" "\6b\00\00\00\01\00\00\00")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start"))
  (func (export "change") (param $fdflags i32) (param $rights i64) (result i32)
    (local $file i32) (local $flags i32)
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 0) (local.get $rights) (i64.const 0) (local.get $fdflags) (i32.const 40)))
    (local.set $file (i32.load (i32.const 40)))
    (call $must (call $fd_fdstat_get (local.get $file) (i32.const 48)))
    (local.set $flags (i32.load16_u (i32.const 50)))
    (call $must (call $fd_fdstat_set_flags (local.get $file)
      (i32.or (local.get $flags) (i32.const 4))))
    (call $must (call $fd_write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 80)))
    (call $must (call $fd_seek (local.get $file) (i64.const 0) (i32.const 0) (i32.const 88)))
    (call $must (call $fd_write (local.get $file) (i32.const 8) (i32.const 1) (i32.const 80)))
    (local.get $flags)))
WAT
node_modules/.bin/wat2wasm change.wat -o change.wasm
cat >change.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const wasi = new WASI({ version: "preview1", preopens: { "/": "files" } });
const module = new WebAssembly.Module(readFileSync("change.wasm"));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const instance = new WebAssembly.Instance(module, imports);
wasi.start(instance);
const [fdflags, rights] = process.argv.slice(2);
console.log(`0x${instance.exports.change(+fdflags, BigInt(rights)).toString(16)}`);
JS
cat >change.py <<'PY'
import sys
from wasmtime import Engine, Linker, Module, Store, WasiConfig

store = Store(Engine())
wasi = WasiConfig()
wasi.preopen_dir("files", "/")
store.set_wasi(wasi)
linker = Linker(store.engine)
linker.define_wasi()
exports = linker.instantiate(store, Module.from_file(store.engine, "change.wasm")).exports(store)
print(hex(exports["change"](store, int(sys.argv[1]), int(sys.argv[2], 0))))
PY
mkdir files
# run FDFLAGS RIGHTS COMMAND…: the flags that the guest got and the file after it.
run() {
    local fdflags=$1 rights=$2 flags
    shift 2
    printf 'old!' >files/note
    flags=$("$@" "$fdflags" "$rights")
    echo "$flags, \"$(<files/note)\""
}
by_node=(node --no-warnings change.mjs)
by_wasmtime=(env PYTHONPATH=py python3 change.py)
# Rights: fd_seek, fd_fdstat_set_flags, fd_write, and in the first case fd_read.
append_of_wasmtime=$(run 1 0x4e "${by_wasmtime[@]}")
append_of_node=$(run 1 0x4e "${by_node[@]}")
write_of_wasmtime=$(run 0 0x4c "${by_wasmtime[@]}")
write_of_node=$(run 0 0x4c "${by_node[@]}")
echo "append, then flags | nonblock: wasmtime: $append_of_wasmtime; node: $append_of_node"
echo "write, then flags | nonblock: wasmtime: $write_of_wasmtime; node: $write_of_node"
[[ $append_of_wasmtime == '0x1, "old!abcd"' && $write_of_wasmtime == '0x0, "dbc!"' ]] ||
    changed "wasmtime does something else"
[[ $append_of_node == '0x8402, "dbc!"' ]] || changed "node appends, or has other flags"
[[ $write_of_node == '0x8001, "old!abcd"' ]] || changed "node overwrites, or has other flags"
