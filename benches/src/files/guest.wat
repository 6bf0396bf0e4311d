;; Measures file calls by its own clock, and prints nanoseconds of each: a read of 64 KiB, a read of
;; 4 KiB, an opening with its closing, a stat, and the listing of a directory.
(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 100) "v/f") (data (i32.const 110) "v/d")
  (global $since (mut i64) (i64.const 0))

  (func $check (param $errno i32) (if (local.get $errno) (then unreachable)))
  (func $now (result i64)
    (call $check (call $clock (i32.const 1) (i64.const 0) (i32.const 32)))
    (i64.load (i32.const 32)))
  (func $begin (global.set $since (call $now)))

  ;; Prints the time since the last $begin for each of so many calls.
  (func $end (param $calls i64) (local $left i64) (local $at i32)
    (local.set $left (i64.div_u (i64.sub (call $now) (global.get $since)) (local.get $calls)))
    (local.set $at (i32.const 330))
    (i32.store8 (local.get $at) (i32.const 10))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $left) (i64.const 10)))))
      (local.set $left (i64.div_u (local.get $left) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $left) (i64.const 0))))
    (i32.store (i32.const 16) (local.get $at))
    (i32.store (i32.const 20) (i32.sub (i32.const 331) (local.get $at)))
    (call $check (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))

  (func $open (param $name i32) (param $flags i32) (result i32)
    (call $check (call $path_open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 3)
      (local.get $flags) (i64.const 16386) (i64.const 0) (i32.const 0) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func $close (param $file i32) (call $check (call $fd_close (local.get $file))))

  (func $reads (param $length i32) (param $calls i64) (local $file i32) (local $n i64)
    (local.set $file (call $open (i32.const 100) (i32.const 0)))
    (call $begin)
    (loop $again
      (i32.store (i32.const 16) (i32.const 65536))
      (i32.store (i32.const 20) (local.get $length))
      (call $check (call $pread
        (local.get $file) (i32.const 16) (i32.const 1) (i64.const 0) (i32.const 24)))
      (call $check (i32.ne (i32.load (i32.const 24)) (local.get $length)))
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $n) (local.get $calls))))
    (call $end (local.get $calls))
    (call $close (local.get $file)))

  (func $opens (param $calls i64) (local $n i64)
    (call $begin)
    (loop $again
      (call $close (call $open (i32.const 100) (i32.const 0)))
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $n) (local.get $calls))))
    (call $end (local.get $calls)))

  (func $stats (param $calls i64) (local $n i64)
    (call $begin)
    (loop $again
      (call $check (call $stat
        (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 3) (i32.const 400)))
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $n) (local.get $calls))))
    (call $end (local.get $calls)))

  ;; Lists the directory once, and returns the number of its entries.
  (func $list (result i32)
    (local $directory i32) (local $cookie i64) (local $used i32) (local $at i32) (local $next i32)
    (local $entries i32)
    (local.set $directory (call $open (i32.const 110) (i32.const 2)))
    (loop $more
      (call $check (call $readdir (local.get $directory) (i32.const 65536) (i32.const 65536)
        (local.get $cookie) (i32.const 24)))
      (local.set $used (i32.load (i32.const 24)))
      (local.set $at (i32.const 0))
      (block $cut (loop $entry
        (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $used)))
        (local.set $next (i32.add (i32.add (local.get $at) (i32.const 24))
          (i32.load offset=65552 (local.get $at))))
        (br_if $cut (i32.gt_u (local.get $next) (local.get $used)))
        (local.set $cookie (i64.load offset=65536 (local.get $at)))
        (local.set $entries (i32.add (local.get $entries) (i32.const 1)))
        (local.set $at (local.get $next))
        (br $entry)))
      (br_if $more (i32.eq (local.get $used) (i32.const 65536))))
    (call $close (local.get $directory))
    (local.get $entries))
  (func $lists (param $calls i64) (local $n i64)
    (call $begin)
    (loop $again
      (call $check (i32.lt_u (call $list) (i32.const 10000)))
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $n) (local.get $calls))))
    (call $end (local.get $calls)))

  (func (export "_start")
    (call $reads (i32.const 65536) (i64.const 1000))
    (call $reads (i32.const 4096) (i64.const 5000))
    (call $opens (i64.const 1000))
    (call $stats (i64.const 2000))
    (call $lists (i64.const 1))))
