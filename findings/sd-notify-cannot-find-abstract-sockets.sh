#!/usr/bin/env bash
# Behaviour: the sd-notify crate takes a NOTIFY_SOCKET that begins with `@` for a file of that
#   name: `notify` fails, and for a manager that listens on an abstract socket the service is
#   never ready.
# Versions: Rust crates sd-notify 0.5.0 and libc 0.2.191, PyPI sdnotify 0.3.2, Python 3.11.
# Expected: a socket without a file. sd_notify(3): "If the first character of $NOTIFY_SOCKET is
#   "@", the string is understood as Linux abstract namespace socket"; the Python package sends
#   so.
# Seen: a file: "READY=1" from both; @name: "READY=1" from sdnotify, "No such file or directory
#   (os error 2)" from sd-notify
# Here: the daemon told systemd by this crate that it is ready. systemd's own socket is a file;
#   under a manager with an abstract one the sign did not arrive, and a warning was all that was
#   left. It sends its state itself since (`runwasi-daemon/src/notify_socket.rs`).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py sdnotify==0.3.2
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "ready"
version = "0.0.0"
edition = "2021"

[dependencies]
libc = "=0.2.191"
sd-notify = "=0.5.0"
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        println!("{error}");
    }
}
RS
# The manager: starts the program with the socket, and prints the error or what arrives.
cat >manage.py <<'PY'
import os
import socket
import subprocess
import sys

name, *program = sys.argv[1:]
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind("\0" + name[1:] if name.startswith("@") else name)
server.settimeout(0.2)
run = dict(env=os.environ | {"NOTIFY_SOCKET": name}, stdout=subprocess.PIPE, text=True)
said = subprocess.run(program, check=True, **run).stdout.strip()
try:
    said += server.recv(4096).decode().strip()
except TimeoutError:
    said += ", nothing arrives"
print(said)
PY
cat >ready.py <<'PY'
import sdnotify

sdnotify.SystemdNotifier().notify("READY=1")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 PYTHONPATH=py
cargo build -q --manifest-path app/Cargo.toml

# arrives SOCKET WANT PROGRAM...: whether this comes of the program's notification.
arrives() {
    local got
    got=$(python3 manage.py "$1" "${@:3}")
    echo "${1/$dir/DIR} ${*:3}: $got"
    [[ $got == "$2" ]] || changed "$got"
}
arrives "$dir/1" READY=1 python3 ready.py
arrives "$dir/2" READY=1 target/debug/ready
arrives "@$dir/3" READY=1 python3 ready.py
arrives "@$dir/4" "No such file or directory (os error 2), nothing arrives" target/debug/ready
