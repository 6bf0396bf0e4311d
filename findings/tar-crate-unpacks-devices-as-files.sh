#!/usr/bin/env bash
# Behaviour: the tar crate unpacks FIFOs and devices as empty regular files and reports success.
# Versions: Rust crate tar 0.4.46 (filetime, libc, xattr as it asks for), GNU tar 1.34.
# Expected: what the archive has, as GNU tar makes it, or an error. The crate knows the types
#   (`EntryType::Fifo`, `Char`) and writes them itself.
# Seen: pipe is a fifo and null a character special file with GNU tar, both a regular empty file
#   with the crate
# Here: a root file system that is unpacked so has a /dev/null that fills up. The manager reads
#   layers by this crate for the modules in them and unpacks nothing.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src from crate gnu
cat >app/Cargo.toml <<'TOML'
[package]
name = "unpack"
version = "0.0.0"
edition = "2021"

[dependencies]
tar = "=0.4.46"
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    let file = std::fs::File::open("layer.tar").unwrap();
    let mut archive = tar::Archive::new(file);
    archive.set_preserve_permissions(true);
    archive.unpack("crate").unwrap();
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
mkfifo from/pipe
mknod from/null c 1 3
tar -cf layer.tar -C from pipe null
tar -xf layer.tar -C gnu
target/debug/unpack
for name in pipe null; do
    echo "$name: GNU tar $(stat -c %F "gnu/$name"), crate $(stat -c %F "crate/$name")"
    [[ $(stat -c %F "crate/$name") == 'regular empty file' ]] || changed "the crate makes another"
done
[[ -p gnu/pipe && -c gnu/null ]] || changed "GNU tar makes others"
