#!/usr/bin/env bash
# Behaviour: of a mount at the folder "a b" procfs gives the path "a\040b", which does not exist. Of
#   a mount at a folder with a tab in its name `procfs::mounts` gives the path, and
#   `Process::mountinfo` has the escape for that as well.
# Version: Rust crate procfs 0.18.0.
# Expected: paths: the kernel writes blanks, tabs, line feeds and `\` of both files as octal escapes
#   (getmntent(3)), and the crate's documents call both fields the mount point, one as a PathBuf.
# Seen: mounts: "a\tb" exists, "a\\040b" does not; mountinfo: neither "a\\011b" nor "a\\040b" does
# Here: volumes are named by people; what looks such a mount up by its path does not find it, and
#   what unmounts all that is listed leaves it.
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
name = "mounts"
version = "0.0.0"
edition = "2021"

[dependencies]
procfs = { version = "=0.18.0", default-features = false }
TOML
cat >app/src/main.rs <<'RS'
use std::path::Path;

// Only what is mounted below the current folder.
fn show(table: &str, path: &Path) {
    if let Ok(name) = path.strip_prefix(std::env::current_dir().expect("current folder")) {
        println!("{table}: {name:?} exists: {}", path.exists());
    }
}

fn main() {
    for mount in procfs::mounts().expect("mounts") {
        show("mounts", Path::new(&mount.fs_file));
    }
    let process = procfs::process::Process::myself().expect("process");
    for mount in process.mountinfo().expect("mountinfo") {
        show("mountinfo", &mount.mount_point);
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
names=('a b' $'a\tb')
mkdir "${names[@]}"
cat >mount.sh <<'SH'
for name; do mount -t tmpfs tmpfs "$name"; done
exec target/debug/mounts
SH
said=$(unshare --mount sh -eu mount.sh "${names[@]}")
echo "$said"
[[ $said == 'mounts: "a\\040b" exists: false
mounts: "a\tb" exists: true
mountinfo: "a\\040b" exists: false
mountinfo: "a\\011b" exists: false' ]] || changed "other paths"
