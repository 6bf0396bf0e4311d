;; Writes COUNT times 4 KiB to its standard output; `output` runs it.
(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    ;; At 0 the list of one buffer: 4096 bytes at 8192. At 8 what was written.
    (data (i32.const 0) "\00\20\00\00\00\10\00\00")
    (func (export "_start") (local $left i32)
        (local.set $left (i32.const COUNT))
        (loop $next
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                (then (unreachable)))
            (if (i32.ne (i32.load (i32.const 8)) (i32.const 4096)) (then (unreachable)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $next (local.get $left)))))
