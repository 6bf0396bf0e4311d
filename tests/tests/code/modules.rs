//! Modules in the text format; used by the other files of this suite.

use std::fmt::Write;

/// Prints `ok` when it has done `body`, and has these `definitions` besides.
pub(crate) fn printing(definitions: &str, body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\03\00\00\00ok\n")
        {definitions}
        (func (export "_start") {body}
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#
    )
}

/// Computes for ever.
pub(crate) const SPINNING: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))"#;

/// Prints `ok`, and takes a compiler about as long as `functions` say: seconds for a thousand and more. Its text has 8 KiB for each.
pub(crate) fn large(functions: usize) -> String {
    let mut text = String::new();
    for function in 0..functions {
        write!(text, "(func (param i32) (result i32) ").expect("a String takes everything");
        for line in 0..60 {
            let (a, b) = (function * 7 + line, line % 31 + 1);
            write!(
                text,
                "(local.set 0 (i32.add (i32.rotl (i32.mul (local.get 0) (i32.const {a})) (i32.const {b})) \
                 (i32.load (i32.and (local.get 0) (i32.const 255)))))"
            )
            .expect("a String takes everything");
        }
        text.push_str("(local.get 0))\n");
    }
    printing(&text, "")
}

/// A proposal, by its key, with a module that needs it and the words of who misses it.
pub(crate) struct Proposal {
    pub(crate) key: &'static str,
    pub(crate) module: String,
    pub(crate) missed: &'static [&'static str],
}

pub(crate) fn proposals() -> Vec<Proposal> {
    let proposal = |key, definitions: &str, body: &str, missed| Proposal {
        key,
        module: printing(definitions, body),
        missed,
    };
    vec![
        proposal(
            "tail-calls",
            "(func $down (param i32) (result i32) (if (i32.eqz (local.get 0)) (then (return (i32.const 0)))) \
             (return_call $down (i32.sub (local.get 0) (i32.const 1))))",
            // More frames than any stack holds.
            "(drop (call $down (i32.const 10000000)))",
            &["tail calls"],
        ),
        proposal(
            "gc",
            "(type $point (struct (field i32) (field i32)))",
            "(if (i32.ne (struct.get $point 1 (struct.new $point (i32.const 3) (i32.const 4))) (i32.const 4)) \
             (then unreachable))",
            &["gc proposal", "garbage collection", "gc"],
        ),
        proposal(
            "exceptions",
            "(tag $oops (param i32))",
            "(drop (block $caught (result i32) (try_table (catch $oops $caught) (throw $oops (i32.const 5))) unreachable))",
            &["exceptions"],
        ),
        proposal(
            "threads",
            "",
            "(drop (i32.atomic.rmw.add (i32.const 64) (i32.const 1)))",
            &["threads", "atomic"],
        ),
        proposal(
            "memory64",
            "(memory $wide i64 1)",
            "(drop (i32.load $wide (i64.const 8)))",
            &["memory64", "64-bit", "multi"],
        ),
        proposal(
            "simd",
            "",
            "(if (i32.ne (i32x4.extract_lane 2 (i32x4.splat (i32.const 9))) (i32.const 9)) (then unreachable))",
            &["simd"],
        ),
        proposal(
            "wide-arithmetic",
            "",
            "(local $low i64) (local $high i64)
             (i64.add128 (i64.const -1) (i64.const 0) (i64.const 1) (i64.const 0))
             (local.set $high) (local.set $low)
             (if (i64.ne (local.get $high) (i64.const 1)) (then unreachable))",
            &["wide arithmetic", "wide_arithmetic"],
        ),
    ]
}
