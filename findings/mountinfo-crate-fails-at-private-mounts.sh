#!/usr/bin/env bash
# Behaviour: the mountinfo crate wants an optional field in each line of /proc/self/mountinfo:
#   with one private mount, which has none, all of `MountInfo::new` is the error "Invalid format".
#   Where it can read them, blanks of mount points stay escaped, so that `is_mounted` does not
#   find them.
# Versions: Rust crate mountinfo 0.2.0 (regex as it asks for); util-linux 2.38.
# Expected: all mounts. proc(5), mountinfo: "optional fields: zero or more fields".
# Seen: shared mounts: /tmp is found, "/tmp/…/a b" is not; private mounts: Invalid format
# Here: containers have private or slave mounts, and so has a service of systemd with a mount
#   namespace of its own: this project reads the table itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src "a b"
cat >app/Cargo.toml <<'TOML'
[package]
name = "mounted"
version = "0.0.0"
edition = "2021"

[dependencies]
mountinfo = "=0.2.0"
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    match mountinfo::MountInfo::new() {
        Ok(table) => {
            let paths = std::env::args().skip(1);
            let found: Vec<_> = paths.map(|path| table.is_mounted(path)).collect();
            println!("{found:?}");
        }
        Err(error) => println!("{error}"),
    }
}
RS
cat >mounted.sh <<'SH'
mkdir -p plain "a b"
mount -t tmpfs none plain
mount -t tmpfs none "a b"
if mountpoint -q "a b"; then target/debug/mounted "$PWD/plain" "$PWD/a b"; fi
SH
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# reads PROPAGATION WANT: whether the crate says so in a namespace with such mounts.
reads() {
    local got
    got=$(unshare --mount --propagation "$1" sh mounted.sh)
    echo "$1: $got"
    [[ $got == "$2" ]] || changed "$got"
}
reads shared '[true, false]'
reads private 'Invalid format'
