#!/usr/bin/env bash
# Behaviour: containerd's runc crate cannot read what runc says of a container: `state` and `list`
#   are errors for each one that there is, since they want the time of its creation as a number of
#   seconds, and `stats` is one, too, since it wants one number for the use of the processor.
# Versions: Rust crate runc 0.4.0; Debian runc 1.1.5+ds1-1+deb12u1, busybox-static
#   1:1.35.0-4+deb12u1+b1 (bookworm).
# Expected: the crate's documentation: "Return the state of a container", "Return the latest
#   statistics for a container", and that it is "for consuming the runc binary". runc writes the time
#   by RFC 3339 and the use of the processor as an object in each of its versions.
# Seen: state and list: invalid type: string "2026-12-01T15:30:24.097344966Z", expected i64; stats:
#   invalid type: map, expected u64; ps gives the one process
# Here: a shim that is made of this crate learns nothing of a container from runc. This project leaves
#   native containers to containerd's shim for runc, and asks that one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download runc=1.1.5+ds1-1+deb12u1 \
    busybox-static=1:1.35.0-4+deb12u1+b1
for package in *.deb; do dpkg -x "$package" debian; done
mkdir -p bundle/rootfs/bin app/src
cp debian/bin/busybox bundle/rootfs/bin/
runc=$dir/debian/usr/sbin/runc
"$runc" spec --bundle bundle
sed -i 's/"terminal": true/"terminal": false/; s#"sh"#"/bin/busybox", "sleep", "60"#' bundle/config.json
cat >app/Cargo.toml <<'TOML'
[package]
name = "state"
version = "0.0.0"
edition = "2021"

[dependencies]
runc = { version = "=0.4.0", default-features = false }
TOML
cat >app/src/main.rs <<'RS'
use runc::options::GlobalOpts;

fn tell<T: std::fmt::Debug>(what: &str, answer: Result<T, runc::error::Error>) {
    match answer {
        Ok(value) => println!("{what}: {value:?}"),
        Err(error) => println!("{what}: {error}"),
    }
}

/// Reads with the command and the root of the command line what there is of a container.
fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runc = GlobalOpts::new().command(&arguments[1]).root(&arguments[2]).build().unwrap();
    tell("ps", runc.ps(&arguments[3]).map(|processes| processes.len()));
    tell("state", runc.state(&arguments[3]));
    tell("list", runc.list());
    tell("stats", runc.stats(&arguments[3]));
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
name=findings-runc-$$
run() {
    "$runc" --root state "$@"
}
trap 'run delete --force "$name"; rm -rf "$dir"' EXIT
run run --detach --bundle bundle "$name" </dev/null >said 2>&1
created=$(run state "$name" | sed -n 's/.*"created": "\(.*\)",/\1/p')
run events --stats "$name" | grep -o '"cpu":{"usage":{[^}]*}'
said=$(target/debug/state "$runc" state "$name" | sed 's/ at line .*//')
echo "$said"
[[ $said == "ps: 1
state: invalid type: string \"$created\", expected i64
list: invalid type: string \"$created\", expected i64
stats: invalid type: map, expected u64" ]] || changed "it reads other things"
