//! The guest `cli_compute.wasm`, a module that computes and does nothing else, by libraries that many programs have in them.
//! It checks what it has computed, and prints a line about it. What guests pay for being interruptible is measured with it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec;
use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: cli_compute COMMAND ROUNDS
  deflate   compress and decompress a megabyte of text, a round
  hash      SHA-256 of a megabyte, a round
  json      read and write a document of two thousand objects, a round
  regex     find the addresses in a megabyte of text, a round
";

/// Lines of the text.
const LINES: usize = 16_384;
/// How hard deflate tries, of 9: zlib's default.
const LEVEL: u8 = 6;
/// Objects of the document.
const OBJECTS: u64 = 2000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words).and_then(|line| Ok(writeln!(io::stdout(), "{line}")?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "cli_compute: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String> {
    let [command, rounds] = words else { return Err(USAGE.into()) };
    let rounds: usize =
        rounds.parse().map_err(|error| format!("{rounds:?} is no number of rounds: {error}"))?;
    match *command {
        "deflate" => deflate(rounds),
        "hash" => hash(rounds),
        "json" => document(rounds),
        "regex" => addresses(rounds),
        _ => Err(USAGE.into()),
    }
}

/// A text of 64 bytes a line: words, numbers and, on every eighth line, an address. The same in every run.
fn text() -> String {
    const WORDS: [&str; 8] =
        ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"];
    let (mut text, mut random) = (String::new(), 1_u64);
    for line in 0..LINES {
        let start = text.len();
        if line % 8 == 0 {
            let _ = write!(text, "user{line}@host{}.example.org ", line % 97);
        }
        while text.len() < start + 64 {
            // A linear congruential generator with Knuth's constants for MMIX.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = WORDS[(random >> 61) as usize];
            let _ = write!(text, "{word}{} ", random >> 54 & 0x7f);
        }
        text.truncate(start + 63);
        text.push('\n');
    }
    text
}

fn deflate(rounds: usize) -> Result<String> {
    let (text, mut small) = (text().into_bytes(), 0);
    for _ in 0..rounds {
        let compressed = compress_to_vec(&text, LEVEL);
        let same = decompress_to_vec(&compressed).map_err(|error| format!("{error}"))?;
        demand(same == text, "another text comes out")?;
        small = compressed.len();
    }
    Ok(format!("deflate: {} bytes in {small}", text.len()))
}

fn hash(rounds: usize) -> Result<String> {
    // An example of NIST's for FIPS 180.
    let known = hex(&Sha256::digest("abc"));
    demand(
        known == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "not the hash of abc",
    )?;
    let mut bytes = text().into_bytes();
    let mut digest = Sha256::digest(&bytes);
    for _ in 1..rounds {
        bytes[..digest.len()].copy_from_slice(&digest);
        digest = Sha256::digest(&bytes);
    }
    Ok(format!("hash: {}", hex(&digest)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn document(rounds: usize) -> Result<String> {
    let object = |n: u64| json!({ "id": n, "name": format!("object {n}"), "share": n as f64 / 8.0, "even": n % 2 == 0 });
    let document: Value = (0..OBJECTS).map(object).collect();
    let mut written = serde_json::to_string(&document)?;
    for _ in 0..rounds {
        let read: Value = serde_json::from_str(&written)?;
        written = serde_json::to_string(&read)?;
        demand(read == document, "another document is read")?;
    }
    Ok(format!("json: {} bytes", written.len()))
}

fn addresses(rounds: usize) -> Result<String> {
    let address = Regex::new(r"\b[a-z]+([0-9]+)@([a-z0-9]+)\.example\.(org|net)\b")?;
    let (text, mut found) = (text(), 0);
    for _ in 0..rounds {
        found = address
            .captures_iter(&text)
            .filter(|parts| parts[1].parse::<usize>().is_ok_and(|n| n < LINES))
            .count();
        demand(found == LINES / 8, "not every address is found")?;
    }
    Ok(format!("regex: {found} addresses"))
}

fn demand(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
