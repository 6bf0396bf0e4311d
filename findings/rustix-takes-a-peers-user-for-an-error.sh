#!/usr/bin/env bash
# Behaviour: rustix's `socket_peercred` fails where the peer is outside of the caller's PID namespace,
#   and the number of its error is minus the peer's user: "Success" for root, "Unknown error -1000" for
#   user 1000. Its type has a pid that is never 0, and 0 is what the kernel says of such a peer.
# Versions: Rust crate rustix 1.1.6.
# Expected: user and group, which the kernel gives all the same, and no pid; or an error that says so.
# Seen: peers of users 0 and 1000: inside the namespace pid, user and group; outside Err with the code
#   0 and Err with the code -1000; Python there: pid 0, users 0 and 1000
# Here: `sys::socket_peer` asks by it for the process behind a socket, and takes any error for "none".
set -euo pipefail
dir=$(mktemp -d)
pid=
finish() {
    if [[ -n $pid ]]; then kill "$pid" && wait "$pid"; fi 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "peer"
version = "0.0.0"
edition = "2021"

[dependencies.rustix]
version = "=1.1.6"
features = ["net"]
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    let peer = std::os::unix::net::UnixStream::connect("socket").expect("connect");
    println!("{:?}", rustix::net::sockopt::socket_peercred(&peer));
}
RS
cat >peer.py <<'PY'
import socket
import struct

peer = socket.socket(socket.AF_UNIX)
peer.connect("socket")
print(struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
PY
# A server of the user that it is told, which accepts nobody.
cat >serve.py <<'PY'
import os
import socket
import sys
import time

server = socket.socket(socket.AF_UNIX)
server.bind("listening")
os.seteuid(int(sys.argv[1]))
server.listen()
os.seteuid(0)
os.rename("listening", "socket")
time.sleep(60)
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
for user in 0 1000; do
    rm -f socket
    python3 serve.py "$user" &
    pid=$!
    for _ in {1..100}; do
        if [[ -S socket ]]; then break; fi
        sleep 0.1
    done
    inside=$(target/debug/peer)
    outside=$(unshare --fork --pid target/debug/peer)
    python=$(unshare --fork --pid python3 peer.py)
    printf '%s\n' "user $user:" "  inside: $inside" "  outside: $outside" "  Python outside: $python"
    [[ $inside == "Ok(UCred { pid: Pid($pid), uid: Uid($user), gid: Gid(0) })" ]] ||
        changed "inside the namespace it says something else"
    [[ $outside == "Err(Os { code: $((-user)),"* ]] || changed "outside it says something else"
    [[ $python == "(0, $user, 0)" ]] || changed "the kernel says something else"
    kill "$pid"
    wait "$pid" || true
    pid=
done
