#!/usr/bin/env bash
# Behaviour: browser_wasi_shim takes `fdflags::append` as a seek to the end when a file is opened. A
#   write after a seek lands where the seek went, and two who append to one file overwrite each
#   other.
# Versions: npm @bjorn3/browser_wasi_shim 0.4.2, npm wabt 1.0.39, Node 20.
# Expected: WASI's `fdflags::append`: "Data written to the file is always appended to the file's
#   end"; `node:wasi` does so.
# Seen: after a seek: node:wasi "headtail", the shim "tail"; with two descriptors: node:wasi
#   "headtail", the shim "tail"; no call gives an error
# Here: a guest's log, opened anew by each part of the program, is whole under the shims, and has
#   lost lines where the program is shown in a browser.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bjorn3/browser_wasi_shim@0.4.2 \
    wabt@1.0.39

# module NAME <REST: a module whose _start opens `note` to append, twice, and goes on with REST.
module() {
    cat - >"$1.rest"
    {
        cat <<'WAT'
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
  (func $must (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))
  (func $open (result i32)
    ;; oflags 1: creat. Rights: fd_read, fd_seek, fd_tell, fd_write. fdflags 1: append.
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x66) (i64.const 0) (i32.const 1) (i32.const 40)))
    (i32.load (i32.const 40)))
  (func $write (param $file i32) (param $buffer i32)
    (call $must (call $fd_write
      (local.get $file) (local.get $buffer) (i32.const 1) (i32.const 48))))
  (func (export "_start") (local $one i32) (local $other i32)
    (local.set $one (call $open))
    (local.set $other (call $open))
    (call $write (local.get $one) (i32.const 16))
WAT
        cat "$1.rest"
        echo '))'
    } >"$1.wat"
    node_modules/.bin/wat2wasm "$1.wat" -o "$1.wasm"
}
module seek <<'WAT'
    ;; whence 0: from the beginning.
    (call $must (call $fd_seek (local.get $one) (i64.const 0) (i32.const 0) (i32.const 56)))
    (call $write (local.get $one) (i32.const 24))
WAT
module two <<'WAT'
    (call $write (local.get $other) (i32.const 24))
WAT
cat >run.js <<'JS'
import { mkdirSync, readFileSync } from "node:fs";
import { WASI as OfNode } from "node:wasi";
import { File, OpenFile, PreopenDirectory, WASI as OfShim } from "@bjorn3/browser_wasi_shim";

for (const name of ["seek", "two"]) {
  const module = await WebAssembly.compile(readFileSync(`${name}.wasm`));
  const run = async (wasi) => {
    const imports = { wasi_snapshot_preview1: wasi.wasiImport };
    return wasi.start(await WebAssembly.instantiate(module, imports));
  };
  mkdirSync(name);
  const options = { version: "preview1", preopens: { "/": name }, returnOnExit: true };
  const of_node = await run(new OfNode(options));
  console.log(`${name}: node:wasi: ${of_node}, "${readFileSync(`${name}/note`)}"`);
  const directory = new PreopenDirectory("/", new Map());
  const none = new OpenFile(new File([]));
  const of_shim = await run(new OfShim([], [], [none, none, none, directory], { debug: false }));
  const { data } = directory.dir.contents.get("note");
  console.log(`${name}: the shim: ${of_shim}, "${new TextDecoder().decode(data)}"`);
}
JS
said=$(node --no-warnings run.js)
echo "$said"
wanted=$(
    cat <<'SAID'
seek: node:wasi: 0, "headtail"
seek: the shim: 0, "tail"
two: node:wasi: 0, "headtail"
two: the shim: 0, "tail"
SAID
)
[[ $said == "$wanted" ]] || changed "other contents"
