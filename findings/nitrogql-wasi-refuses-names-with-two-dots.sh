#!/usr/bin/env bash
# Behaviour: @nitrogql/wasi-preview1 takes each name that begins with two dots for the way out of a
#   directory: `..data`, by which Kubernetes keeps the files of a ConfigMap, is refused. A file that is
#   opened to append is overwritten from its start.
# Versions: npm @nitrogql/wasi-preview1 1.7.2, wabt 1.0.39, Node 20.
# Expected: POSIX, Pathname Resolution: "The special filename dot-dot shall refer to the parent
#   directory", and no other name; WASI (preview 1), fdflags, append: "Append mode: Data written to the
#   file is always appended to the file's end." node:wasi does both.
# Seen: `..data` and `...`: errno 76 (notcapable), node:wasi 0; "new" appended to "old text": "new text",
#   node:wasi "old textnew"
# Here: a program of a pod reads its settings through `..data`; tests of it under this host find none,
#   and its log begins anew at each start.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @nitrogql/wasi-preview1@1.7.2 wabt@1.0.39
# Opens four files to write at their ends, writes to the last one, and keeps the error numbers.
cat >open.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "data..")
  (data (i32.const 16) "..data")
  (data (i32.const 32) "...")
  (data (i32.const 48) "log")
  (data (i32.const 64) "new")
  (data (i32.const 80) "\40\00\00\00\03\00\00\00")
  (func $append (param $name i32) (param $length i32) (result i32)
    (call $open (i32.const 3) (i32.const 1) (local.get $name) (local.get $length) (i32.const 0)
      (i64.const 0x40) (i64.const 0) (i32.const 1) (i32.const 96)))
  (func (export "_start")
    (i32.store (i32.const 128) (call $append (i32.const 0) (i32.const 6)))
    (i32.store (i32.const 132) (call $append (i32.const 16) (i32.const 6)))
    (i32.store (i32.const 136) (call $append (i32.const 32) (i32.const 3)))
    (i32.store (i32.const 140) (call $append (i32.const 48) (i32.const 3)))
    (drop (call $write (i32.load (i32.const 96)) (i32.const 80) (i32.const 1) (i32.const 100)))))
WAT
cat >run.mjs <<'JS'
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { WASI } from "node:wasi";
import { initWASI } from "@nitrogql/wasi-preview1";

const module = await WebAssembly.compile(readFileSync("open.wasm"));
const names = ["data..", "..data", "...", "log"];

async function run(name, start) {
    mkdirSync(name);
    for (const file of names) writeFileSync(`${name}/${file}`, "old text");
    const memory = (await start(name)).exports.memory;
    const errors = new Uint32Array(memory.buffer, 128, 4);
    console.log(`${name}: ${names.map((file, i) => `${file} ${errors[i]}`).join(", ")}`);
    console.log(`${name}: log: ${readFileSync(`${name}/log`, "utf8")}`);
}

await run("node", async (name) => {
    const wasi = new WASI({ version: "preview1", preopens: { "/": name } });
    const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
    wasi.start(instance);
    return instance;
});
await run("nitrogql", async (name) => {
    const wasi = initWASI({ args: [], env: {}, preopens: { "/": name } });
    const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi });
    wasi.setMemory(instance.exports.memory);
    instance.exports._start();
    return instance;
});
JS
node_modules/.bin/wat2wasm open.wat -o open.wasm
node --no-warnings run.mjs | tee seen
cmp seen - <<'SEEN' || changed "they do something else"
node: data.. 0, ..data 0, ... 0, log 0
node: log: old textnew
nitrogql: data.. 0, ..data 76, ... 76, log 0
nitrogql: log: new text
SEEN
