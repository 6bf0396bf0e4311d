#!/usr/bin/env bash
# Behaviour: uwasi makes text of each piece that a program writes by itself: a letter of several bytes
#   that ends in the next piece is lost, whatever the handler of the output. Its own handler also ends
#   the line after each piece.
# Versions: npm uwasi 1.1.0, wabt 1.0.39; Node 20.
# Expected: the output of a program is bytes, and where the program cuts them has no meaning (POSIX,
#   write()); `node:wasi` has it so. C's and Rust's libraries write when a buffer is full, in the middle
#   of a letter if it comes so.
# Seen: "Grüße" written as 3 and 4 bytes: node:wasi "Grüße"; uwasi with a handler "Gr", U+FFFD twice,
#   "ße"; without one the same in two lines
# Here: a guest's output under the shims is what it wrote; under this host any longer text with letters
#   beyond ASCII has wrong ones.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts uwasi@1.1.0 wabt@1.0.39
cat >pieces.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "Gr\c3\bc\c3\9fe")
  ;; Two buffers: address and length.
  (data (i32.const 16) "\64\00\00\00\03\00\00\00" "\67\00\00\00\04\00\00\00")
  (func $write (param $buffer i32)
    (if (call $fd_write (i32.const 1) (local.get $buffer) (i32.const 1) (i32.const 48))
      (then (unreachable))))
  (func (export "_start")
    (call $write (i32.const 16))
    (call $write (i32.const 24))))
WAT
node_modules/.bin/wat2wasm pieces.wat -o pieces.wasm
cat >run.js <<'JS'
import { readFileSync } from "node:fs";
import { WASI as OfNode } from "node:wasi";
import { WASI, useAll, useStdio } from "uwasi";

const module = new WebAssembly.Module(readFileSync("pieces.wasm"));
let text = "";
const stdio = useStdio({ stdout: (piece) => (text += piece) });
const hosts = {
  node: () => new OfNode({ version: "preview1" }),
  handler: () => new WASI({ features: [useAll(), stdio] }),
  alone: () => new WASI({ features: [useAll()] }),
};
const wasi = hosts[process.argv[2]]();
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
wasi.start(new WebAssembly.Instance(module, imports));
process.stdout.write(text);
JS
for host in node handler alone; do
    node --no-warnings run.js "$host" >"$host"
    echo "$host: $(<"$host")"
done
lost=$'\xef\xbf\xbd'
[[ $(<node) == 'Grüße' ]] || changed "node:wasi writes something else"
[[ $(<handler) == "Gr$lost${lost}ße" ]] || changed "uwasi writes something else to a handler"
[[ $(<alone) == "Gr$lost"$'\n'"${lost}ße" ]] || changed "uwasi writes something else by itself"
