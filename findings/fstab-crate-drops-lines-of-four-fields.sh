#!/usr/bin/env bash
# Behaviour: when the crate fstab adds an entry, all lines that have no numbers for dump and fsck at
#   their end are gone from the file, with the comments, and it does not list them. pyfstab refuses
#   a file with such a line. The crate gives the path of a folder "a b" as a\040b.
# Versions: Rust crate fstab 0.4.0, PyPI pyfstab 0.2.0, util-linux 2.38 (findmnt).
# Expected: fstab(5): the fifth and the sixth field default to zero "if not present", and a blank in
#   the second field is written \040.
# Seen: findmnt before: /srv, /scratch, /data/a b, /volumes; the crate: /srv and /data/a\040b;
#   pyfstab: InvalidFstabLine; findmnt after /new is added: /srv, /data/a b, /new
# Here: nodes get the file systems for images and volumes by such lines; after the next start they
#   are not mounted, and images are unpacked to the root file system.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pyfstab==0.2.0
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "add"
version = "0.0.0"
edition = "2021"

[dependencies]
fstab = "=0.4.0"
TOML
cat >app/src/main.rs <<'RS'
use fstab::{FsEntry, FsTab};
use std::path::Path;

fn main() {
    let table = FsTab::new(Path::new("fstab"));
    for entry in table.get_entries().expect("entries") {
        println!("crate: {}", entry.mountpoint.display());
    }
    let new = FsEntry {
        fs_spec: "tmpfs".to_string(),
        mountpoint: "/new".into(),
        vfs_type: "tmpfs".to_string(),
        mount_options: vec!["defaults".to_string()],
        dump: false,
        fsck_order: 0,
    };
    table.add_entry(new).expect("added");
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
cat >fstab <<'FSTAB'
# The disks of this node.
UUID=01234567-89ab-cdef-0123-456789abcdef /srv ext4 defaults 0 2
tmpfs /scratch tmpfs size=64m
/srv/images /data/a\040b none bind 0 0
server:/volumes /volumes nfs ro,soft
FSTAB
cat >read.py <<'PY'
import pyfstab

try:
    for entry in pyfstab.Fstab().read_string(open("fstab").read()).entries:
        print(f"pyfstab: {entry.dir}")
except Exception as error:
    print(f"pyfstab: {type(error).__name__}")
PY
mounts() { findmnt --noheadings --raw --tab-file fstab --output TARGET | sed 's/\\x20/ /g'; }
seen="findmnt before: $(mounts | paste -sd,)
$(PYTHONPATH=py python3 read.py)
$(target/debug/add)
findmnt after: $(mounts | paste -sd,)
$(grep -c '^#' fstab || true) comments"
echo "$seen"
wanted=$(
    cat <<'SEEN'
findmnt before: /srv,/scratch,/data/a b,/volumes
pyfstab: InvalidFstabLine
crate: /srv
crate: /data/a\040b
findmnt after: /srv,/data/a b,/new
0 comments
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read or write the file otherwise"
