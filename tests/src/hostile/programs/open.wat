;; Opens and closes the file `v/a` of its root directory, by p2, for ever.
(component
  (import "wasi:filesystem/types@0.2.0" (instance $f
    (export "descriptor" (type $d (sub resource)))
    (type $pf0 (flags "symlink-follow"))
    (export "path-flags" (type $pf (eq $pf0)))
    (type $of0 (flags "create" "directory" "exclusive" "truncate"))
    (export "open-flags" (type $of (eq $of0)))
    (type $df0 (flags "read" "write" "file-integrity-sync" "data-integrity-sync"
      "requested-write-sync" "mutate-directory"))
    (export "descriptor-flags" (type $df (eq $df0)))
    (type $ec0 (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota"
      "exist" "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io"
      "is-directory" "loop" "too-many-links" "message-size" "name-too-long" "no-device" "no-entry"
      "no-lock" "insufficient-memory" "insufficient-space" "not-directory" "not-empty"
      "not-recoverable" "unsupported" "no-tty" "no-such-device" "overflow" "not-permitted" "pipe"
      "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $ec (eq $ec0)))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $d)) (param "path-flags" $pf)
      (param "path" string) (param "open-flags" $of) (param "flags" $df)
      (result (result (own $d) (error $ec)))))))
  (alias export $f "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $p
    (alias outer 1 $descriptor (type $d))
    (export "get-directories" (func (result (list (tuple (own $d) string)))))))

  (core module $libcm
    (memory (export "memory") 2)
    (global $at (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $begin i32)
      (local.set $begin (i32.and (i32.add (global.get $at) (i32.const 15)) (i32.const -16)))
      (global.set $at (i32.add (local.get $begin) (local.get 3)))
      (local.get $begin)))
  (core instance $libc (instantiate $libcm))
  (core func $dirs (canon lower (func $p "get-directories")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $open (canon lower (func $f "[method]descriptor.open-at")
    (memory (core memory $libc "memory"))))
  (core func $close (canon resource.drop $descriptor))
  (core module $m
    (import "libc" "memory" (memory 2))
    (import "h" "dirs" (func $dirs (param i32)))
    (import "h" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
    (import "h" "close" (func $close (param i32)))
    (data (i32.const 100) "v/a")
    (func (export "go")
      (call $dirs (i32.const 16))
      (loop $again
        (call $open (i32.load (i32.load (i32.const 16))) (i32.const 0) (i32.const 100)
          (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 32))
        (if (i32.eqz (i32.load8_u (i32.const 32)))
          (then (call $close (i32.load (i32.const 36)))))
        (br $again))))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "h" (instance
    (export "dirs" (func $dirs)) (export "open" (func $open)) (export "close" (func $close))))))
  (func $go (canon lift (core func $i "go")))
  (export "go" (func $go)))
