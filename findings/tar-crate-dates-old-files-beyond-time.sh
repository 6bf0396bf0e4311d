#!/usr/bin/env bash
# Behaviour: the tar crate writes the time of a file from before 1970 as a number of 64 bits
#   without a sign, 2^64 less some: for other readers it is 584 billion years ahead.
# Versions: Rust crates tar 0.4.46, filetime 0.2.29; GNU tar 1.34, Python 3.11.
# Expected: the negative number of seconds. GNU tar writes it as base-256 in two's complement, and
#   all readers of its archives take it so.
# Seen: -86400: by GNU tar -86400 for GNU tar and for Python; by the crate 18446744073709465216
#   for Python, and GNU tar ends with 2, "out of time_t range"
# Here: a build that gives its files the time 0 of a zone east of Greenwich makes such a file. A
#   layer of it that the crate wrote is unpacked rightly by the crate and with an error by GNU
#   tar.
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
name = "pack"
version = "0.0.0"
edition = "2021"

[dependencies]
filetime = "=0.2.29"
tar = "=0.4.46"
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    let file = std::fs::File::create("crate.tar").unwrap();
    let mut archive = tar::Builder::new(file);
    archive.append_path("old").unwrap();
    archive.finish().unwrap();
}
RS
cat >time.py <<'PY'
import sys
import tarfile

print(int(tarfile.open(sys.argv[1]).getmembers()[0].mtime))
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
echo text >old
touch -d @-86400 old
target/debug/pack
tar -cf gnu.tar old

# reads ARCHIVE PYTHON STATUS: whether Python reads this time, and GNU tar ends so.
reads() {
    local time status=0
    time=$(python3 time.py "$1")
    tar -tvf "$1" >said 2>&1 || status=$?
    echo "$1: Python $time; GNU tar $status, $(head -n 1 said)"
    [[ $time == "$2" && $status == "$3" ]] || changed "$1 is read otherwise"
}
reads gnu.tar -86400 0
reads crate.tar 18446744073709465216 2
grep -q 'out of time_t range' said || changed "GNU tar says something else"
