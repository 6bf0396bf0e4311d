#!/usr/bin/env bash
# Behaviour: `malloc_trim(0)` of glibc joins freed small chunks ("fast bins") and all free memory
#   before them to the end of a thread's heap, and returns nothing of that end: 40 MB stay
#   resident although nothing is allocated. With chunks at the end that have no fast bin it returns
#   all of them.
# Versions: glibc 2.36 (Debian 12), Rust crate libc 0.2.189.
# Expected: what malloc_trim(3) tells: since 2.8, the memory of all heaps and of all whole free
#   pages.
# Seen: before chunks of 2000 bytes: 0 of 40 MB stay; before chunks of 64 bytes: 40, also after a
#   second call; the same with M_MXFAST 0: 0
# Here: a server that trimmed after each large guest kept up to 64 MiB of it, once in twenty times.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
version=$(ldd --version | sed -n '1s/.* //p')
[[ $version == 2.36 ]] || changed "glibc $version"
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "trim"
version = "0.0.0"
edition = "2021"

[dependencies]
libc = "=0.2.189"
TOML
cat >app/src/main.rs <<'RS'
use std::{env, fs, thread};

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

fn fill(vectors: &mut Vec<Vec<u8>>, size: usize, count: usize) {
    vectors.extend((0..count).map(|_| vec![1; size]));
}

fn main() {
    let case = env::args().nth(1).expect("a case");
    unsafe {
        // The default, but fixed: otherwise it grows with what is freed.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
        if case == "no-fast-bins" {
            libc::mallopt(libc::M_MXFAST, 0);
        }
    }
    let small_size = if case == "large" { 2000 } else { 64 };
    let (mut large, mut small) = (Vec::with_capacity(2500), Vec::with_capacity(100));
    thread::scope(|scope| {
        scope.spawn(|| {
            fill(&mut large, 16 << 10, 2500);
            fill(&mut small, small_size, 100);
        });
    });
    // Fills what this thread keeps for itself.
    let mut own = Vec::new();
    fill(&mut own, 64, 100);
    own.clear();
    let before = resident();
    large.clear();
    small.clear();
    for call in 1..=2 {
        unsafe { libc::malloc_trim(0) };
        let freed = before - resident();
        println!("{case}: call {call}: {} of 40 MB stay", if freed > 35 { 0 } else { 40 - freed });
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
said=$(for case in large fast-bins no-fast-bins; do target/debug/trim "$case"; done)
echo "$said"
wanted=$(
    cat <<'SAID'
large: call 1: 0 of 40 MB stay
large: call 2: 0 of 40 MB stay
fast-bins: call 1: 40 of 40 MB stay
fast-bins: call 2: 40 of 40 MB stay
no-fast-bins: call 1: 0 of 40 MB stay
no-fast-bins: call 2: 0 of 40 MB stay
SAID
)
[[ $said == "$wanted" ]] || changed "other figures"
