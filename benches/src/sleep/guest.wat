;; Sleeps so many nanoseconds so often, and prints the nanoseconds of all sleeps together.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)

  (func $check (param $errno i32) (if (local.get $errno) (then unreachable)))
  (func $now (result i64)
    (call $check (call $clock (i32.const 1) (i64.const 0) (i32.const 600)))
    (i64.load (i32.const 600)))

  (func $print (param $number i64) (local $at i32)
    (local.set $at (i32.const 430))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $number) (i64.const 0))))
    (i32.store (i32.const 500) (local.get $at))
    (i32.store (i32.const 504) (i32.sub (i32.const 430) (local.get $at)))
    (call $check (call $write (i32.const 1) (i32.const 500) (i32.const 1) (i32.const 508))))

  (func (export "_start") (local $left i32) (local $begin i64)
    ;; A subscription of the monotonic clock.
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const NANOS))
    (local.set $left (i32.const COUNT))
    (local.set $begin (call $now))
    (loop $more
      (call $check (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 300)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (call $print (i64.sub (call $now) (local.get $begin)))))
