//! Hostile guests, as texts: for the tests of each fault, and for the benchmark that compares all
//! attacks. Their inputs are harmless.

use std::fmt::Write;

/// Imports, memory and start of a module with one host function, which `body` calls.
pub fn module(import: &str, body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" {import})
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "_start") (local $i i32)
            (drop (memory.grow (i32.const 920)))
            {body}))"#
    )
}

/// Import of `random_get`.
pub const RANDOM: &str = r#""random_get" (func $random (param i32 i32) (result i32))"#;

/// Import of `poll_oneoff`.
pub const POLL: &str = r#""poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32))"#;

/// Calls `poll_oneoff` with `count` timers of a millisecond.
pub fn polls(count: u32, then: &str) -> String {
    let body = format!(
        "(loop $i
           (i64.store offset=24 (i32.mul (local.get $i) (i32.const 48)) (i64.const 1000000))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $i (i32.lt_u (local.get $i) (i32.const {count}))))
         (loop $l
           (local.set $i
             (call $poll (i32.const 0) (i32.const 30000000) (i32.const {count}) (i32.const 60000000)))
           {then})"
    );
    module(POLL, &body)
}

/// Import of `fd_readdir`.
pub const READDIR: &str = r#""fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32))"#;

/// Opens `/data/out` and writes 57 MB to it.
pub fn writes(then: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_pwrite"
            (func $write (param i32 i32 i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 920)
          (data (i32.const 16) "data/out")
          (func (export "_start")
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 1)
                  (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32))
              (then (call $exit (i32.const 9))))
            (i32.store (i32.const 40) (i32.const 100))
            (i32.store (i32.const 44) (i32.const 57000000))
            (i32.store8 (i32.const 57000099) (i32.const 33))
            (loop $l
              (if (call $write (i32.load (i32.const 32)) (i32.const 40) (i32.const 1) (i64.const 5)
                    (i32.const 48))
                (then (call $exit (i32.const 8))))
              {then})))"#
    )
}

/// Opens `/data/out` and reads 57 MB of it.
pub fn reads(then: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_seek"
            (func $seek (param i32 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 920)
          (data (i32.const 16) "data/out")
          (func (export "_start")
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 0)
                  (i64.const 6) (i64.const 0) (i32.const 0) (i32.const 32))
              (then (call $exit (i32.const 9))))
            (i32.store (i32.const 40) (i32.const 100))
            (i32.store (i32.const 44) (i32.const 58000000))
            (loop $l
              (if (call $read (i32.load (i32.const 32)) (i32.const 40) (i32.const 1)
                    (i32.const 48))
                (then (call $exit (i32.const 8))))
              (drop (call $seek (i32.load (i32.const 32)) (i64.const 0) (i32.const 0)
                (i32.const 56)))
              {then})))"#
    )
}

/// Looks up the name `a` for ever, or once; see the file.
pub const LOOKUP: &str = include_str!("programs/lookup.wat");

/// Asks for a million missing keys for ever.
pub const GET_MANY: &str = include_str!("programs/get_many.wat");

/// Gives the files `a` and `b` of a volume each other's name, for ever.
pub const SWAP: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "v/a") (data (i32.const 110) "v/t") (data (i32.const 120) "v/b")
  (func $name (param $from i32) (param $to i32)
    (drop (call $rename
      (i32.const 3) (local.get $from) (i32.const 3) (i32.const 3) (local.get $to) (i32.const 3))))
  (func (export "_start") (loop $again
    (call $name (i32.const 100) (i32.const 110))
    (call $name (i32.const 120) (i32.const 100))
    (call $name (i32.const 110) (i32.const 120))
    (br $again))))"#;

/// Opens and closes `a`, for ever.
pub const OPEN: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "v/a")
  (func (export "_start") (loop $again
    (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 3)
        (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))
      (then (drop (call $close (i32.load (i32.const 8))))))
    (br $again))))"#;

/// The same by a component of p2, whose function is `go`.
pub const OPEN_COMPONENT: &str = include_str!("programs/open.wat");

/// Asks at once for 10,000 copies of a value of 8 MiB; traps unless it is refused.
pub const KEYVALUE: &str = include_str!("programs/kv.wat");
/// The calls of `wasi:http`; a body of `go` takes the place of `(; GO ;)`.
pub const HTTP: &str = include_str!("programs/http.wat");

/// Requests whose bodies have a buffer of a megabyte, none of them sent.
pub const BODIES: &str = "(loop $l
    (call $body (call $req (call $fields)) (i32.const 16))
    (call $bwrite (i32.load (i32.const 20)) (i32.const 24))
    (call $check (i32.load (i32.const 28)) (i32.const 32))
    (call $swrite (i32.load (i32.const 28)) (i32.const 131072)
        (i32.wrap_i64 (i64.load (i32.const 40))) (i32.const 48))
    (br $l))";

/// Fields of 120 KB each.
pub const FIELDS: &str = "(memory.fill (i32.const 65536) (i32.const 118) (i32.const 4000))
    (loop $l
        (local.set $f (call $fields))
        (local.set $i (i32.const 0))
        (loop $k
            (call $append (local.get $f) (i32.const 100) (i32.const 1)
                (i32.const 65536) (i32.const 4000) (i32.const 16))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $k (i32.lt_u (local.get $i) (i32.const 30))))
        (br $l))";

/// Builds a list of that many objects.
pub const OBJECTS: &str = "(module
    (type $n (struct (field (ref null $n)) (field i64)))
    (func (export \"nothing\"))
    (func (export \"go\") (local $r (ref null $n)) (local $i i32)
        (loop $l
            (local.set $r (struct.new $n (local.get $r) (i64.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const COUNT))))))";

/// Opens files until that is refused, and then sleeps for an hour. It prints the last `errno` as a
/// letter, `A` for 0.
pub const OPENER: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 200) "f")
  (func $one (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 1) (i32.const 1)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 0)))
  (func (export "_start") (local $errno i32)
    (loop $more
      (local.set $errno (call $one))
      (br_if $more (i32.eqz (local.get $errno))))
    (i32.store (i32.const 208) (i32.const 216))
    (i32.store (i32.const 212) (i32.const 1))
    (i32.store8 (i32.const 216) (i32.add (i32.const 65) (local.get $errno)))
    (drop (call $write (i32.const 1) (i32.const 208) (i32.const 1) (i32.const 220)))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

/// A component of `instances` core instances of one module that has only `parts`. It sleeps for an
/// hour.
pub fn component(instances: usize, parts: &str) -> String {
    let all = "(core instance (instantiate $m))".repeat(instances);
    format!(
        r#"(component (component $c (core module $m {parts}) {all}) (instance (instantiate $c))
  (core module $g (import "h" "w" (func $w (param i64) (result i32)))
    (import "h" "b" (func $b (param i32)))
    (func (export "go") (call $b (call $w (i64.const 3600000000000)))))
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type $p (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $p))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clk (alias outer 1 $pollable (type $p))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $w (canon lower (func $clk "subscribe-duration")))
  (core func $b (canon lower (func $poll "[method]pollable.block")))
  (core instance $i (instantiate $g
    (with "h" (instance (export "w" (func $w)) (export "b" (func $b))))))
  (func $go (canon lift (core func $i "go"))) (export "go" (func $go)))"#
    )
}

/// Functions without a purpose, 8 KiB of text each.
pub fn functions(number: usize) -> String {
    let mut text = String::new();
    for function in 0..number {
        text.push_str("(func (param i32) (result i32) ");
        for line in 0..60 {
            let factor = function * 7 + line;
            let turn = line % 31 + 1;
            // A `String` takes everything.
            let _ = write!(
                text,
                "(local.set 0 (i32.add (i32.rotl (i32.mul (local.get 0) (i32.const {factor})) (i32.const {turn})) \
                 (i32.load (i32.and (local.get 0) (i32.const 255)))))"
            );
        }
        text.push_str("(local.get 0))\n");
    }
    text
}

/// Computes for ever.
pub const SPIN: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop $l (br $l))))"#;

/// Fills 58 MB of its memory for ever.
pub const FILL: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 920)))
    (loop $l
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 58000000))
      (br $l))))"#;

/// Builds a list of 200,000 objects (10 MB) and lets go of it, for ever.
pub const COLLECT: &str = r#"(module
  (type $n (struct (field (ref null $n)) (field i64)))
  (func $list (local $r (ref null $n)) (local $i i32)
    (loop $l
      (local.set $r (struct.new $n (local.get $r) (i64.const 1)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 200000)))))
  (func (export "_start") (loop $again (call $list) (br $again))))"#;

/// Fills random bytes into 58 MB of memory, for ever.
pub fn random() -> String {
    let body = "(loop $l (drop (call $random (i32.const 0) (i32.const 58000000))) (br $l))";
    module(RANDOM, body)
}

/// Lists its root directory into a buffer of 58 MB, for ever.
pub fn list() -> String {
    let body = "(loop $l
        (drop (call $list
          (i32.const 3) (i32.const 0) (i32.const 58000000) (i64.const 0) (i32.const 58000008)))
        (br $l))";
    module(READDIR, body)
}

/// Opens and reads a file for ever.
pub fn read(path: &str) -> String {
    let length = path.len();
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 16) "\c8\00\00\00\40\00\00\00")
          (data (i32.const 100) "{path}")
          (func (export "_start") (loop $again
            (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 100)
                (i32.const {length}) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0)
                (i32.const 8)))
              (then
                (drop (call $read (i32.load (i32.const 8)) (i32.const 16) (i32.const 1)
                  (i32.const 24)))
                (drop (call $close (i32.load (i32.const 8))))))
            (br $again))))"#
    )
}

/// A module of 60,000 instructions for each 100 functions, which ends at once. No other `number`
/// has the same code.
pub fn large(count: usize, number: usize) -> String {
    format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 8) "{number}") {}
          (func (export "_start")))"#,
        functions(count)
    )
}

/// `/etc/hosts` with 90,000 addresses of the name `a`, within the bound of the file.
pub fn hosts() -> String {
    let lines = (0..90_000u32).map(|n| format!("{} a\n", std::net::Ipv4Addr::from(n + (10 << 24))));
    let mut hosts: String = lines.collect();
    hosts.truncate((1 << 20) - 1);
    hosts
}

/// Work of [`streams`]: writes 57 MB to `data/out`.
pub const WRITE_STREAM: &str = "(call $write)";
/// Work of [`streams`]: writes 57 MB to `data/out` and reads them back.
pub const READ_STREAM: &str = "(call $write) (call $read)";
/// Work of [`streams`]: writes 57 MB to `data/out` and has the host copy them over themselves.
pub const COPY_STREAM: &str = "(call $write) (call $copy)";
/// Work of [`streams`]: lists the root directory.
pub const LIST_STREAM: &str = "(call $list)";

/// A p3 command that does this work with file streams. A root directory that it lists has `least`
/// entries or more.
pub fn streams(work: &str, least: u32) -> String {
    let text = include_str!("programs/streams.wat");
    text.replace("WORK", work).replace("LEAST", &least.to_string())
}

/// The same for ever.
pub fn streams_for_ever(work: &str, least: u32) -> String {
    streams(&format!("{work} (br $again)"), least)
}
