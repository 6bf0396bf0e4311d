#!/usr/bin/env bash
# Behaviour: on Linux rustix's `OFlags::DSYNC` has the bits of `O_SYNC`: a file that is opened with it
#   writes back all its metadata, and `contains(OFlags::DSYNC)` is false for a file that has O_DSYNC.
#   With the feature `use-libc` it is O_DSYNC.
# Versions: Rust crates rustix 1.1.6, libc 0.2.191.
# Expected: the flag that the documentation names, `O_DSYNC`, with both backends.
# Seen: linux_raw: opened with 4010000, O_DSYNC is not found; libc: opened with 10000, it is found
# Here: the runtime has a constant of its own; data-only syncs of guests were full ones.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "dsync"
version = "0.0.0"
edition = "2021"

[features]
libc-backend = ["rustix/use-libc"]

[dependencies]
libc = "=0.2.191"
rustix = { version = "=1.1.6", features = ["fs"] }
TOML
cat >app/src/main.rs <<'RS'
use rustix::fs::{fcntl_getfl, open, Mode, OFlags};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DSYNC;
    let file = open(&path, flags, Mode::from(0o600)).unwrap();
    let bits = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) } & libc::O_SYNC;
    let mut other = std::fs::File::options();
    let other = other.write(true).custom_flags(libc::O_DSYNC).open(&path).unwrap();
    let found = fcntl_getfl(&other).unwrap().contains(OFlags::DSYNC);
    println!("opened with {bits:o}, O_DSYNC {}", if found { "found" } else { "not found" });
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0

# says WANT OPTION...: whether the program says so, built with these options of cargo.
says() {
    local want=$1 said
    shift
    said=$(cargo run -q --manifest-path app/Cargo.toml "$@" -- "$dir/file")
    echo "${*:-default}: $said"
    [[ $said == "$want" ]] || changed "${*:-default}: $said"
}
says "opened with 4010000, O_DSYNC not found"
says "opened with 10000, O_DSYNC found" --features libc-backend
