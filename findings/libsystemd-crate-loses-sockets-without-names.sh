#!/usr/bin/env bash
# Behaviour: the libsystemd crate gives no socket at all by `receive_descriptors_with_names` if they
#   have no names, as under systemd-socket-activate, and no error. `escape_path` keeps the "." of a
#   path.
# Versions: Rust crate libsystemd 0.7.2; Debian systemd 252 (systemd-socket-activate, systemd-escape).
# Expected: sd_listen_fds(3), sd_listen_fds_with_names: a descriptor for which there is no name has the
#   name "unknown"; systemd-escape(1), --path, for which `escape_path` stands: the path is simplified.
# Seen: two sockets without names: `receive_descriptors` 2, with names 0; with the name web: 2 and 2;
#   /srv/./data: "srv-.-data", systemd-escape "srv-data"
# Here: a daemon that is tried under systemd-socket-activate has no socket with this crate, where it has
#   one under systemd. The daemon of this project opens its own.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    'libsystemd0=252*' libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do dpkg -x "$package" debian; done
lib=$dir/debian/usr/lib/x86_64-linux-gnu
libraries=$lib/systemd:$lib:$dir/debian/lib/x86_64-linux-gnu
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "listen"
version = "0.0.0"
edition = "2021"

[dependencies]
libsystemd = "=0.7.2"
TOML
cat >app/src/main.rs <<'RS'
use libsystemd::{activation, unit};

/// With an argument its escaped form, without one the numbers of sockets, without names and with.
fn main() {
    if let Some(path) = std::env::args().nth(1) {
        return println!("{}", unit::escape_path(&path));
    }
    let all = activation::receive_descriptors(false).unwrap().len();
    println!("{all} {}", activation::receive_descriptors_with_names(false).unwrap().len());
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
# sockets OPTION…: the numbers when the program is started by the first connection.
sockets() {
    rm -f one two
    LD_LIBRARY_PATH=$libraries debian/usr/bin/systemd-socket-activate "$@" target/debug/listen \
        >said 2>messages &
    until [[ -S one ]]; do sleep 0.1; done
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("one")'
    wait $!
    cat said
}
{
    echo "no names: $(sockets -l "$dir/two" -l "$dir/one")"
    echo "a name: $(sockets --fdname web -l "$dir/two" -l "$dir/one")"
    echo "crate: $(target/debug/listen /srv/./data)"
    echo "systemd-escape: $(LD_LIBRARY_PATH=$libraries debian/bin/systemd-escape --path /srv/./data)"
} | tee seen
cmp seen - <<'SEEN' || changed "other numbers"
no names: 2 0
a name: 2 2
crate: srv-.-data
systemd-escape: srv-data
SEEN
