;; The guest `cli_reactor.wasm`: no `_start`, but exports that are called by name. `_initialize` runs before them, or
;; `greet` has nothing to print.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "Hello from a reactor!\n")
  (func (export "_initialize")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 22)))
  (func (export "greet")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40))))
  (func (export "trap") unreachable))
