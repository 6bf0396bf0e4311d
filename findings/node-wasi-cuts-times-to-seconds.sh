#!/usr/bin/env bash
# Behaviour: under node:wasi, a program that sets the times of a file sets whole seconds, and the
#   time that it does not set loses its fraction, too. The call succeeds; times are read with
#   nanoseconds.
# Versions: Node 20, npm wabt 1.0.39, PyPI wasmtime 50.0.1.
# Expected: WASI (preview 1): `timestamp` is "Timestamp in nanoseconds", and `fd_filestat_set_times`
#   sets `atim` only with the flag `atim`. wasmtime sets and keeps all digits of both.
# Seen: before: accessed 1500000000.987654321; after setting only modified to 1600000000.123456789:
#   wasmtime: 1500000000.987654321 1600000000.123456789; node: 1500000000.000000000
#   1600000000.000000000
# Here: `make`, `rsync` and the like take a copy with its times kept for older than its original.
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

# Sets the modification time of `by-path` by its path, of `by-file` by a descriptor.
cat >touch.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_times"
    (func $fd_set_times (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $path_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "by-path" "by-file")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start")
    ;; fstflags 4: mtim.
    (call $must (call $path_set_times (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 7)
      (i64.const 0) (i64.const 1600000000123456789) (i32.const 4)))
    ;; Rights: fd_read, fd_filestat_set_times.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 107) (i32.const 7)
      (i32.const 0) (i64.const 0x800002) (i64.const 0) (i32.const 0) (i32.const 40)))
    (call $must (call $fd_set_times (i32.load (i32.const 40)) (i64.const 0)
      (i64.const 1600000000123456789) (i32.const 4)))))
WAT
node_modules/.bin/wat2wasm touch.wat -o touch.wasm
cat >touch.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const wasi = new WASI({ version: "preview1", preopens: { "/": "files" } });
const module = new WebAssembly.Module(readFileSync("touch.wasm"));
wasi.start(new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport }));
JS
cat >touch.py <<'PY'
from wasmtime import Engine, Linker, Module, Store, WasiConfig

store = Store(Engine())
wasi = WasiConfig()
wasi.preopen_dir("files", "/")
store.set_wasi(wasi)
linker = Linker(store.engine)
linker.define_wasi()
instance = linker.instantiate(store, Module.from_file(store.engine, "touch.wasm"))
instance.exports(store)["_start"](store)
PY
mkdir files
# run COMMAND…: the times of access and modification of both files after it.
run() {
    touch files/by-path files/by-file
    touch -a -d @1500000000.987654321 files/by-path files/by-file
    "$@"
    python3 -c 'import os
for name in "by-path", "by-file":
    status = os.stat("files/" + name)
    for time in status.st_atime_ns, status.st_mtime_ns:
        print(f"{time // 10**9}.{time % 10**9:09}", end=" ")'
}
of_wasmtime=$(run env PYTHONPATH=py python3 touch.py)
of_node=$(run node --no-warnings touch.mjs)
printf '%s: %s\n' wasmtime "$of_wasmtime" node "$of_node"
all='1500000000.987654321 1600000000.123456789'
cut='1500000000.000000000 1600000000.000000000'
[[ $of_wasmtime == "$all $all " ]] || changed "wasmtime sets other times"
[[ $of_node == "$cut $cut " ]] || changed "node sets other times"
