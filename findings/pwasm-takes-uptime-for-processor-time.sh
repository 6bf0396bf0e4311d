#!/usr/bin/env bash
# Behaviour: pwasm answers all of WASI's clocks but the first with the time since the machine was
#   started: a program that asks for the processor time it has used gets that, and its pauses are in
#   it. A clock that does not exist has a time, too.
# Versions: PyPI pwasm 0.2a0, npm wabt 1.0.39, Node 20, Python 3.11.
# Expected: WASI (preview 1): clock 2 is "The CPU-time clock associated with the current process", 3
#   that of the thread; any other is an invalid argument. node:wasi has it so.
# Seen: a pause of half a second counts on clocks 1, 2 and 3: pwasm yes, yes, yes; node:wasi yes,
#   no, no; clocks 1 and 2 less than a second apart: pwasm yes, node:wasi no; clock 9: errno 0, 28
# Here: a program that asks for the time it has used gets its host's uptime.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pwasm==0.2a0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
cat >clocks.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "errno") (param i32) (result i32)
    (call $clock_time_get (local.get 0) (i64.const 1) (i32.const 0)))
  (func (export "time") (param i32) (result i64)
    (if (call $clock_time_get (local.get 0) (i64.const 1) (i32.const 0)) (then (unreachable)))
    (i64.load (i32.const 0))))
WAT
node_modules/.bin/wat2wasm clocks.wat -o clocks.wasm
cat >clocks.mjs <<'JS'
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1" });
const module = new WebAssembly.Module(readFileSync("clocks.wasm"));
const { exports } = new WebAssembly.Instance(module, wasi.getImportObject());
wasi.initialize({ exports: { memory: exports.memory } });
const clocks = () => [1, 2, 3].map((clock) => Number(exports.time(clock)) / 1e9);
const before = clocks();
await setTimeout(500);
const after = clocks();
console.log(...after.map((time, index) => time - before[index] > 0.45));
console.log(Math.abs(after[0] - after[1]) < 1, exports.errno(9));
JS
cat >clocks.py <<'PY'
import time
from pathlib import Path

from pwasm import decode_module, instantiate
from pwasm.wasi import WasiLite

module = decode_module(Path("clocks.wasm").read_bytes())
wasi = WasiLite()
instance = instantiate(module, {"wasi_snapshot_preview1": wasi.imports(module)})
wasi.bind(instance)
exports = instance.exports


def clocks():
    return [exports.time(clock) / 1e9 for clock in (1, 2, 3)]


before = clocks()
time.sleep(0.5)
after = clocks()
print(*[str(second - first > 0.45).lower() for first, second in zip(before, after)])
print(str(abs(after[0] - after[1]) < 1).lower(), exports.errno(9))
PY
of_node=$(node --no-warnings clocks.mjs)
of_pwasm=$(PYTHONPATH=py python3 clocks.py)
printf '%s\n' "node:wasi:" "$of_node" "pwasm:" "$of_pwasm"
[[ $of_node == $'true false false\nfalse 28' ]] || changed "node:wasi has other clocks"
[[ $of_pwasm == $'true true true\ntrue 0' ]] || changed "pwasm has other clocks"
