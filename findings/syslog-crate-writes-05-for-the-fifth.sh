#!/usr/bin/env bash
# Behaviour: the syslog crate writes a message of the old format at 10:00 in Tokyo as of 01:00, since
#   it takes UTC for the local time on Unix, and the fifth of a month as "05", with a zero.
# Versions: Rust crate syslog 7.0.0; Debian libfaketime 0.9.10-2.1, util-linux 2.38 (logger).
# Expected: RFC 3164, section 4.1.2, TIMESTAMP: "the local time and is in the format of "Mmm dd
#   hh:mm:ss""; a day of one digit "MUST be represented as a space and then the number". logger does
#   so. The format has no zone by which a reader could know better.
# Seen: at 10:00 on the fifth of March in Tokyo: logger "Mar  5 10:00:00", the crate
#   "Mar 05 01:00:00"
# Here: a message of a program that logs so is found hours before containerd's on the same node, or
#   after them; rules of a collector that want the blank do not know its days.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download libfaketime=0.9.10-2.1
dpkg -x libfaketime*.deb debian
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "tell"
version = "0.0.0"
edition = "2021"

[dependencies]
syslog = "=7.0.0"
TOML
cat >app/src/main.rs <<'RS'
use syslog::{Facility, Formatter3164, LogFormat};

fn main() {
    let (hostname, process) = (Some("node1".to_string()), "app".to_string());
    let mut format = Formatter3164 { facility: Facility::LOG_USER, hostname, process, pid: 7 };
    format.notice(&mut std::io::stdout(), "started").unwrap();
    println!();
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
# Without the socket of a log daemon.
log=(logger --no-act --stderr --socket-errors=off --rfc3164 --tag app --id=7 --priority user.notice)
export TZ=Asia/Tokyo LD_PRELOAD=$dir/debian/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1
for time in "2026-03-05 10:00:00" "2026-03-25 23:30:00"; do
    export FAKETIME="$time"
    echo "logger: $("${log[@]}" started 2>&1)"
    echo "crate: $(target/debug/tell)"
done | sed "s/ $(hostname -s) / node1 /" | tee seen
cmp seen - <<'SEEN' || changed "other times"
logger: <13>Mar  5 10:00:00 node1 app[7]: started
crate: <13>Mar 05 01:00:00 node1 app[7]: started
logger: <13>Mar 25 23:30:00 node1 app[7]: started
crate: <13>Mar 25 14:30:00 node1 app[7]: started
SEEN
