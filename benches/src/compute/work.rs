//! What the guests compute; used by `runner`. Programs as people write them, and two kinds of code by themselves: epochs are looked
//! at in every round of a loop and at every call, and so cost each program another part.

use std::fs;

use anyhow::{Context, Result};
use runwasi_tests::runtime::target_dir;

/// A module, and what is computed with it.
pub(super) struct Code {
    pub(super) name: &'static str,
    source: Source,
    pub(super) work: &'static [Work],
}

enum Source {
    /// A guest that `scripts/guests` makes.
    Guest(&'static str),
    Text(&'static str),
}

/// Something that is computed, and what comes out.
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) call: Call,
    pub(super) result: i64,
}

/// How it is called.
pub(super) enum Call {
    /// `main` of a program, which finds the files of [`DIRECTORY`]; its result is the exit status.
    Main(&'static [&'static str]),
    /// The function `work`, which computes that many rounds.
    Function { rounds: i32 },
}

/// What a program finds at `/`.
pub(super) const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/guests");

/// Each work takes some tenths of a second.
pub(super) const CODE: [Code; 4] = [
    Code {
        name: "resvg",
        source: Source::Guest("resvg.wasm"),
        work: &[program("resvg", &["resvg", "/picture.svg", "--zoom", "8", "-c"])],
    },
    Code {
        name: "cli_compute",
        source: Source::Guest("cli_compute.wasm"),
        // It checks what it has computed; otherwise it ends by another status.
        work: &[
            program("deflate", &["cli_compute", "deflate", "2"]),
            program("hash", &["cli_compute", "hash", "60"]),
            program("json", &["cli_compute", "json", "150"]),
            program("regex", &["cli_compute", "regex", "120"]),
        ],
    },
    Code {
        name: "sieve",
        source: Source::Text(SIEVE),
        work: &[Work { name: "sieve", call: Call::Function { rounds: 40 }, result: 78_498 }],
    },
    Code {
        name: "calls",
        source: Source::Text(CALLS),
        work: &[Work { name: "calls", call: Call::Function { rounds: 33 }, result: 3_524_578 }],
    },
];

const fn program(name: &'static str, args: &'static [&'static str]) -> Work {
    Work { name, call: Call::Main(args), result: 0 }
}

impl Work {
    pub(super) fn is_program(&self) -> bool {
        matches!(self.call, Call::Main(_))
    }
}

impl Code {
    /// The module, text or binary.
    pub(super) fn source(&self) -> Result<Vec<u8>> {
        match self.source {
            Source::Text(text) => Ok(text.as_bytes().to_vec()),
            Source::Guest(name) => {
                let file = target_dir().join("guests").join(name);
                fs::read(&file)
                    .with_context(|| format!("{}: scripts/guests makes it", file.display()))
            }
        }
    }
}

/// The shortest loop bodies: counts the primes below a million.
const SIEVE: &str = "(module
    (memory 16)
    (func $sieve (result i64) (local $n i32) (local $multiple i32) (local $count i64)
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 1000000))
        (local.set $n (i32.const 2))
        (loop $next
            (if (i32.eqz (i32.load8_u (local.get $n))) (then
                (local.set $count (i64.add (local.get $count) (i64.const 1)))
                (local.set $multiple (i32.shl (local.get $n) (i32.const 1)))
                (block $crossed (loop $cross
                    (br_if $crossed (i32.ge_u (local.get $multiple) (i32.const 1000000)))
                    (i32.store8 (local.get $multiple) (i32.const 1))
                    (local.set $multiple (i32.add (local.get $multiple) (local.get $n)))
                    (br $cross)))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $n) (i32.const 1000000))))
        (local.get $count))
    (func (export \"work\") (param $rounds i32) (result i64) (local $count i64)
        (loop $round
            (local.set $count (call $sieve))
            (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
            (br_if $round (local.get $rounds)))
        (local.get $count)))";

/// Hardly anything but calls: Fibonacci's numbers by their definition.
const CALLS: &str = "(module
    (func $fibonacci (param $n i32) (result i64)
        (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
            (then (i64.extend_i32_u (local.get $n)))
            (else (i64.add (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
                (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))))
    (func (export \"work\") (param $n i32) (result i64) (call $fibonacci (local.get $n))))";
