;; What an asynchronous component makes the host keep. A test puts the body of `go` into its place;
;; `nothing` does nothing.
(component
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (type $bytes (stream u8))
  (type $byte (future u8))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $stream (canon stream.new $bytes))
  (core func $future (canon future.new $byte))
  (core func $write (canon stream.write $bytes async (memory (core memory $libc "memory"))))
  (core func $set (canon waitable-set.new))
  (core func $wait (canon lower (func $clock "wait-for") async))
  (core module $main
    (import "h" "stream" (func $stream (result i64)))
    (import "h" "future" (func $future (result i64)))
    (import "h" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "h" "set" (func $set (result i32)))
    (import "h" "wait" (func $wait (param i64) (result i32)))
    (func (export "nothing"))
    (func (export "go")
      (loop $more
        (; GO ;)
        (br $more))))
  (core instance $main (instantiate $main (with "h" (instance
    (export "stream" (func $stream)) (export "future" (func $future))
    (export "write" (func $write)) (export "set" (func $set)) (export "wait" (func $wait))))))
  (func (export "nothing") (canon lift (core func $main "nothing")))
  (func (export "go") (canon lift (core func $main "go"))))
