//! What the guests compute; used by `course`. A program as people write them, and three kinds of code by themselves: epochs are
//! looked at in every round of a loop and at every call, and so cost each of them another part.

use std::fs;

use anyhow::{Context, Result};
use runwasi_tests::runtime::target_dir;

/// Something that is computed, and what comes out.
pub(super) struct Work {
    pub(super) name: &'static str,
    code: Code,
    pub(super) call: Call,
    pub(super) result: i64,
}

enum Code {
    /// In the text format.
    Text(fn() -> String),
    /// A guest that `scripts/guests` makes.
    Guest(&'static str),
}

/// How it is called.
pub(super) enum Call {
    /// The function `work`, which computes that many rounds.
    Function { rounds: i32 },
    /// `main`, which finds the files of a directory; its result is the exit status.
    Main { args: &'static [&'static str], directory: &'static str },
}

/// The program whose figures are judged.
pub(super) const PROGRAM: &str = "resvg";

const PICTURE: Call = Call::Main {
    args: &["resvg", "/picture.svg", "--zoom", "8", "-c"],
    directory: concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/guests"),
};

/// Each takes about a tenth of a second.
pub(super) const WORK: [Work; 4] = [
    Work { name: PROGRAM, code: Code::Guest("resvg.wasm"), call: PICTURE, result: 0 },
    Work {
        name: "hash",
        code: Code::Text(hash),
        call: Call::Function { rounds: 8_000 },
        result: 5_398_341_455_654_581_756,
    },
    Work { name: "sieve", code: Code::Text(sieve), call: Call::Function { rounds: 40 }, result: 78_498 },
    Work { name: "calls", code: Code::Text(calls), call: Call::Function { rounds: 33 }, result: 3_524_578 },
];

impl Work {
    /// The module, text or binary.
    pub(super) fn source(&self) -> Result<Vec<u8>> {
        match self.code {
            Code::Text(text) => Ok(format!("(module {})", text()).into_bytes()),
            Code::Guest(name) => {
                let file = target_dir().join("guests").join(name);
                fs::read(&file).with_context(|| format!("{}: scripts/guests makes it", file.display()))
            }
        }
    }
}

/// Long loop bodies: mixes the words of a block, sixteen to a round of the loop, as hashes and ciphers do.
fn hash() -> String {
    let step = |n: usize| {
        let offset = n * 8;
        format!(
            "(local.set $x (i64.add (i64.rotl (i64.mul (i64.xor (local.get $x) (i64.load offset={offset} (local.get $at)))
                (i64.const 0x9e3779b97f4a7c15)) (i64.const 29)) (i64.load offset={offset} (local.get $at))))
            (i64.store offset={offset} (local.get $at) (local.get $x))"
        )
    };
    let steps: String = (0..16).map(step).collect();
    format!(
        "(memory 1)
        (func (export \"work\") (param $rounds i32) (result i64) (local $x i64) (local $at i32)
            (local.set $x (i64.const 1))
            (loop $round
                (local.set $at (i32.const 0))
                (loop $block
                    {steps}
                    (local.set $at (i32.add (local.get $at) (i32.const 128)))
                    (br_if $block (i32.lt_u (local.get $at) (i32.const 65536))))
                (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
                (br_if $round (local.get $rounds)))
            (local.get $x))"
    )
}

/// The shortest loop bodies: counts the primes below a million.
fn sieve() -> String {
    "(memory 16)
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
        (local.get $count))"
        .to_owned()
}

/// Hardly anything but calls: Fibonacci's numbers by their definition.
fn calls() -> String {
    "(func $fibonacci (param $n i32) (result i64)
        (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
            (then (i64.extend_i32_u (local.get $n)))
            (else (i64.add (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
                (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))))
    (func (export \"work\") (param $n i32) (result i64) (call $fibonacci (local.get $n)))"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same natively.
    fn hashed(rounds: i32) -> i64 {
        let (mut memory, mut x) = (vec![0_u64; 8192], 1_u64);
        for _ in 0..rounds {
            for word in &mut memory {
                let mixed = (x ^ *word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                x = mixed.rotate_left(29).wrapping_add(*word);
                *word = x;
            }
        }
        x.cast_signed()
    }

    #[test]
    fn expected_hash_is_the_native_one() {
        let hash = WORK.iter().find(|work| work.name == "hash").unwrap();
        let Call::Function { rounds } = hash.call else { panic!("no function") };
        assert_eq!(hash.result, hashed(rounds));
    }
}
